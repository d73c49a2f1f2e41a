"""The faults of `make mutants` still fit the package: what they replace and the tests that see them are there."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.mutants import ROOT, Fault, faults, repeated


@cache
def defined(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_fault_applies_exactly_once_and_leaves_python() -> None:
    for fault in faults():
        ast.parse(fault.apply((ROOT / "spanishgas" / fault.file).read_text("utf-8")))


def test_every_test_that_is_to_see_a_fault_is_there() -> None:
    named = {test for fault in faults() for test in fault.tests}
    lost = {
        test for test in named if test.split("::")[1].partition("[")[0] not in defined(test.split("::")[0])
    }
    assert lost == set()
    assert all(fault.tests for fault in faults())


def test_no_two_faults_are_the_same_and_there_are_sixty_at_least() -> None:
    assert repeated(fault.name for fault in faults()) == []
    assert repeated((fault.file, fault.old, fault.new) for fault in faults()) == []
    assert len(faults()) >= 60


def test_a_fault_whose_text_is_gone_or_stands_twice_is_an_error() -> None:
    fault = Fault(name="x", file="a.py", old="a", new="b", tests=("t",), wrong="")
    assert fault.apply("cat") == "cbt"
    for source in ("dog", "banana"):
        with pytest.raises(ValueError, match="'x' applies"):
            fault.apply(source)

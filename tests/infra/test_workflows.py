"""The workflows: actions by commit, no stored key, least rights, and scripts that are there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
SCRIPTS = sorted((PROJECT / "infra").glob("*.sh"))


def test_there_are_the_three_workflows() -> None:
    assert set(WORKFLOWS) == {"ci", "deploy", "retrain"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_and_say_which_version_that_is(file: Path) -> None:
    uses = re.findall(r"uses: (.*)", file.read_text())
    assert uses
    assert [u for u in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_and_only_jobs_of_an_environment_ask_for_an_identity(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for job in WORKFLOWS[name]["jobs"].values():
        rights = job.get("permissions", {})
        assert set(rights) <= {"actions", "contents", "id-token"}
        assert [right for right, kind in rights.items() if kind == "write"] in ([], ["id-token"])
        assert ("id-token" in rights) == ("environment" in job)
        assert job["timeout-minutes"] <= 360


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_workflow_holds_a_key_or_puts_what_a_person_typed_into_a_script(file: Path) -> None:
    text = file.read_text()
    assert "secrets." not in text
    assert not re.search(r"aws-access-key-id|AKIA", text)
    for job in WORKFLOWS[file.stem]["jobs"].values():
        for step in job["steps"]:
            assert "${{ inputs" not in step.get("run", "")
            assert "${{ github" not in step.get("run", "")


def test_a_tests_job_brings_the_python_that_it_asks_make_for() -> None:
    job = WORKFLOWS["ci"]["jobs"]["test"]
    (setup,) = [s for s in job["steps"] if s.get("uses", "").startswith("actions/setup-python@")]
    assert setup["with"]["python-version"] == "${{ matrix.python }}"
    runs = [s["run"] for s in job["steps"] if "run" in s]
    assert runs
    assert all("PYTHON=python${{ matrix.python }}" in run for run in runs)


def test_a_plan_is_applied_by_the_provider_that_made_it_and_is_never_shown_in_public() -> None:
    steps = WORKFLOWS["deploy"]["jobs"]["plan"]["steps"]
    (kept,) = [s["with"] for s in steps if "upload-artifact" in s.get("uses", "")]
    assert "infra/terraform/.terraform.lock.hcl" in kept["path"]
    assert kept["include-hidden-files"] is True
    assert steps[0]["if"] == "${{ !github.event.repository.private }}"
    assert steps[0]["run"].endswith("exit 1")


def test_what_is_applied_is_the_plan_that_was_shown_to_who_approves() -> None:
    plan, apply = WORKFLOWS["deploy"]["jobs"]["plan"], WORKFLOWS["deploy"]["jobs"]["apply"]
    assert apply["needs"] == "plan"
    assert plan["environment"] == "${{ inputs.environment }}-plan"
    assert apply["environment"] == "${{ inputs.environment }}"
    assert "show" in str(plan["steps"])
    assert "release.tfplan" in (PROJECT / "infra" / "terraform.sh").read_text().split("apply)")[1]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_sound_bash_that_stops_at_the_first_failure(script: Path) -> None:
    assert "set -euo pipefail" in script.read_text()
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def stubbed(folder: Path, script: str, *words: str, **answers: str) -> subprocess.CompletedProcess[str]:
    """Run a script with an `aws` that gives the next of an operation's answers, and the last one ever after."""
    for operation, given in answers.items():
        (folder / operation).write_text(given)
    aws = folder / "aws"
    aws.write_text(
        """#!/usr/bin/env bash
        left="${0%/*}/$2"; [ -f "$left" ] || exit 0
        head -1 "$left"; [ "$(wc -l < "$left")" = 1 ] || sed -i 1d "$left"
        """
    )
    aws.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "EVERY": "0"}
    command = ["bash", PROJECT / "infra" / script, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("ended", "outcome", "code"), [("SUCCEEDED", "not promoted", 0), ("FAILED", "failed", 1)]
)
def test_a_retraining_is_waited_for_and_reported(tmp_path: Path, ended: str, outcome: str, code: int) -> None:
    answers = {
        "start-execution": "arn:1\n",
        "describe-execution": f"RUNNING\nRUNNING\n{ended}\n",
        "get-item": f"{outcome}\n",
    }
    done = stubbed(tmp_path, "retrain.sh", "arn", "table", "github/1", **answers)
    assert (done.stdout, done.returncode) == (f"Retraining github/1: **{outcome}** (arn:1)\n", code)
    assert (tmp_path / "describe-execution").read_text() == f"{ended}\n"
    assert {"schedule", "workflow_dispatch"} == set(WORKFLOWS["retrain"][True])  # YAML reads `on` as a truth


@pytest.mark.parametrize("code", [0, 3])
def test_an_upgrade_that_fails_fails_the_release(tmp_path: Path, code: int) -> None:
    done = stubbed(tmp_path, "upgrade_database.sh", "spanishgas-dev", **{"describe-tasks": f"{code}\n"})
    assert done.returncode == min(code, 1)
    assert ("the upgrade ended with 3" in done.stderr) == (code == 3)


def test_every_push_is_checked_for_all_that_is_promised() -> None:
    steps = str(WORKFLOWS["ci"]["jobs"])
    promised = (
        "make lint",
        "make test",
        "--cov-report=xml",
        "terraform fmt -check",
        "terraform validate",
        "checkov ",
    )
    promised += ("docker build --target", "pip-audit ", "--format cyclonedx1.5")
    assert [words for words in promised if words not in steps] == []
    built = set(WORKFLOWS["ci"]["jobs"]["images"]["strategy"]["matrix"]["target"])
    assert built == {"project", "job", "serve", "tracking", "lambda"}
    assert {"push", "pull_request"} == set(WORKFLOWS["ci"][True])


def test_every_script_that_a_workflow_calls_is_there_and_none_is_idle() -> None:
    called = {name for file in FILES for name in re.findall(r"bash infra/(\S+\.sh)", file.read_text())}
    assert called == {script.name for script in SCRIPTS}


def test_every_name_that_a_workflow_gives_to_make_is_used_by_its_target() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    commands = [found for file in FILES for found in re.findall(r"run: make (\S+) (.*)", file.read_text())]
    assert ("test", "PYTEST") in {
        (target, name) for target, words in commands for name in re.findall(r"([A-Z]+)=", words)
    }
    for target, words in commands:
        recipe = makefile.split(f"\n{target}: ")[1].split("\n\n")[0]
        for name in set(re.findall(r"([A-Z]+)=", words)) - {
            "PYTHON"
        }:  # which every target's environment is built with
            assert f"$({name})" in recipe, (target, name)


def test_the_images_that_are_pushed_are_those_that_terraform_asks_for() -> None:
    asked = re.search(r"object\(\{ (job.*?) \}\)", (PROJECT / "infra/terraform/variables.tf").read_text())
    pushed = re.search(r"for target in (.*?);", (PROJECT / "infra/push_images.sh").read_text())
    assert asked is not None
    assert pushed is not None
    assert re.findall(r"(\w+) = string", asked[1]) == pushed[1].split()

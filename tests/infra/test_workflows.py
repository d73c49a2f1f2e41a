"""The workflows: actions by commit, no stored key, least rights, and scripts that are there."""

from __future__ import annotations

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

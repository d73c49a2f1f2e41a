"""The workflows: actions by commit, no stored key, least rights, and scripts that are there."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
SCRIPTS = sorted((PROJECT / "infra").glob("*.sh"))


def test_there_are_the_four_workflows() -> None:
    assert set(WORKFLOWS) == {"audit", "ci", "deploy", "retrain"}


def test_what_the_world_publishes_turns_no_change_red() -> None:
    assert "pip-audit" not in FILES[[f.stem for f in FILES].index("ci")].read_text()
    assert {"schedule", "workflow_dispatch"} == set(WORKFLOWS["audit"][True])
    assert "pip-audit --requirement" in str(WORKFLOWS["audit"])


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


def stubbed(
    folder: Path, script: str, *words: str, settings: Mapping[str, str] = MappingProxyType({}), **answers: str
) -> subprocess.CompletedProcess[str]:
    """Run a script with an `aws` that gives the next of an operation's answers, and the last one ever after.

    An answer that begins with ! is an error. `docker` only writes down what it is asked for.
    """
    for operation, given in answers.items():
        (folder / operation).write_text(given)
    aws = folder / "aws"
    aws.write_text(
        """#!/usr/bin/env bash
        left="${0%/*}/$2"; [ -f "$left" ] || exit 0
        line=$(head -1 "$left"); [ "$(wc -l < "$left")" = 1 ] || sed -i 1d "$left"
        if [[ $line == "!"* ]]; then echo "${line#!}" >&2; exit 254; fi
        echo "$line"
        """
    )
    docker = folder / "docker"
    docker.write_text('#!/usr/bin/env bash\necho "$*" >> "${0%/*}/docker-calls"\n')
    aws.chmod(0o755)
    docker.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "EVERY": "0", **settings}
    command = ["bash", PROJECT / "infra" / script, *words]
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


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


def test_a_look_at_a_retraining_that_fails_is_not_its_end(tmp_path: Path) -> None:
    looks = "RUNNING\n!Rate exceeded\nNone\n!Connection reset\nSUCCEEDED\n"
    answers = {"start-execution": "arn:1\n", "describe-execution": looks, "get-item": "succeeded\n"}
    done = stubbed(tmp_path, "retrain.sh", "arn", "table", "github/1", **answers)
    assert (done.stdout, done.returncode) == ("Retraining github/1: **succeeded** (arn:1)\n", 0)


def test_a_retraining_that_outlasts_the_job_has_not_failed(tmp_path: Path) -> None:
    answers = {"start-execution": "arn:1\n", "describe-execution": "RUNNING\n"}
    done = stubbed(
        tmp_path, "retrain.sh", "arn", "table", "github/1", settings={"WAIT_SECONDS": "0"}, **answers
    )
    assert done.stdout.startswith("Retraining github/1: **not ended** after 0 minutes (RUNNING)")
    assert done.returncode == 0


def test_the_wait_ends_before_the_job_and_the_job_before_its_session() -> None:
    job = WORKFLOWS["retrain"]["jobs"]["retrain"]
    (session,) = [s["with"]["role-duration-seconds"] for s in job["steps"] if "role-to" in str(s)]
    (wait,) = re.findall(r"WAIT_SECONDS:-(\d+)", (PROJECT / "infra/retrain.sh").read_text())
    deploy = (PROJECT / "infra/terraform/modules/deploy/main.tf").read_text()
    (longest,) = re.findall(r"max_session_duration = (\d+)", deploy)
    assert int(wait) < job["timeout-minutes"] * 60 < session <= int(longest)


REGISTRY = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/spanishgas-dev"
DOCKERS, OCIS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
ABSENT = (
    "!An error occurred (ImageNotFoundException) when calling the DescribeImages operation: no such tag\n"
)


def pushing(
    folder: Path, images: str, registry: str = REGISTRY
) -> tuple[subprocess.CompletedProcess[str], str]:
    """What push_images.sh did, and what it built."""
    out = folder / "output"
    done = stubbed(folder, "push_images.sh", registry, "abc", str(out), **{"describe-images": images})
    calls = folder / "docker-calls"
    return done, calls.read_text() if calls.exists() else ""


def test_what_is_not_there_is_built_with_the_manifest_that_sagemaker_takes(tmp_path: Path) -> None:
    done, built = pushing(tmp_path, ABSENT + f"sha256:1\t{DOCKERS}\n")
    assert done.returncode == 0, done.stderr
    assert built.count("buildx build") == 1  # the other three are there
    assert f"--output type=image,name={REGISTRY}/job:abc,push=true,oci-mediatypes=false" in built
    assert (tmp_path / "output").read_text().count("@sha256:1") == 4


def test_a_pushed_image_of_another_manifest_ends_the_release(tmp_path: Path) -> None:
    done, _ = pushing(tmp_path, f"sha256:1\t{OCIS}\n")
    assert done.returncode == 1
    assert f"job:abc is '{OCIS}'" in done.stderr
    assert not (tmp_path / "output").exists()


def test_a_registry_that_may_not_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    done, built = pushing(tmp_path, "!An error occurred (AccessDeniedException): not authorized\n")
    assert done.returncode != 0
    assert "AccessDeniedException" in done.stderr
    assert "build" not in built


def test_a_region_whose_database_authority_is_not_here_is_said_before_anything_is_built(
    tmp_path: Path,
) -> None:
    done, built = pushing(tmp_path, ABSENT, REGISTRY.replace("eu-west-1", "xx-north-9"))
    assert done.returncode == 1
    assert "has no authority of xx-north-9" in done.stderr
    assert built == ""


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
    promised += ("docker build --target", "--format cyclonedx1.5")
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

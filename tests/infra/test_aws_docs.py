"""What the pages on AWS say, held against the files that they speak of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import botocore.session
import pytest
import typer
from botocore import xform_name
from mlflow.projects.backend.loader import load_backend
from mlflow.projects.utils import load_project
from typer.core import TyperGroup

from spanishgas.aws.backend import BackendConfig
from spanishgas.cli import app
from tests.infra.terraform import ROOT, module

PROJECT = Path(__file__).resolve().parents[2]
GUIDE, SECURITY = ((PROJECT / "docs" / name).read_text() for name in ("aws.md", "security.md"))


def test_the_costs_add_up_and_are_called_an_estimate() -> None:
    rows = [
        [cell.strip("* ") for cell in line.strip("|").split("|")]
        for line in GUIDE.splitlines()
        if "|" in line
    ]
    costs = [(row[0], int(row[2]), int(row[3])) for row in rows if len(row) == 4 and row[2].isdigit()]
    *parts, (name, dev, prod) = costs
    assert (name, len(parts)) == ("together", 7)
    assert (sum(p[1] for p in parts), sum(p[2] for p in parts)) == (dev, prod)
    assert "An estimate for 20,099 customers" in GUIDE


def test_what_an_environment_switches_off_costs_nothing_there() -> None:
    off = "schedules_enabled = false" in (ROOT / "environments" / "dev.tfvars").read_text()
    assert off, "the costs of dev below are those without a clock"
    assert re.search(r"\| reconciling, in prod: .* \| 0 \| \d+ \|", GUIDE)
    hours = re.search(r"\| jobs: (\d+) hours of ml.m5.xlarge, in prod (\d+) ", GUIDE)
    each = re.search(r"(\d\.\d) instance-hours for each", " ".join(GUIDE.split()))
    assert hours is not None
    assert each is not None
    assert (float(hours[1]), float(hours[2])) == (2 * float(each[1]), 6 * float(each[1]))


def test_no_region_is_asked_for_in_a_way_that_one_of_them_refuses() -> None:
    """us-east-1 is no LocationConstraint; `aws s3 mb` knows that."""
    pages = [*(PROJECT / "docs").glob("*.md"), *(PROJECT / "infra").glob("*.sh")]
    assert [page.name for page in pages if "LocationConstraint" in page.read_text()] == []


@pytest.mark.parametrize("page", ["aws.md", "spark.md"])
def test_a_job_that_is_told_the_server_is_told_the_region(page: str) -> None:
    """Of AWS_REGION, which AWS sets by itself, boto3 knows nothing."""
    blocks = (PROJECT / "docs" / page).read_text().split("```")[1::2]
    jobs = [block for block in blocks if re.search(r"\$MLFLOW_TRACKING_URI", block)]
    assert [block for block in jobs if "AWS_DEFAULT_REGION" not in block] == []


@pytest.mark.parametrize("page", ["scoring.md", "aws.md", "spark.md"])
def test_a_build_that_is_pushed_asks_for_the_manifest_that_sagemaker_takes(page: str) -> None:
    text = (PROJECT / "docs" / page).read_text().replace("\\\n", " ")
    pushes = [line for line in text.splitlines() if re.search(r"docker (push|buildx build)", line)]
    assert [line for line in pushes if "oci-mediatypes=false" not in line] == []


def test_the_endpoints_that_are_paid_are_those_that_are_made() -> None:
    ((endpoints, zones),) = re.findall(r"interface endpoints, (\d+) in one zone, in prod in (\w+)", GUIDE)
    made = re.search(r"for_each += toset\((\[[^]]*\"sts\"\])\)", module("network").text)
    assert made is not None
    assert made[1].count('"') == 2 * int(endpoints)
    assert zones == "two"
    assert "endpoint_zones    = 2" in (ROOT / "environments" / "prod.tfvars").read_text()


def test_it_says_plainly_what_it_was_tested_against() -> None:
    assert "Never against AWS itself." in GUIDE


def test_every_output_and_task_that_the_guide_uses_is_there() -> None:
    outputs = set(re.findall(r"output -raw (\w+)", GUIDE))
    assert outputs
    assert outputs <= module().named("output").keys()
    assert '"${var.name}-tracking-${each.key}"' in module("tracking").text
    assert 'users = "users"' in module("tracking").text


def test_what_is_kept_is_kept_as_long_as_the_page_says() -> None:
    rules = {
        rule["id"]: rule for rule in module("storage").one("aws_s3_bucket_lifecycle_configuration")["rule"]
    }
    assert f"after {rules['bronze-to-infrequent-access']['transition'][0]['days']} days" in SECURITY
    assert f"| scored | {rules['scored-expires']['expiration'][0]['days']} days |" in SECURITY
    days = rules["old-versions-expire"]["noncurrent_version_expiration"][0]["noncurrent_days"]
    assert f"{days} days after they were replaced or deleted" in SECURITY


def test_the_guide_leads_to_nothing_that_would_be_committed() -> None:
    assert "*.account.tfvars" in (PROJECT / ".gitignore").read_text()


TOOLS = ("aws", "docker", "git", "mlflow", "spanishgas", "terraform")
STUB = """#!/usr/bin/env bash
printf -v call '%s\\x1f' "$PWD" "${0##*/}" "$@"
printf '%s\\x1e' "$call" >> "$CALLS" # in one write: two tools of a pipe write at once
case "$*" in
  *get-caller-identity*) echo 111122223333 ;;
  *describe-images*)
    printf 'sha256:%s\tapplication/vnd.docker.distribution.manifest.v2+json\n' "$(printf '1%.0s' $(seq 64))" ;;
  *describe-services*) echo '{}' ;;
  *"output -raw"*) echo "any-${*: -1}" ;;
  *rev-parse*) printf 'c%.0s' $(seq 40) ;;
esac
env > "${CALLS%/*}/environment"
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str, list[str]]]:
    """Folder, tool and words of each call: the guide's commands run in order, by tools that only write down."""
    root = tmp_path_factory.mktemp("guide")
    here, tools = root / "spanishgas", root / "bin"
    tools.mkdir()
    shutil.copytree(PROJECT / "infra", here / "infra")
    for name in TOOLS:
        (tools / name).write_text(STUB)
        (tools / name).chmod(0o755)
    blocks = [block for block in GUIDE.split("```")[1::2] if not block.startswith("\nraw/")]
    commands = [*blocks, *re.findall(r"`(aws [^`]+)`", GUIDE)]
    assert len(commands) == 14
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "CALLS": str(root / "calls"), "TMPDIR": str(root)}
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)], cwd=here, env=environment, check=True
    )
    assert re.search(
        r'(?m)^TF_VAR_images=\{("\w+":"[\w./-]+@sha256:1{64}",?){4}\}$', (root / "environment").read_text()
    )
    made = [call.split("\x1f")[:-1] for call in (root / "calls").read_text().split("\x1e")[:-1]]
    return [(Path(folder).relative_to(here), tool, words) for folder, tool, *words in made]


def words_of(calls: list[tuple[Path, str, list[str]]], tool: str) -> list[list[str]]:
    found = [words for _, name, words in calls if name == tool]
    assert found
    return found


def test_every_command_for_aws_is_an_operation_with_options_that_it_knows(
    calls: list[tuple[Path, str, list[str]]],
) -> None:
    session = botocore.session.get_session()
    around = {"--query", "--output", "--cli-binary-format", "--max-items"}
    for service, operation, *words in words_of(calls, "aws"):
        if (service, operation) in {
            ("s3", "cp"),
            ("s3", "rm"),
            ("s3", "mb"),
            ("logs", "tail"),
            ("ecr", "get-login-password"),
        }:
            continue  # the command line's own
        model = session.get_service_model(service.removesuffix("api"))
        known = {xform_name(name, "-"): name for name in model.operation_names}
        shape = model.operation_model(known[operation]).input_shape
        options = {f"--{xform_name(member, '-')}" for member in shape.members}
        given = {word for word in words if word.startswith("--")}
        assert given <= options | around, (service, operation)
        needed = {f"--{xform_name(member, '-')}" for member in shape.required_members}
        assert needed <= given, (service, operation)


def test_every_command_for_terraform_finds_its_folder_files_and_targets(
    calls: list[tuple[Path, str, list[str]]],
) -> None:
    assert {folder for folder, _, _ in calls} == {Path()}
    in_order = []
    for chdir, command, *words in words_of(calls, "terraform"):
        assert chdir == "-chdir=infra/terraform"
        in_order.append(command)
        for file in values(words, "-var-file="):
            assert (ROOT / file.replace("dev.account.tfvars", "account.tfvars.example")).exists(), file
        for _, name, *resource in (target.split(".") for target in values(words, "-target=")):
            assert name in module().named("module")
            assert not resource or tuple(resource) in {
                (type_, label) for type_, label, _ in module(name).typed()
            }
    assert in_order[:4] == ["init", "apply", "plan", "apply"]
    assert set(in_order[4:]) == {"output"}


def values(words: Sequence[str], option: str) -> list[str]:
    return [word.removeprefix(option) for word in words if word.startswith(option)]


def test_every_project_run_names_a_backend_an_entry_point_and_parameters_that_are_there(
    calls: list[tuple[Path, str, list[str]]],
) -> None:
    project = load_project(PROJECT)
    (config,) = {words[words.index("--backend-config") + 1] for words in words_of(calls, "mlflow")}
    assert f"/{config}" in (PROJECT / ".gitignore").read_text().splitlines()
    for words in words_of(calls, "mlflow"):
        assert load_backend(words[words.index("-b") + 1]) is not None
        point = project.get_entry_point(words[words.index("-e") + 1])
        given = {word.partition("=")[0] for before, word in pairwise(words) if before == "-P"}
        assert given <= point.parameters.keys()


def test_the_page_names_what_the_backends_file_takes() -> None:
    optional = {name for name, about in BackendConfig.model_fields.items() if not about.is_required()}
    written = set(module().named("output")["backend"]["value"])
    said = set(re.findall(r"`(\w+)`", GUIDE.partition("## Entry points as jobs")[2].partition("\n## ")[0]))
    assert optional - written <= said


def test_every_command_of_ours_is_a_verb_with_options_that_it_knows(
    calls: list[tuple[Path, str, list[str]]],
) -> None:
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    for verb, *words in words_of(calls, "spanishgas"):
        known = {word for option in verbs.commands[verb].params for word in option.opts}
        assert {word for word in words if word.startswith("--")} <= known

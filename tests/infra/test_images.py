"""What the Dockerfile promises, read from it: pinned bases, no root, nothing installed at the start."""

from __future__ import annotations

import re
import ssl
import tomllib
from pathlib import Path

import pytest

from infra import images

PROJECT = Path(__file__).resolve().parents[2]
TARGETS = ["project", "job", "serve", "tracking", "lambda"]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage, continued lines joined, comments left out; what it is made from comes first."""
    text = re.sub(r"(?m)^#.*\n", "", (PROJECT / "Dockerfile").read_text()).replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for line in filter(None, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [("FROM", base)]
        else:
            found[name].append((word, rest))
    return found


def inherited(name: str) -> list[tuple[str, str]]:
    """Instructions of a stage after those of the stages that it is made from."""
    (_, base), *own = stages()[name]
    return (inherited(base) if base in stages() else []) + own


def last(name: str, word: str) -> str:
    return [rest for found, rest in inherited(name) if found == word][-1]


def test_every_target_of_the_design_is_there_and_every_stage_is_used() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    assert set(TARGETS) <= stages().keys()
    for name in stages().keys() - {"", *TARGETS}:
        assert f"FROM {name} " in text or f"--from={name} " in text, name


def test_bases_are_arguments_with_a_version_so_that_a_deployment_can_pin_their_digests() -> None:
    arguments = dict(rest.split("=", 1) for word, rest in stages()[""] if word == "ARG")
    assert all(re.search(r"[:.]\d+\.\d+", value) for value in arguments.values()), arguments
    external = {base for (_, base), *_ in (stages()[n] for n in stages() if n) if base not in stages()}
    assert external == {"${PYTHON}", "${LAMBDA}"}
    assert arguments["UV"] in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_is_nobodys_root_except_where_sagemaker_needs_it(target: str) -> None:
    assert last(target, "USER") == ("0" if target == "job" else "10001")


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_installed_when_a_container_starts(target: str) -> None:
    starts = [rest for word, rest in inherited(target) if word in ("ENTRYPOINT", "CMD")]
    assert starts
    assert not re.search(r"\b(pip|uv|apt|conda|sh|bash)\b", " ".join(starts))
    assert all(rest.startswith("[") for rest in starts)  # no shell between the signal and the process


def test_dependencies_come_from_the_lock_alone() -> None:
    runs = [rest for name in stages() for word, rest in stages()[name] if word == "RUN"]
    for run in runs:
        if "uv sync" in run or "uv export" in run:
            assert "--locked" in run
        if "pip install" in run:
            assert "uv==${UV}" in run or "--require-hashes" in run
        if "apt-get install" in run:
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["dependency-groups"]
    assert {group for run in runs for group in re.findall(r"--only-group (\w+)", run)} <= groups.keys()


def test_nothing_is_added_by_an_address_without_a_checksum() -> None:
    for name in stages():
        for word, rest in stages()[name]:
            assert word != "ADD" or "--checksum=sha256:" in rest, rest
            assert "http://" not in rest, rest
            assert "https://" not in rest, rest


def test_the_databases_authorities_are_rdss_own_of_the_kind_that_terraform_asks_for() -> None:
    text = (PROJECT / "infra/tracking/rds.pem").read_text()
    (kind,) = re.findall(
        r'ca_cert_identifier += "rds-ca-(\w+)-g1"',
        (PROJECT / "infra/terraform/modules/database/main.tf").read_text(),
    )
    roots = ssl.create_default_context(cadata=text).get_ca_certs()
    assert len(roots) == text.count("BEGIN CERTIFICATE") > 20
    for root in roots:
        names = [value for part in root["subject"] for key, value in part if key == "commonName"]
        assert root["subject"] == root["issuer"]
        assert re.fullmatch(rf"Amazon RDS [a-z]+-[a-z]+-\d Root CA {kind.upper()} G1", names[0])
        assert int(str(root["notAfter"])[-8:-4]) > 2040


STUB = """#!/usr/bin/env bash
echo "${0##*/} $*" >> "${0%/*}/calls"
case "$*" in
  info) exit "$(cat "${0%/*}/${0##*/}-info")" ;;
  *inspect*) echo '{"OCIv1": {"config": {"Entrypoint": ["python", "-m", "spanishgas"]}}}' ;;
  *" --format "*Size*) echo 1GB ;;
  *where*) echo Usage ;;
esac
"""


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, *able: str) -> list[str]:
    """The calls of a build of `project` where the builders that are `able` can build; the others cannot."""
    for name in images.BUILDERS:
        (folder / name).write_text(STUB)
        (folder / name).chmod(0o755)
        (folder / f"{name}-info").write_text("0" if name in able else "1")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert images.main(["--only", "project", "PYTHON=mine"]) == (0 if able else 2)
    return (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("builder", images.BUILDERS)
def test_images_are_built_tried_and_weighed_by_the_builder_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], builder: str
) -> None:
    calls = [call for call in built(tmp_path, monkeypatch, builder) if not call.endswith("info")]
    assert {call.split()[0] for call in calls} == {builder}
    (build,) = [call for call in calls if call.split()[1] == "build"]
    assert ("--format docker" in build) == (builder != "docker")
    assert build.endswith("--build-arg PYTHON=mine --target project --tag spanishgas-project .")
    (run,) = [call for call in calls if call.split()[1] == "run"]
    assert run.endswith("where --help")
    assert "spanishgas-project     1GB" in capsys.readouterr().out


def test_without_a_builder_that_can_it_says_which_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built(tmp_path, monkeypatch)
    assert "none of docker, podman, buildah can build here" in capsys.readouterr().err


def test_every_target_is_started_by_a_smoke_test() -> None:
    assert list(images.SMOKES) == TARGETS


def test_no_image_holds_a_secret_or_more_than_it_is_told_to() -> None:
    for name in stages():
        for word, rest in stages()[name]:
            assert not re.search(r"(PASSWORD|SECRET|TOKEN|_KEY)=", rest), (word, rest)
            assert (word, rest.split()[0]) != ("COPY", ".")
    kept = (PROJECT / ".dockerignore").read_text().splitlines()
    assert kept[1] == "*"  # everything is left out but what follows


def test_what_is_copied_exists_and_is_let_through() -> None:
    kept = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in stages():
        for word, rest in stages()[name]:
            if word == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    assert list(PROJECT.glob(source)), source
                    assert any(source == k or source.startswith(f"{k}/") for k in kept), source

"""The documentation's site builds without a warning, reaches every page, and its reference is complete."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from spanishgas.cli import app
from spanishgas.config.experiment import Experiment, experiment_ids
from spanishgas.features import load_tiers
from spanishgas.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the documentation with its reference written."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(PROJECT / "docs", folder / "docs", ignore=shutil.ignore_patterns("reference"))
    shutil.copy(PROJECT / "mkdocs.yml", folder)
    subprocess.run([sys.executable, "docs/reference_pages.py"], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_a_broken_link_would_stop_it(site: Path) -> None:
    built = build(site)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (site / "site" / "reference" / "command-line" / "index.html").exists()
    with (site / "docs" / "index.md").open("a") as page:
        page.write("\n[lost](nowhere.md)\n")
    assert build(site).returncode != 0


def test_the_page_of_troubles_is_the_one_that_their_wording_gives(site: Path) -> None:
    name = "docs/troubleshooting.md"
    assert (site / name).read_text() == (PROJECT / name).read_text(), (
        "python docs/reference_pages.py writes it"
    )


def test_every_page_stands_in_the_navigation() -> None:
    def pages(part: object) -> set[str]:
        if isinstance(part, dict):
            part = list(part.values())
        return {part} if isinstance(part, str) else {p for inner in list(part) for p in pages(inner)}  # type: ignore[call-overload]

    nav = pages(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"])
    written = {p.relative_to(PROJECT / "docs").as_posix() for p in (PROJECT / "docs").rglob("*.md")}
    assert {p for p in written if not p.startswith("reference/")} == {
        p for p in nav if not p.startswith("reference/")
    }


def test_the_reference_names_every_verb_option_setting_and_feature(site: Path) -> None:
    pages = {page.stem: page.read_text() for page in (site / "docs" / "reference").glob("*.md")}
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        section = pages["command-line"].split(f"## {name}\n")[1].split("\n## ")[0]
        assert all(
            option.opts[0] in section or str(option.name) in section
            for option in command.params
            if option.name != "help"
        ), name
    assert all(f"SPANISHGAS_{name.upper()}" in pages["settings"] for name in Settings.model_fields)
    assert all(f"`{name}`" in pages["data-dictionary"] for name in load_tiers().features())
    assert "min_recall" in pages["experiments"]
    assert str(PROJECT) not in "".join(pages.values())


def test_the_experiment_that_a_page_shows_can_be_run() -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", (PROJECT / "docs" / "extend.md").read_text(), re.DOTALL)
    experiment = Experiment.model_validate(yaml.safe_load(shown))
    assert experiment.below in experiment_ids()
    assert set(experiment.without) & set(load_tiers().features(experiment.tiers)) == set(experiment.without)


def test_every_test_that_the_security_page_names_is_there() -> None:
    page = (PROJECT / "docs" / "security.md").read_text()
    there = "\n".join(file.read_text() for file in (PROJECT / "tests").glob("*/test_*.py"))
    named = set(re.findall(r"\btest_\w+\b(?!\.py)", page)) - set(re.findall(r"\b(test_\w+)\.py", page))
    assert len(named) > 40
    assert {name for name in named if f"def {name}(" not in there} == set()
    files = set(re.findall(r"tests/[\w/]+\.py", page))
    assert {file for file in files if not (PROJECT / file).exists()} == set()

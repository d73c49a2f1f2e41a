"""What a user installs and runs by name: environment, entry points, licence, nothing of one machine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer
from mlflow.projects._project_spec import EntryPoint, load_project
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from typer.core import TyperGroup

from spanishgas.cli import app
from spanishgas.monitoring.alerts import Alerting
from spanishgas.scoring.settings import Serving, Transform
from spanishgas.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
ENTRY_POINTS: dict[str, dict[str, Any]] = {
    "main": {"customers": 10000, "trials": 8, "lake": "lake", "seed": 7},
    "simulate": {
        "customers": 10000,
        "out": "auto",
        "seed": 7,
        "as_of": "2024-12-31",
        "labelled": "true",
        "shift": "none",
    },
    "uplift": {"lake": "lake", "trials": 25, "seed": 7},
    "etl": {"raw": "auto", "lake": "lake", "as_of": "auto", "engine": "duckdb", "mapping": "auto"},
    "sniff": {"raw": None, "preset": "auto"},
    "experiment": {
        "id": "E5",
        "model": "xgboost",
        "trials": 25,
        "lake": "lake",
        "seed": 7,
        "study": "auto",
        "workers": 1,
        "patience": 0,
    },
    "ladder": {
        "ids": "auto",
        "models": "auto",
        "trials": 8,
        "lake": "lake",
        "seed": 7,
        "workers": 1,
    },
    "backtest": {
        "from": None,
        "to": None,
        "every": "1M",
        "policy": "auto",
        "lake": "lake",
        "out": "backtest",
        "trials": 8,
        "override": "",
    },
    "evaluate": {"run": "auto", "lake": "lake"},
    "promote": {"version": "challenger", "reason": None, "model": "churn"},
    "approve": {"version": "challenger", "reason": None, "model": "churn"},
    "rollback": {"reason": None, "lake": "lake", "model": "churn"},
    "reconcile": {"lake": "lake"},
    "score": {"alias": "champion", "lake": "lake", "backend": "local"},
    "drift": {"current": "auto", "alias": "champion", "lake": "lake"},
    "outcomes": {"labels": "auto", "as_of": "auto", "lake": "lake"},
    "retrain": {"lake": "lake", "trials": 8},
    "recalibrate": {"lake": "lake"},
}


OF_OFFERS = ("promote", "approve", "rollback")


def handed(name: str, parameter: str, value: str) -> list[str]:
    """The words by which an entry point hands a value over: mostly under its own name."""
    if (name, parameter) == ("approve", "version"):
        return [value]
    return [f"--{value}"] if name in OF_OFFERS and parameter == "model" else [f"--{parameter}", value]


def entry_point(name: str) -> EntryPoint:
    return load_project(PROJECT).get_entry_point(name)


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def test_conda_yaml_is_what_the_lock_says() -> None:
    done = subprocess.run(
        [sys.executable, PROJECT / ".ci" / "conda_yaml.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_mlflow_reads_conda_yaml_as_pinned_requirements_of_a_supported_python(
    pyproject: dict[str, Any],
) -> None:
    environment = _PythonEnv.from_conda_yaml(PROJECT / "conda.yaml")
    requirements = [Requirement(line) for line in environment.dependencies]

    assert environment.python in SpecifierSet(pyproject["project"]["requires-python"])
    assert [str(r) for r in requirements if not re.fullmatch(r"==[^*]+", str(r.specifier))] == []
    wanted = {Requirement(line).name for line in pyproject["project"]["dependencies"]}
    assert wanted <= {requirement.name for requirement in requirements}


def test_mlproject_names_the_designs_entry_points_and_no_other() -> None:
    project = load_project(PROJECT)

    assert project.env_config_path == str(PROJECT / "conda.yaml")
    assert set(project._entry_points) == set(ENTRY_POINTS)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_takes_the_designs_parameters_and_defaults(name: str) -> None:
    parameters = entry_point(name).parameters

    assert {key: parameter.default for key, parameter in parameters.items()} == ENTRY_POINTS[name]
    # path and uri are checked and rewritten by MLflow: a lake that is yet to be made would be refused.
    assert {parameter.type for parameter in parameters.values()} <= {"int", "string"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_a_command_hands_each_value_over_unchanged_under_its_own_name(name: str) -> None:
    given = {key: f"a 'b' $c {key}" for key in ENTRY_POINTS[name]}

    words = shlex.split(entry_point(name).compute_command(given, storage_dir=None))

    assert words == [
        "python",
        "-m",
        "spanishgas",
        name,
        *(w for k, v in given.items() for w in handed(name, k, v)),
    ]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_verb_of_an_entry_point_takes_the_same_options_with_the_same_defaults(name: str) -> None:
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    options = verbs.commands[name].params
    defaults = {word.strip("-"): option.default for option in options for word in option.opts}
    defaults |= {word: ",".join(value) for word, value in defaults.items() if isinstance(value, list)}

    # The lake's default is a setting, so it may differ where the tests run.
    given = {key: str(value) for key, value in ENTRY_POINTS[name].items() if key != "lake"}
    if name in OF_OFFERS:  # a switch, whose values are its names
        defaults["model"] = "offers" if defaults["offers"] else "churn"
    assert {word: str(defaults.get(word)) for word in given} == given
    assert ("lake" in defaults) or ("lake" not in ENTRY_POINTS[name])


@pytest.mark.parametrize("model", ["churn", "offers"])
@pytest.mark.parametrize("name", OF_OFFERS)
def test_a_move_of_either_model_is_what_entry_point_and_verb_call_alike(name: str, model: str) -> None:
    values = {"version": "3", "reason": "a b", "model": model, "lake": "x"}
    known = {key: value for key, value in values.items() if key in ENTRY_POINTS[name]}
    command = entry_point(name).compute_command(known, storage_dir=None)
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    typed = ["--reason", "a b", *(["--offers"] if model == "offers" else [])]
    for words in (shlex.split(command)[4:], typed):
        read = verbs.commands[name].make_context(name, words).params
        assert (read["offers"], read["reason"]) == (model == "offers", "a b")


def test_python_311_to_313_are_supported(pyproject: dict[str, Any]) -> None:
    supported = SpecifierSet(pyproject["project"]["requires-python"])

    assert [minor for minor in range(9, 16) if f"3.{minor}.0" in supported] == [11, 12, 13]


def test_mlflows_uv_sync_installs_from_pyproject_and_lock_alone(pyproject: dict[str, Any]) -> None:
    # It copies these two files into an empty folder and runs `uv sync --no-dev` there.
    assert "readme" not in pyproject["project"]
    assert "license-files" not in pyproject["project"]
    assert pyproject["tool"]["hatch"]["build"]["dev-mode-dirs"] == ["."]
    assert "default-groups" not in pyproject["tool"].get("uv", {})


def test_its_types_are_there_for_who_imports_it(pyproject: dict[str, Any]) -> None:
    assert "Typing :: Typed" in pyproject["project"]["classifiers"]
    assert (PROJECT / "spanishgas" / "py.typed").is_file()


def test_the_licence_is_the_one_that_the_metadata_names(pyproject: dict[str, Any]) -> None:
    text = (PROJECT / "LICENSE").read_text()

    assert pyproject["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_env_example_shows_every_setting_and_sets_none() -> None:
    lines = (PROJECT / ".env.example").read_text().splitlines()
    shown = {name for line in lines for name in re.findall(r"^# ([A-Z_0-9]+)=", line)}
    own = {
        "SPANISHGAS_MODEL_DIR" if name == "model_dir" else f"{kind.model_config['env_prefix']}{name.upper()}"
        for kind in (Settings, Serving, Transform, Alerting)
        for name in kind.model_fields
    }

    assert {name for name in shown if name.startswith("SPANISHGAS_")} == own
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("outside git nobody can tell which files belong to the project")
    machine = re.compile(rb"(?<![\w.}])/(?:root|home|work|Users)/")
    files = [PROJECT / name for name in listed.stdout.split("\0") if name]
    found = [
        str(file.relative_to(PROJECT))
        for file in files
        if file.is_file() and machine.search(file.read_bytes())
    ]

    assert found == []


def test_the_sagemaker_sdk_brings_mlflow_no_plugin_and_holds_nobody_back() -> None:
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution("sagemaker-mlflow")
    (plugin,) = metadata.entry_points(group="mlflow.project_backend")
    assert (plugin.name, plugin.value) == ("sagemaker", "spanishgas.aws.backend:SageMakerBackend")
    newest = {"rich": 15, "protobuf": 7, "importlib-metadata": 9}
    assert {name: int(metadata.version(name).partition(".")[0]) for name in newest} == newest


@pytest.mark.slow
def test_the_sagemaker_sdk_imports_whole_beside_mlflow_without_a_word() -> None:
    code = "import mlflow, sagemaker.core, sagemaker.train, sagemaker.serve, sagemaker.mlops"
    environment = {**os.environ, "AWS_DEFAULT_REGION": "eu-west-1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

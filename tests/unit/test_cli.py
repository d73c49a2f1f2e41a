"""The command line: a failure that the user can mend is an exit code and a message, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from unittest.mock import patch

import duckdb
import pandas as pd
import pytest

from spanishgas import cli
from spanishgas.lake import RAW_FILES, Lake
from tests.gold_frames import gold_frame, publish_gold
from tests.raw_builder import write_raw
from tests.tracked import empty_store

DAY = date(2024, 12, 31)


@dataclass(frozen=True)
class Ended:
    """What a call of the command line left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(tracking: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """`spanishgas.cli.run` with the given words, in this process and a work folder of its own."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["spanishgas", *words])
        capfd.readouterr()
        with patch.dict(os.environ), pytest.raises(SystemExit) as ended:
            cli.run()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    return run


def process(folder: Path, *words: str, **environment: str) -> Ended:
    """The command line as a process of its own, as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "spanishgas", *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def says(ended: Ended, code: int, *parts: str) -> None:
    """One message on stderr that holds `parts`, the exit code, and nothing on stdout."""
    assert ended.code == code
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert all(part in ended.err for part in parts), ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_an_unknown_experiment_is_named_with_the_known_ones(call: Call) -> None:
    says(call("experiment", "--id", "E55"), 2, "unknown experiment 'E55'", "E0, E1", "Did you mean 'E5'?")


def test_an_unknown_model_is_named_with_the_known_ones(call: Call) -> None:
    ended = call("experiment", "--model", "xgbost")
    says(ended, 2, "unknown model 'xgbost'", "Did you mean 'xgboost'?")


@pytest.mark.parametrize("verb", ["experiment", "ladder", "main", "retrain"])
def test_negative_trials_are_refused(call: Call, verb: str) -> None:
    ended = call(verb, "--trials", "-3")
    assert (ended.code, ended.out) == (2, "")
    assert "--trials" in ended.err
    assert "Traceback" not in ended.err


def test_a_refused_number_is_echoed(call: Call) -> None:
    assert "-3" in call("experiment", "--trials", "-3").err


@pytest.mark.parametrize("words", [["--ids", "E0,E99"], ["--models", "xgboost,catboost"]])
def test_a_ladder_names_the_unknown_step(call: Call, words: list[str]) -> None:
    says(call("ladder", *words), 2, words[1].split(",")[1])


def test_a_raw_folder_that_is_missing_is_named(call: Call, tmp_path: Path) -> None:
    ended = call("etl", "--raw", "nowhere", "--lake", "lake")
    assert ended.code in (1, 2)
    says(ended, ended.code, "nowhere")
    assert not (tmp_path / "lake").exists()


def test_a_lake_without_an_extract_says_what_to_run(call: Call) -> None:
    says(call("etl", "--lake", "lake"), 2, "lake/raw holds no extract", "spanishgas simulate")


def test_a_raw_file_that_is_missing_is_named_and_nothing_is_written(call: Call, tmp_path: Path) -> None:
    raw = Lake("lake").raw(DAY)
    raw.mkdir(parents=True)
    (raw / RAW_FILES["churn_label"]).write_text("customer_id,churn\n")
    ended = call("etl", "--lake", "lake")
    assert ended.code == 1
    assert ended.err.startswith("error: ")
    assert "customer_attributes.csv" in ended.err
    assert "Traceback" not in ended.err
    assert not list((tmp_path / "lake").rglob("*.parquet"))


def test_a_date_that_is_none_is_echoed(call: Call) -> None:
    says(call("simulate", "--as_of", "2024-13-01"), 2, "--as_of", "'2024-13-01'")


def test_labelled_is_true_or_false(call: Call) -> None:
    says(call("simulate", "--labelled", "perhaps"), 2, "--labelled", "'perhaps'")


def test_an_unknown_table_is_named_with_a_suggestion(call: Call) -> None:
    says(call("where", "gold_mastre"), 2, "unknown table 'gold_mastre'", "Did you mean 'gold_master'?")


def test_a_table_that_was_not_built_yet_is_a_failure_of_the_data(call: Call) -> None:
    says(call("where", "scores", "--lake", "lake"), 1, "lake holds no scores")


def test_an_experiment_without_gold_says_what_to_run(call: Call) -> None:
    says(call("experiment", "--lake", "lake"), 2, "no labelled gold table", "spanishgas etl")


@pytest.mark.parametrize(
    "words", [["score"], ["drift"], ["promote", "--reason", "r"], ["rollback", "--reason", "r"]]
)
def test_a_verb_that_needs_a_version_says_that_there_is_none(call: Call, words: list[str]) -> None:
    says(call(*words), 1, "no ", "promote" if words[0] != "promote" else "spanishgas evaluate")


def test_evaluate_without_an_experiment_says_what_to_run(call: Call) -> None:
    publish_gold(Lake("lake"), gold_frame(50), DAY)
    says(call("evaluate", "--lake", "lake"), 1, "no finished experiment", "spanishgas ladder")


def test_a_run_that_does_not_exist_is_named(call: Call) -> None:
    says(
        call("evaluate", "--run", "0123456789abcdef0123456789abcdef", "--lake", "lake"), 1, "0123456789abcdef"
    )


def test_an_unknown_backend_is_named(call: Call) -> None:
    says(call("score", "--backend", "cloud"), 2, "unknown backend 'cloud'")


def test_a_verb_that_does_not_exist_is_refused(call: Call) -> None:
    ended = call("scoer")
    assert ended.code == 2
    assert "scoer" in ended.err
    assert "Traceback" not in ended.err


def test_a_dashboard_without_its_extra_says_what_to_install(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    says(call("dashboard"), 1, "uv sync --extra dashboard")


def test_where_prints_the_place_and_nothing_else(call: Call) -> None:
    snapshot = publish_gold(Lake("lake"), gold_frame(10), DAY)
    ended = call("where", "gold_master", "--lake", "lake")
    assert (ended.code, ended.out, ended.err) == (0, f"{snapshot.uri}\n", "")


def test_where_knows_the_raw_files_of_the_newest_extract(call: Call, tmp_path: Path) -> None:
    raw = Lake("lake").raw(DAY)
    raw.mkdir(parents=True)
    (raw / "churn_label.csv").write_bytes(b"")
    ended = call("where", "price_history", "--lake", "lake")
    assert ended.out == f"{tmp_path / 'lake/raw/2024-12-31/price_history.csv'}\n"


def test_where_prints_the_raw_file_that_is_there(call: Call, tmp_path: Path) -> None:
    raw = Lake("lake").raw(DAY)
    raw.mkdir(parents=True)
    (raw / "price_history.csv.gz").write_bytes(b"")
    ended = call("where", "price_history", "--lake", "lake")
    assert ended.out == f"{tmp_path / 'lake/raw/2024-12-31/price_history.csv.gz'}\n"


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_one_message(tmp_path: Path) -> None:
    uri = "http://127.0.0.1:9"
    ended = process(tmp_path, "score", MLFLOW_TRACKING_URI=uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    says(ended, 1, uri, "cannot be reached", "MLFLOW_TRACKING_URI")


@pytest.mark.parametrize("words", [["--debug", "where", "nope"], ["where", "nope", "--debug"]])
def test_debug_anywhere_on_the_line_shows_the_traceback(tmp_path: Path, words: list[str]) -> None:
    ended = process(tmp_path, *words)
    assert ended.code != 0
    assert "Traceback (most recent call last)" in ended.err
    assert "unknown table 'nope'" in ended.err


@pytest.mark.parametrize("folder", ["lake", "my lake", "50 % of it #1", "año+as%20typed"])
def test_what_where_prints_is_opened_by_every_tool(call: Call, tmp_path: Path, folder: str) -> None:
    publish_gold(Lake(tmp_path / folder), gold_frame(10), DAY)
    printed = call("where", "gold_master", "--lake", folder).out.removesuffix("\n")
    assert Path(printed).is_absolute()
    parts = list(Path(printed).glob("*.parquet"))
    assert len(parts) == 1
    assert subprocess.run(["ls", printed], capture_output=True, text=True).stdout.split() == [
        "_manifest.json",
        parts[0].name,
    ]
    assert len(duckdb.read_parquet(f"{printed}/*.parquet")) == 10
    assert len(pd.read_parquet(printed)) == 10


def test_prune_lists_places_as_where_prints_them(call: Call, tmp_path: Path) -> None:
    lake = Lake("lake")
    old, _ = (
        lake.publish(
            "scores",
            DAY,
            lambda folder, value=value: pd.DataFrame({"p": [value]}).to_parquet(folder / "part-0.parquet"),
            built_from={},
            fingerprint="f",
            code={},
        )
        for value in (0.1, 0.2)
    )
    listed = call("prune", "--keep", "1", "--days", "0", "--lake", "lake").out.splitlines()
    assert listed[0] == old.uri == str(tmp_path / "lake" / old.key)


HEAVY = {
    *("numpy", "pandas", "pyarrow", "pyarrow.dataset", "ibis", "duckdb", "mlflow", "sqlalchemy", "boto3"),
    *("sklearn", "scipy.stats", "xgboost", "skops", "optuna", "evidently", "matplotlib", "mapie", "plotly"),
    *("jinja2", "spanishgas.features", "spanishgas.pipeline", "spanishgas.training.model"),
}
"""Modules that cost, beside those that each verb has to have."""
SERVED = {"mlflow", "sqlalchemy", "numpy", "pandas", "pyarrow", "pyarrow.dataset", "jinja2"}
"""What MLflow imports by itself, and a lineage walk to hash tables."""
PROGRAM = """
import json, sys
from spanishgas import cli
done = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["spanishgas", *words]
    try:
        cli.run()
    except SystemExit as end:
        done[" ".join(words)] = [end.code or 0, list(sys.modules)]
open("done.json", "w").write(json.dumps(done))
"""


def heavy(folder: Path, *calls: list[str]) -> dict[str, tuple[int, set[str]]]:
    """Of calls in turn, in a process of their own: the exit code, and what of `HEAVY` is imported by then."""
    subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"},
        stdout=subprocess.DEVNULL,
        timeout=300,
        check=True,
    )
    done = json.loads((folder / "done.json").read_text())
    return {words: (code, HEAVY.intersection(modules)) for words, (code, modules) in done.items()}


def test_help_imports_nothing_that_costs(tmp_path: Path) -> None:
    verbs = [
        command.callback.__name__.replace("_", "-")
        for command in cli.app.registered_commands
        if command.callback
    ]
    assert len(verbs) > 20
    found = heavy(tmp_path, ["--help"], *([verb, "--help"] for verb in verbs))
    assert {words: all_ for words, all_ in found.items() if all_ != (0, set())} == {}


def test_where_and_template_import_no_more_than_they_read_or_write(tmp_path: Path) -> None:
    publish_gold(Lake(tmp_path / "lake"), gold_frame(10), DAY)
    write_raw(tmp_path / "lake" / "raw" / "2024-12-31")
    table, raw, template = heavy(
        tmp_path, ["where", "gold_master"], ["where", "price_history"], ["template", "mine"]
    ).values()
    assert table == (0, set())
    assert raw == (0, {"numpy", "pyarrow"})
    assert template == (0, {"numpy", "pyarrow"})


def test_validate_imports_no_more_than_its_checks_run_on(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw")
    ((code, found),) = heavy(tmp_path, ["validate", "--raw", "raw"]).values()
    assert (code, found) == (0, {"numpy", "pandas", "pyarrow", "pyarrow.dataset", "ibis", "duckdb"})


def test_sniff_imports_what_it_reads_with_and_prints_a_mapping_that_write_puts_beside_the_files(
    tmp_path: Path,
) -> None:
    write_raw(tmp_path / "raw")
    ((code, found),) = heavy(tmp_path, ["sniff", "--raw", "raw", "--write"]).values()
    assert (code, found) == (0, {"numpy", "pandas", "pyarrow", "pyarrow.dataset", "ibis", "duckdb"})
    assert "Proposed by `spanishgas sniff`" in (tmp_path / "raw" / "mapping.yaml").read_text()


def test_verbs_that_train_nothing_import_no_more_than_mlflow_does(tmp_path: Path) -> None:
    empty_store(tmp_path)
    publish_gold(Lake(tmp_path / "lake"), gold_frame(10), DAY)
    calls = [
        *(["history"], ["monitor"], ["prune"], ["lineage", "gold"], ["erase", "C00001"]),
        *(["promote", "--reason", "r"], ["approve", "--reason", "r"], ["rollback", "--reason", "r"]),
        ["doctor"],
    ]
    found = heavy(tmp_path, *calls)
    assert {words: more - SERVED for words, (_, more) in found.items() if more - SERVED} == {}
    assert [code for code, _ in found.values()][:5] == [0] * 5

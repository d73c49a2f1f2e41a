"""The pipeline on the whole stack: raw files uploaded, everything after that by what runs on AWS too."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.lake import Lake
from spanishgas.lifecycle import runs
from spanishgas.settings import PROJECT, settings
from spanishgas.simulate.extract import write_extract
from tests.cheap_experiments import cheap_search, lenient
from tests.infra.conftest import ended, passed
from tests.stack import SERVER, Stack, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
MODEL = "spanishgas-churn"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    experiments = cheap_search(tmp_path_factory.mktemp("policy") / "experiments")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch, running(trials=1) as up:
        # Inherited by the jobs: 600 customers and one trial reach no 0.70 and no calibration, and what the gate judges
        # is not this test's subject.
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(lenient(experiments)))
        for name, value in up.settings().items():
            patch.setenv(name, value)
        settings.cache_clear()
        mlflow.set_tracking_uri(up.tracking_uri)
        yield up
    settings.cache_clear()
    mlflow.set_tracking_uri(before)


def _upload(stack: Stack, raw: Path, as_of: str) -> str:
    """Put the files of an extract, then let the function see them; ARN of the execution."""
    for file in sorted(raw.iterdir()):
        boto3.client("s3").upload_file(str(file), stack.account.bucket, f"raw/{as_of}/{file.name}")
    name = stack.take_uploads()[f"raw/{as_of}/"]
    return f"{stack.account.machine.replace(':stateMachine:', ':execution:')}:{name}"


def test_make_stack_prints_what_to_export_serves_and_ends_with_all_its_data() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stack"], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        said = ""
        while "Ctrl-C" not in said and (line := run.stdout.readline()):
            said += line
        given = dict(re.findall(r"(?m)^export (\w+)=(.*)$", said))
        listing = f"{given['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
        user = given["MLFLOW_TRACKING_USERNAME"], given["MLFLOW_TRACKING_PASSWORD"]
        assert requests.get(listing, timeout=30).status_code == 401
        assert requests.get(listing, auth=user, timeout=30).status_code == 200
        bucket = given["SPANISHGAS_LAKE"].removeprefix("s3://")
        assert requests.head(f"{given['AWS_ENDPOINT_URL']}/{bucket}", timeout=30).ok
        (folder,) = re.findall(r"Logs of the jobs and the server: (.*)", said)
        assert (Path(folder) / "tracking.log").exists()
        run.send_signal(signal.SIGTERM)
        assert "The stack is gone" in run.stdout.read()
    assert run.returncode == 0
    assert not Path(folder).exists()
    for address in (listing, given["AWS_ENDPOINT_URL"]):
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=5)


def test_an_upload_becomes_a_champion_scores_and_a_drift_report(stack: Stack, tmp_path: Path) -> None:
    """The replaced system's end-to-end tests ran on a schema that did not exist, with a dummy classifier."""
    write_extract(tmp_path / "raw", customers=600, seed=7, as_of=date(2024, 12, 31), labelled=True)
    execution = _upload(stack, tmp_path / "raw", "2024-12-31")
    done = ended(execution, seconds=1500)
    assert done["status"] == "SUCCEEDED", (stack.folder / "jobs.log").read_text()[-4000:]
    assert passed(execution)[-1] == "Succeeded", (
        MlflowClient().get_model_version(MODEL, "1").tags["gate.words"]
    )
    assert MlflowClient().get_registered_model(MODEL).aliases["champion"] == "1"
    scores = Lake(f"s3://{stack.account.bucket}").current("scores")
    assert scores.manifest.rows == 600
    jobs = boto3.client("sagemaker").list_transform_jobs()["TransformJobSummaries"]
    assert [job["TransformJobStatus"] for job in jobs] == ["Completed"]
    assert stack.account.row("latest")["run"].startswith("raw/2024-12-31/")
    assert stack.take_uploads() == {}

    # Artefacts went through the server: clients hold no path into the bucket.
    artefacts = boto3.client("s3").list_objects_v2(Bucket="artefacts")["Contents"]
    assert [o for o in artefacts if o["Key"].endswith("model.skops")]
    log = (stack.folder / "jobs.log").read_text()
    assert "s3://artefacts" not in log
    assert stack.user["password"] not in log
    assert stack.user["password"] not in (stack.folder / "tracking.log").read_text()


def test_a_later_upload_with_other_prices_is_scored_and_the_alarm_is_mailed(
    stack: Stack, tmp_path: Path
) -> None:
    write_extract(
        tmp_path / "raw", customers=600, seed=7, as_of=date(2025, 3, 31), labelled=False, shift="prices"
    )
    (tmp_path / "raw" / "_unlabelled").touch()
    stack.account.messages()
    execution = _upload(stack, tmp_path / "raw", "2025-03-31")
    done = ended(execution, seconds=1500)
    assert done["status"] == "SUCCEEDED", (stack.folder / "jobs.log").read_text()[-4000:]
    assert "Train" not in passed(execution)
    scores = Lake(f"s3://{stack.account.bucket}").current("scores").manifest
    assert scores.as_of == date(2025, 3, 31)
    ((subject, text),) = stack.account.messages()
    assert subject == "SpanishGas: the customers have drifted"
    assert "raw/2025-03-31/" in text
    assert stack.account.row("latest")["run"].startswith("raw/2025-03-31/")
    windows = runs.find({"stage": "drift", "as_of": "2025-03-31"})
    assert [run.data.metrics["drift.alarm"] for run in windows] == [1.0]


def test_an_upload_that_cannot_be_built_is_written_down_and_told(stack: Stack, tmp_path: Path) -> None:
    write_extract(tmp_path / "raw", customers=50, seed=7, as_of=date(2025, 6, 30), labelled=True)
    (tmp_path / "raw" / "customer_contracts.csv").write_text("customer_id\n")
    stack.account.messages()
    execution = _upload(stack, tmp_path / "raw", "2025-06-30")
    done = ended(execution, seconds=600)
    assert done["status"] == "FAILED"
    row = stack.account.row(json.loads(done["input"])["id"])
    assert row["status"] == "failed"
    ((subject, text),) = stack.account.messages()
    assert subject == "SpanishGas: a run failed"
    assert "customer_contracts" in row["failure"]
    assert "customer_contracts" in text


def test_nobody_reads_the_server_without_a_login(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(MlflowException, match=r"401|[Uu]nauthorized|not authenticated"):
        MlflowClient().search_experiments()


def test_the_servers_script_keeps_the_password_out_of_its_address() -> None:
    source = SERVER.read_text()
    assert re.search(r"postgresql\+psycopg://\{quote\(user\['username'\]\)\}@", source)
    assert SERVER.is_relative_to(PROJECT / "infra")

"""`mlflow run -b sagemaker` from the command line, on jobs that really run, beside the same verbs here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import boto3
import mlflow
import pytest
from mlflow.tracking import MlflowClient

from infra.verify_aws import verify_backend
from spanishgas.lake import Lake
from spanishgas.settings import PROJECT, settings
from spanishgas.simulate.extract import write_extract
from tests import aws_stand_in
from tests.cheap_experiments import cheap_search
from tests.infra.conftest import Jobs
from tests.processing_double import ProcessingDouble, processing_double
from tests.tracking_server import await_health

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FILES = ("spanishgas", "MLproject", "conda.yaml", "pyproject.toml", "uv.lock", "Dockerfile")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    words += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        await_health(process, port, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


class Place:
    """A work tree of the project, its bucket, its tracking server, and the jobs."""

    def __init__(self, root: Path, double: ProcessingDouble, uri: str) -> None:
        self.root, self.double, self.uri, self.tree = root, double, uri, root / "project"
        shutil.copytree(
            PROJECT / "spanishgas", self.tree / "spanishgas", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in FILES[1:]:
            shutil.copy(PROJECT / name, self.tree / name)
        cheap_search(self.tree / "experiments")
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "any"]):
            who = ["-c", "user.name=any", "-c", "user.email=any@example.com"]
            subprocess.run(["git", *who, *words], cwd=self.tree, check=True)
        config = {
            "image": "job:1",
            "role": aws_stand_in.ROLE,
            "lake": "s3://lake",
            "code": "s3://lake/code/commits",
        }
        (root / "backend.json").write_text(json.dumps({**config, "poll_seconds": 0.2}))

    def start(self, entry_point: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mlflow", "run", ".", "-b", "sagemaker"]
        command += ["--backend-config", str(self.root / "backend.json"), "-e", entry_point, *words]
        return subprocess.Popen(
            command, cwd=self.tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "MLFLOW_TRACKING_URI": self.uri},
        )  # fmt: skip

    def ran(self, entry_point: str, *words: str) -> str:
        process = self.start(entry_point, *words)
        said, _ = process.communicate(timeout=900)
        assert process.returncode == 0, said
        return said


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("backend")
    before = mlflow.get_tracking_uri()
    with (
        pytest.MonkeyPatch.context() as patch,
        aws_stand_in.running(Jobs()),
        processing_double(root / "jobs", patch) as double,
        server(root) as uri,
    ):
        boto3.client("s3").create_bucket(
            Bucket="lake", CreateBucketConfiguration={"LocationConstraint": aws_stand_in.REGION}
        )
        double.own = {"SPANISHGAS_CACHE": str(root / "cache")}
        mlflow.set_tracking_uri(uri)
        settings.cache_clear()
        yield Place(root, double, uri)
    mlflow.set_tracking_uri(before)
    settings.cache_clear()


def test_tables_and_search_are_those_of_this_machine_to_the_last_bit(place: Place) -> None:
    raw = place.root / "raw"
    write_extract(raw, customers=300, seed=7, as_of=date(2024, 12, 31), labelled=True)
    for file in sorted(raw.iterdir()):
        boto3.client("s3").upload_file(str(file), "lake", f"raw/2024-12-31/{file.name}")
    said = place.ran("etl", "-P", "raw=s3://lake/raw/2024-12-31")
    assert ": Completed" in said
    search = ["-P", "id=E0", "-P", "model=logistic", "-P", "trials=1"]
    place.ran("experiment", *search)

    here = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{place.root}/here.db"}
    for words in (
        ["etl", "--raw", str(raw)],
        ["experiment", "--id", "E0", "--model", "logistic", "--trials", "1"],
    ):
        verb = [sys.executable, "-m", "spanishgas", *words, "--lake", str(place.root / "lake")]
        subprocess.run(verb, cwd=place.tree, env={**here, "PYTHONPATH": str(place.tree)}, check=True)
    ours, theirs = Lake(place.root / "lake"), Lake("s3://lake")
    for table in ("bronze_customer", "silver_customer_month", "gold_master"):
        assert theirs.current(table).manifest.digest == ours.current(table).manifest.digest

    def newest(uri: str, stage: str) -> mlflow.entities.Run:
        client = MlflowClient(uri)
        every = [e.experiment_id for e in client.search_experiments()]
        return client.search_runs(every, f"tags.stage = '{stage}'", max_results=1)[0]

    there, local = newest(place.uri, "experiment"), newest(here["MLFLOW_TRACKING_URI"], "experiment")
    measured = [{k: v for k, v in run.data.metrics.items() if k.startswith("cv.")} for run in (there, local)]
    assert measured[0]
    assert measured[0] == measured[1]
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=place.tree, capture_output=True, text=True, check=True
    )
    assert there.data.tags["code.commit"] == head.stdout.strip()
    assert there.data.tags["code.dirty"] == "false"
    assert there.data.tags["mlflow.project.backend"] == "sagemaker"
    assert there.info.status == "FINISHED"


def test_the_script_for_a_real_account_finds_nothing_amiss_here(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    verify_backend(place.root / "backend.json", place.tree)
    assert capfd.readouterr().out.count("\nok  ") >= 3


def test_a_verb_that_refuses_ends_the_command_with_its_words(place: Place) -> None:
    process = place.start("promote", "-P", "version=99", "-P", "reason=any")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "AlgorithmError: , exit code: " in said
    assert "error: " in said
    assert "Traceback" not in said


def test_ctrl_c_stops_the_job_whose_verb_ends_as_by_ctrl_c(place: Place) -> None:
    before = set(place.double.jobs)
    process = place.start("simulate", "-P", "customers=200000", "-P", "out=s3://lake/raw/2020-12-31")
    while not (fresh := set(place.double.jobs) - before):
        time.sleep(0.1)
    (name,) = fresh
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "was told to stop" in said
    assert place.double.jobs[name]["ProcessingJobStatus"] == "Stopped"


@pytest.mark.parametrize(
    "entry_point",
    ["drift", "evaluate", "ladder", "main", "outcomes", "reconcile", "retrain", "rollback", "score"],
)
def test_every_entry_point_reaches_its_verb(place: Place, entry_point: str) -> None:
    """What the verb then says, of a lake without a champion or gold, is the verb's own."""
    more = {"rollback": ["-P", "reason=any"], "main": ["-P", "customers=0"]}
    words = more.get(entry_point, [])
    place.start(entry_point, "-P", "lake=s3://empty", *words).communicate(timeout=300)
    (job,) = [job for name, job in place.double.jobs.items() if name.startswith(f"spanishgas-{entry_point}-")]
    assert job["AppSpecification"]["ContainerArguments"][0] == entry_point
    assert job["ProcessingJobStatus"] in ("Completed", "Failed")
    assert (job.get("ExitMessage") or "").strip()
    assert "No such option" not in job["ExitMessage"]

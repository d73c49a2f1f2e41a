"""Versions and runs in a second store: another SQLite file, and a server as a team runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.errors import DataError, TrackingError, UsageError
from spanishgas.lifecycle import promotion, registry, runs, transfer
from spanishgas.settings import settings
from tests import tracking_server
from tests.tracked import empty_store, forget
from tests.tracking_server import ADMIN, PASSWORD
from tests.versions import logged_version, made_up_record


@pytest.fixture
def version(tracking: Path) -> str:
    """A version that passed, on the run of its experiment, which has a trial below it."""
    with runs.stage("experiment", "E5", tags={"experiment": "E5"}) as run:
        run.log(series={"cv.fold.average_precision": [0.7, 0.8]})
        with runs.stage("trial", "trial 1"):
            pass
    (tracking / "bytes" / "code").mkdir(parents=True)
    (tracking / "bytes" / "MLmodel").write_text("flavors: {}\n")
    (tracking / "bytes" / "code" / "model.py").write_text("pass\n")
    record = made_up_record().model_copy(update={"of_run": run.run_id})
    return logged_version(tracking / "bytes", record)


@pytest.fixture
def other(tmp_path: Path) -> str:
    folder = tmp_path / "other"
    folder.mkdir()
    return empty_store(folder)


def told(run: Run) -> dict[str, object]:
    """What a run says, without ids and places."""
    tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.") or k in transfer.KEPT}
    tags = {k: v for k, v in tags.items() if k not in (transfer.ORIGINAL, "process")}
    times = run.info.start_time, run.info.end_time
    inputs = [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs]
    return {
        "values": (run.data.params, run.data.metrics, tags),
        "times": times,
        "inputs": inputs,
        "name": run.info.run_name,
    }


def copies() -> list[Run]:
    return runs.find({})


def is_the_version(number: str, original: str, to: str) -> None:
    """The version there has the bytes, the verdict and the values of the original here, and may be promoted."""
    before, here = registry.resolve(original), mlflow.get_tracking_uri()
    run, files = MlflowClient().get_run(before.run_id), before.record.manifest.files
    (model,) = MlflowClient().get_run(before.run_id).outputs.model_outputs
    metrics = {
        m.key: (m.value, m.dataset_digest) for m in MlflowClient().get_logged_model(model.model_id).metrics
    }
    mlflow.set_tracking_uri(to)
    try:
        after = registry.resolve(number)
        copied = MlflowClient().get_run(after.run_id)
        assert after.digest == before.digest
        assert (after.record, after.verdict) == (before.record, before.verdict)
        assert after.checked().record.manifest.files == files
        assert after.entity.description == "as judged"
        assert told(copied) == told(run)
        (there,) = copied.outputs.model_outputs
        logged = MlflowClient().get_logged_model(there.model_id)
        assert {m.key: (m.value, m.dataset_digest) for m in logged.metrics} == metrics
        assert promotion.promote(number, "from the other store").number == number
    finally:
        mlflow.set_tracking_uri(here)


def test_a_version_goes_to_another_store_once_with_its_bytes_and_verdict(version: str, other: str) -> None:
    answers = [CliRunner().invoke(app, ["transfer", version, "--to", other]) for _ in range(2)]
    assert [a.exception for a in answers] == [None, None]
    assert all("version 1 there, gate passed: holdout.average_precision is 0.75" in a.output for a in answers)
    is_the_version("1", version, other)
    mlflow.set_tracking_uri(other)
    assert registry.numbers() == {"1"}
    stages = [run.data.tags["stage"] for run in copies() if transfer.ORIGINAL in run.data.tags]
    assert sorted(stages) == ["evaluate", "experiment"]


def test_history_goes_along_with_trials_below_their_experiments(version: str, other: str) -> None:
    before = {run.info.run_id: run for run in copies()}
    assert [transfer.transfer_history(other) for _ in range(2)] == [3, 3]
    mlflow.set_tracking_uri(other)
    after = {run.data.tags[transfer.ORIGINAL]: run for run in copies()}
    assert {i: told(run) for i, run in after.items()} == {i: told(run) for i, run in before.items()}
    (trial,) = [run for run in after.values() if run.data.tags["stage"] == "trial"]
    assert (
        trial.data.tags[runs.PARENT]
        == after[before[trial.data.tags[transfer.ORIGINAL]].data.tags[runs.PARENT]].info.run_id
    )
    (experiment,) = [run for run in after.values() if run.data.tags["stage"] == "experiment"]
    steps = MlflowClient().get_metric_history(experiment.info.run_id, "cv.fold.average_precision")
    assert [(m.step, m.value) for m in steps] == [(0, 0.7), (1, 0.8)]


@pytest.mark.parametrize("step", ["log_outputs", "set_terminated", "update_model_version"])
def test_a_transfer_that_was_cut_short_is_completed_by_the_next(
    version: str, other: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        """What a kill is in this process."""

    def cut(act: Callable[..., object]) -> Callable[..., object]:
        def after(*words: object, **named: object) -> object:
            act(*words, **named)
            raise Cut

        return after

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, cut(getattr(MlflowClient, step)))
        with pytest.raises(Cut):
            transfer.transfer(version, other)
    monkeypatch.setattr("spanishgas.provenance.is_gone", lambda process: True)
    transfer.transfer(version, other)
    is_the_version("1", version, other)
    mlflow.set_tracking_uri(other)
    assert registry.numbers() == {"1"}
    assert runs.find({}, finished=False)
    assert not MlflowClient().search_runs([runs.experiment_id()], "attributes.status = 'RUNNING'")


def test_what_is_not_what_was_judged_stays_here(version: str, other: str) -> None:
    for file in Path("mlruns").rglob("artifacts/code/model.py"):
        file.write_text("import os\n")
    with pytest.raises(DataError, match="is not what was judged"):
        transfer.transfer(version, other)
    mlflow.set_tracking_uri(other)
    assert registry.versions() == []


def test_bytes_that_change_on_the_way_are_told(
    version: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MlflowClient.log_model_artifacts

    def changed(client: MlflowClient, model_id: str, folder: str) -> None:
        Path(folder, "MLmodel").write_text("other: {}\n")
        whole(client, model_id, folder)

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", changed)
    with pytest.raises(DataError, match="is not what was judged: MLmodel"):
        transfer.transfer(version, other)


def test_a_version_that_was_rolled_back_and_a_store_onto_itself_are_refused(
    version: str, other: str, tracking: Path
) -> None:
    for same in (mlflow.get_tracking_uri(), "sqlite:///mlflow.db"):
        with pytest.raises(UsageError, match="name another one"):
            transfer.transfer(version, same)
    promotion.promote(logged_version(tracking / "bytes"), "first")
    promotion.promote(version, "second")
    promotion.rollback("complaints")
    with pytest.raises(TrackingError, match=r"was rolled back \(complaints\)"):
        transfer.transfer(version, other)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_local_version_goes_to_a_server_and_is_promoted_there(
    version: str,
    tmp_path: Path,
    postgres_url: str,
    bucket: str,
    s3_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"USERNAME": ADMIN, "PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    with tracking_server.running(tmp_path, postgres_url, bucket, s3_server) as server:
        assert transfer.transfer_history(server) == 3
        assert transfer.transfer(version, server).number == "1"
        assert transfer.transfer(version, server).number == "1"
        is_the_version("1", version, server)
        keys = [o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket=bucket)["Contents"]]
        assert any(key.endswith("artifacts/code/model.py") for key in keys)


@pytest.mark.parametrize("key", ["", "a" * 64])
def test_mlflows_own_copy_to_another_model_keeps_bytes_and_verdict_but_no_signature(
    tracking: Path, version: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, client = settings().registered_model, MlflowClient()
    with monkeypatch.context() as patch:
        patch.setenv("SPANISHGAS_SEALING_KEY", key)
        forget()
        sealed = logged_version(tracking / "bytes")
        assert registry.resolve(sealed).fault is None
        client.copy_model_version(f"models:/{name}/{sealed}", "a-copy")
        patch.setenv("SPANISHGAS_REGISTERED_MODEL", "a-copy")
        forget()
        copy = registry.resolve("1").checked() if not key else registry.resolve("1")
        assert copy.fault is None if not key else "is not signed" in str(copy.fault)
    forget()

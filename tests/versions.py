"""Registered versions for tests of what happens to them: with a verdict, but without a model unless one is given."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput, LoggedModelStatus
from mlflow.tracking import MlflowClient

from spanishgas.config.policy import Judgement, load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.lake import local_path
from spanishgas.lifecycle import registry, runs, seal
from spanishgas.lifecycle.records import Check, ExperimentRecord, JudgedVersion, Verdict, VersionRecord
from spanishgas.lifecycle.version import DIGEST, JUDGED, PASSED, REFUSED, VERDICT, WORDS
from spanishgas.settings import settings

NOTHING = "flavors: {}\n"
"""What the artefact of a version without a model holds, as MLmodel."""


def made_up_record(gold: str = "", as_of: date = date(2024, 12, 31), experiment: str = "E5") -> VersionRecord:
    """How a version was made from the table with the digest `gold`, by the policy of today."""
    policy = load_policy().part(Judgement)
    chosen = ExperimentRecord(
        experiment=experiment,
        model=XGBOOST,
        params={},
        trial=0,
        kinds={},
        fold_scores=[0.75],
        repeats=1,
        seed=7,
        gold=gold,
        holdout=policy.holdout,
        as_of=as_of,
    )
    manifest = seal.SealManifest(
        files={}, signature="", policy="", code="", gold=gold, customers="", holdout=""
    )
    return VersionRecord(of_run="", chosen=chosen, policy=policy, opening=1, manifest=manifest)


def add_version(
    value: float = 0.75, source: str = "", record: VersionRecord | None = None, **tags: str
) -> str:
    """A version whose run holds a verdict on an average precision of `value`, against 0.70; gives its number."""
    check = Check(
        name="holdout.average_precision",
        value=value,
        limit=0.70,
        interval=None,
        passed=value >= 0.70,
        way_out="train on more",
    )
    verdict = Verdict(checks=[check], waivers=[])
    made = record or made_up_record()
    with mlflow.start_run(experiment_id=runs.experiment_id(), nested=True) as run:
        if not source:
            mlflow.log_text(NOTHING, "model/MLmodel")
        files = seal.files(local_path(source)) if source else {"MLmodel": seal_of(NOTHING)}
        manifest = made.manifest.model_copy(update={"files": files})
        judged = {
            "verdict": verdict.model_dump(mode="json"),
            "metrics": {check.name: value},
            "record": made.model_copy(update={"manifest": manifest}).model_dump(mode="json"),
        }
        mlflow.log_dict(seal.signed(judged, settings().registered_model), JUDGED)
    given = {
        VERDICT: PASSED if verdict.passed else REFUSED,
        WORDS: verdict.words,
        DIGEST: seal.digest(judged),
    }
    version = MlflowClient().create_model_version(
        settings().registered_model,
        source or f"{run.info.artifact_uri}/model",
        run_id=run.info.run_id,
        tags=given | tags,
    )
    return str(version.version)


def logged_version(folder: Path, record: VersionRecord | None = None) -> str:
    """A version as evaluate leaves it: `folder` as the bytes of its run's logged model, with a metric on a table."""
    client, home = MlflowClient(), runs.experiment_id()
    with mlflow.start_run(
        experiment_id=home, tags={"stage": "evaluate", "mlflow.note.content": "a card"}
    ) as run:
        model = client.create_logged_model(home, "churn-E5-xgboost", run.info.run_id, params={"seed": "7"})
        client.log_model_artifacts(model.model_id, str(folder))
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        gold = Dataset("gold_master", "0" * 16, "lake", "{}")
        client.log_inputs(run.info.run_id, [DatasetInput(gold)])
        metrics = {"holdout.average_precision": 0.75, "cv.average_precision": 0.74}
        mlflow.log_metrics(metrics, model_id=model.model_id, dataset=gold)
        mlflow.log_params({"experiment": "E5"})
        made = record or made_up_record()
        manifest = made.manifest.model_copy(update={"files": seal.files(folder)})
        check = Check(
            name="holdout.average_precision", value=0.75, limit=0.7, interval=None, passed=True, way_out=""
        )
        verdict = Verdict(checks=[check], waivers=[])
        judged = JudgedVersion(
            verdict=verdict, metrics=metrics, record=made.model_copy(update={"manifest": manifest})
        ).model_dump(mode="json")
        mlflow.log_dict(seal.signed(judged, settings().registered_model), JUDGED)
    tags = {VERDICT: PASSED, WORDS: verdict.words, DIGEST: seal.digest(judged), "experiment": "E5"}
    return registry.add_version(f"models:/{model.model_id}", tags, "as judged").number


def seal_of(text: str) -> str:
    """SHA-256 of a text's bytes."""
    return hashlib.sha256(text.encode()).hexdigest()

"""Registered versions for tests of what happens to them: with a verdict, but without a model unless one is given."""

from __future__ import annotations

import hashlib
from datetime import date

import mlflow
from mlflow.tracking import MlflowClient

from spanishgas.config.policy import Judgement, load_policy
from spanishgas.config.search import ModelKind
from spanishgas.lake import local_path
from spanishgas.lifecycle import runs, seal
from spanishgas.lifecycle.records import Check, ExperimentRecord, Verdict, VersionRecord
from spanishgas.lifecycle.version import DIGEST, JUDGED, PASSED, REFUSED, VERDICT, WORDS
from spanishgas.settings import settings

NOTHING = "flavors: {}\n"
"""What the artefact of a version without a model holds, as MLmodel."""


def made_up_record(gold: str = "", as_of: date = date(2024, 12, 31), experiment: str = "E5") -> VersionRecord:
    """How a version was made from the table with the digest `gold`, by the policy of today."""
    policy = load_policy().part(Judgement)
    chosen = ExperimentRecord(
        experiment=experiment,
        model=ModelKind.XGBOOST,
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


def seal_of(text: str) -> str:
    """SHA-256 of a text's bytes."""
    return hashlib.sha256(text.encode()).hexdigest()

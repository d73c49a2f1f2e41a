"""Registered versions for tests of what happens to them: with a verdict, but without a model."""

from __future__ import annotations

from datetime import date

import mlflow
from mlflow.tracking import MlflowClient

from spanishgas.config.policy import Judgement, load_policy
from spanishgas.config.search import ModelKind
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.gate import Check, Verdict
from spanishgas.lifecycle.records import ExperimentRecord, VersionRecord
from spanishgas.lifecycle.version import DIGEST, JUDGED, PASSED, REFUSED, VERDICT, WORDS, sealed
from spanishgas.settings import settings


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
    return VersionRecord(of_run="", chosen=chosen, policy=policy)


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
    data = verdict.model_dump(mode="json")
    made = (record or made_up_record()).model_dump(mode="json")
    with mlflow.start_run(experiment_id=runs.experiment_id(), nested=True) as run:
        mlflow.log_dict({"verdict": data, "metrics": {check.name: value}, "record": made}, JUDGED)
    given = {VERDICT: PASSED if verdict.passed else REFUSED, WORDS: verdict.words, DIGEST: sealed(data, made)}
    version = MlflowClient().create_model_version(
        settings().registered_model,
        source or run.info.artifact_uri,
        run_id=run.info.run_id,
        tags=given | tags,
    )
    return str(version.version)

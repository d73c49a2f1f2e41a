"""Registered versions for tests of what happens to them: with a verdict, but without a model."""

from __future__ import annotations

import mlflow
from mlflow.tracking import MlflowClient

from spanishgas.lifecycle import runs
from spanishgas.lifecycle.gate import Check, Verdict
from spanishgas.lifecycle.standing import DIGEST, PASSED, REFUSED, VERDICT, WORDS, digest_of
from spanishgas.settings import settings


def add_version(value: float = 0.75, source: str = "", **tags: str) -> str:
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
    with mlflow.start_run(experiment_id=runs.experiment_id(), nested=True) as run:
        mlflow.log_dict({"verdict": data, "metrics": {check.name: value}}, "verdict.json")
    given = {VERDICT: PASSED if verdict.passed else REFUSED, WORDS: verdict.words, DIGEST: digest_of(data)}
    version = MlflowClient().create_model_version(
        settings().registered_model,
        source or run.info.artifact_uri,
        run_id=run.info.run_id,
        tags=given | tags,
    )
    return str(version.version)

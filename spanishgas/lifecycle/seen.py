"""Which customers a version learned from: its probabilities of them are too sure of themselves."""

from __future__ import annotations

from mlflow.entities.model_registry import ModelVersion

from spanishgas.config.policy import load_policy
from spanishgas.lake import Lake
from spanishgas.training.matrix import in_holdout


def trained_on(version: ModelVersion, lake: Lake) -> set[str]:
    """Ids of the customers on the training side of the version's own table; LakeError where that table is gone."""
    trained = lake.at(version.tags.get("data.digest", ""), "gold_master").pandas(["customer_id", "churn"])
    ids = trained["customer_id"][trained["churn"].notna()]
    return set(ids[~in_holdout(ids, load_policy().holdout)])

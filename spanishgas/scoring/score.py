"""Scoring: whatever `champion` points to gives every customer of the newest gold table a probability, flag and tier."""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

from spanishgas import code
from spanishgas.contracts import check_pandas
from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Loaded
from spanishgas.settings import settings
from spanishgas.training.experiment import load_policy
from spanishgas.training.matrix import in_holdout
from spanishgas.training.model import FLAG, PROBABILITY, TIER


class Backend(StrEnum):
    """Where scoring runs."""

    LOCAL = "local"

    @classmethod
    def of(cls, name: str) -> Backend:
        """The backend called `name`, or a UsageError that lists them."""
        try:
            return cls(name)
        except ValueError:
            raise UsageError.unknown("backend", name, list(cls)) from None


def score(alias: str, *, lake: Lake, backend: str = Backend.LOCAL) -> Snapshot:
    """Publish the scores of every customer of the newest gold table; unchanged inputs leave them as they are."""
    Backend.of(backend)
    version = registry.resolve(alias)
    gold = lake.current("gold_master")
    fingerprint = code.fingerprint("score", gold.manifest.digest, version.version, version.run_id, _sources())
    found = lake.find("scores", gold.manifest.as_of)
    if found and found.manifest.fingerprint == fingerprint:
        return found
    title = f"score {gold.manifest.rows:,} customers with version {version.version}"
    with runs.stage(
        "score", title, params={"alias": alias, "backend": backend, "version": version.version}
    ) as run:
        run.read(gold, "scoring")
        frame = scores(registry.load(str(version.version)), gold, lake)
        check_pandas("scores", frame)
        published = lake.publish(
            "scores",
            gold.manifest.as_of,
            lambda folder: frame.to_parquet(folder / "part-0.parquet", index=False),
            built_from={
                "gold_master": gold.manifest.digest,
                settings().registered_model: str(version.version),
            },
            fingerprint=fingerprint,
            code=code.identity(*_PARTS),
            run_id=run.run_id,
        )
        tiers = frame[TIER].value_counts()
        run.log(
            metrics={f"score.{str(tier).lower()}": float(count) for tier, count in tiers.items()}
            | {"score.rows": len(frame), "score.flagged": float(frame[FLAG].sum())},
            tags={"scores": published.uri, "scores.digest": published.manifest.digest},
        )
    return published


_PARTS = ("scoring", "training")


def _sources() -> str:
    return code.digest(*_PARTS)


def scores(champion: Loaded, gold: Snapshot, lake: Lake) -> pd.DataFrame:
    """The scores table, a row per customer of `gold` in its order.

    expected_monthly_loss is P(churn) times the positive part of the average monthly margin, in EUR; in_training says
    that the customer was on the training side of the model's own table.
    """
    rows = gold.pandas()
    trained = lake.at(champion.version.tags["data.digest"], "gold_master").pandas(["customer_id", "churn"])
    trained = trained[trained["churn"].notna()]
    trained_ids = trained["customer_id"][~in_holdout(trained["customer_id"], load_policy().holdout)]
    predicted = champion.model.predict(rows)
    return pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            PROBABILITY: predicted[PROBABILITY],
            FLAG: predicted[FLAG],
            TIER: predicted[TIER],
            "expected_monthly_loss": predicted[PROBABILITY]
            * rows["avg_monthly_margin"].clip(lower=0).fillna(0.0),
            "in_training": rows["customer_id"].isin(set(trained_ids)),
            "model_version": champion.number,
            "as_of": gold.manifest.as_of,
        }
    )

"""Scoring: whatever `champion` points to gives every customer of the newest gold table a probability, flag and tier.

    gold -> parts -> serving process (here, or in SageMaker) -> answers, reconciled -> scores

Memory is bounded by a part: each answer becomes a Parquet part of the scores before the next one is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import ibis
import mlflow
import pandas as pd
import pyarrow.parquet as pq

from spanishgas.contracts import check, typed
from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import local_store, promotion, registry
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.scoring import parts
from spanishgas.scoring.local import LocalTransform
from spanishgas.scoring.parts import Progress, Shards, Task, reconciled
from spanishgas.scoring.payload import ID
from spanishgas.scoring.payload import inputs as columns_of
from spanishgas.scoring.settings import MEGABYTE, Transform, read_settings
from spanishgas.stages import Stage, unkeyed
from spanishgas.training import artefact
from spanishgas.training.hazard import HORIZONS, WITHIN
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel

MARGIN = "avg_monthly_margin"
LOSS = "expected_monthly_loss"


class BackendName(StrEnum):
    """Where scoring runs."""

    LOCAL = "local"
    SAGEMAKER = "sagemaker"


def transform(backend: str, settings: Transform, say: Callable[[str], None]) -> parts.Backend:
    """The backend at work; UsageError for an unknown one, and where settings or packages are missing."""
    match backend:
        case BackendName.LOCAL:
            return LocalTransform(settings)
        case BackendName.SAGEMAKER:
            from spanishgas.scoring.jobs import SageMakerTransform

            return SageMakerTransform.of(settings, say)
    raise UsageError.unknown("backend", backend, list(BackendName))


@dataclass(frozen=True)
class ScoreInputs:
    """What scores depend on."""

    scoring: Snapshot
    version: Version
    training: TrainingTable
    lake: Lake = unkeyed("where the scores go")
    backend: parts.Backend = unkeyed("every backend runs the same serving process")
    settings: Transform = unkeyed("how the table is cut, not what is answered")
    progress: Progress = unkeyed("says how far it is")


SCORE = Stage[ScoreInputs]("score", (__name__, "spanishgas.scoring.serving"))


def score(
    alias: str,
    *,
    lake: Lake,
    backend: str = BackendName.LOCAL,
    progress: Progress = lambda what, done, total: None,
    say: Callable[[str], None] = lambda words: None,
) -> Snapshot:
    """Publish the scores of every customer of the newest gold table; unchanged inputs leave them as they are."""
    inputs = score_inputs(alias, lake, backend, progress, say)
    version, gold = inputs.version, inputs.scoring
    return through(
        SCORE,
        inputs,
        _score,
        title=f"score {gold.manifest.rows:,} customers with version {version.number}",
        recall=lambda key: lake.made("scores", gold.manifest.as_of, key),
        params={"alias": alias, "backend": backend, "version": version.number},
    )


def score_inputs(
    alias: str, lake: Lake, backend: str, progress: Progress, say: Callable[[str], None]
) -> ScoreInputs:
    """The newest gold table and the version behind `alias`, which must be cleared to score."""
    settings = read_settings(Transform)
    at_work, version = transform(backend, settings, say), promotion.scorable(alias)
    gold = lake.current("gold_master")
    return ScoreInputs(gold, version, version.training_table(lake), lake, at_work, settings, progress)


def _score(run: Work, inputs: ScoreInputs) -> Snapshot:
    gold, settings, columns = inputs.scoring, inputs.settings, list(columns_of(inputs.version.model))
    size = settings.payload_mb * MEGABYTE
    shards = Shards(gold, columns, settings.media, settings.part_rows, size, beside=(ID, MARGIN))
    task, trained = Task(inputs.version, shards), inputs.training.customers
    account, counts, curve = list[dict[str, object]](), Counter[str](), inputs.version.model.curve_columns

    def write(folder: Path) -> None:
        for part, answer, sha256 in reconciled(gold, inputs.backend.answers(task, inputs.progress), curve):
            scored = answer.assign(
                **{LOSS: expected_loss(answer[PROBABILITY], part.customers[MARGIN])},
                **(expected_losses(answer, part.customers[MARGIN]) if curve else {}),
                in_training=answer[ID].isin(trained),
                model_version=inputs.version.number,
                as_of=gold.manifest.as_of,
            )
            pq.write_table(typed("scores", scored), folder / f"part-{len(account):05d}.parquet")
            account.append({"part": len(account), "rows": len(scored), "sha256": sha256})
            counts.update(scored[TIER].str.lower())
            counts.update(rows=len(scored), flagged=int(scored[FLAG].sum()))
        check("scores", ibis.read_parquet(folder / "*.parquet"))

    published = run.publish(inputs.lake, "scores", gold.manifest.as_of, write)
    run.document({"rows": counts["rows"], "parts": account}, "reconciled.json")
    run.log(
        metrics={f"score.{name}": float(count) for name, count in counts.items()},
        tags={"scores": published.uri, "scores.digest": published.manifest.digest},
    )
    inputs.backend.clean_up(task)
    return published


def expected_loss(probability: pd.Series, margin: pd.Series) -> pd.Series:
    """P(churn) times the positive part of the average monthly margin, in EUR; an unknown margin loses nothing."""
    loss: pd.Series = probability * margin.clip(lower=0).fillna(0.0)
    return loss


def expected_losses(scored: pd.DataFrame, margin: pd.Series) -> dict[str, pd.Series]:
    """Margin that is expected to be lost within 1, 3, 6 and 12 months, EUR, by column.

    A customer loses its margin for each month that it is gone; between the horizons curves are taken as straight.
    """
    out, gone, before = dict[str, pd.Series](), 0.0 * scored[PROBABILITY], 0.0 * scored[PROBABILITY]
    for start, end in pairwise((0, *HORIZONS)):
        within = scored[WITHIN[end]]
        gone, before = gone + (before + within) / 2 * (end - start), within
        out[f"expected_loss_{end}m"] = expected_loss(gone, margin)
    return out


def score_table(table: pd.DataFrame, model: ChurnModel | str | Path) -> pd.DataFrame:
    """Score a table in this process, without lake or tracking: what `spanishgas.score` does.

    Args:
        table: customer_id and every input of the model; other columns are ignored.
        model: a fitted model, the folder of its artefact (it holds model.skops), or an alias or number of a version
            in the registry.

    Returns:
        customer_id, churn_probability, churn_flag and risk_tier, and of a model that knows when customers leave the
        columns of its curve, indexed like `table`.
    """
    if ID not in table.columns:
        raise UsageError(f"the table has no column {ID}: add one, it comes back beside each score")
    loaded = model if isinstance(model, ChurnModel) else _model(model)
    predicted = loaded.predict(table)
    predicted.insert(0, ID, table[ID])
    return predicted


def _model(which: str | Path) -> ChurnModel:
    if Path(which).is_dir():
        return artefact.load(Path(which), str(which))
    local_store.look(mlflow.get_tracking_uri())
    return registry.resolve(str(which)).model

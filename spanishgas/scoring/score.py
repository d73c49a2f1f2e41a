"""Scoring: whatever `champion` points to gives every customer of the newest gold table a probability, flag and tier.

    gold -> parts -> serving process (here, or in SageMaker) -> answers, reconciled -> scores

Memory is bounded by a part: each answer becomes a Parquet part of the scores before the next one is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path

import ibis
import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas import provenance
from spanishgas.contracts import check
from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import local_store, promotion, registry
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.scoring import parts
from spanishgas.scoring.local import LocalTransform
from spanishgas.scoring.parts import Progress, Reconciled, Shards, Task
from spanishgas.scoring.payload import ID
from spanishgas.scoring.payload import inputs as columns_of
from spanishgas.scoring.settings import MEGABYTE, Transform, read_settings
from spanishgas.stages import Stage, unkeyed
from spanishgas.training import artefact
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel

MARGIN = "avg_monthly_margin"
LOSS = "expected_monthly_loss"
SCHEMA = pa.schema(
    {
        ID: pa.string(),
        PROBABILITY: pa.float64(),
        FLAG: pa.int64(),
        TIER: pa.string(),
        LOSS: pa.float64(),
        "in_training": pa.bool_(),
        "model_version": pa.string(),
        "as_of": pa.date32(),
    }
)


class BackendName(StrEnum):
    """Where scoring runs."""

    LOCAL = "local"
    SAGEMAKER = "sagemaker"

    @classmethod
    def of(cls, name: str) -> BackendName:
        """The backend called `name`, or a UsageError that lists them."""
        try:
            return cls(name)
        except ValueError:
            raise UsageError.unknown("backend", name, list(cls)) from None

    def transform(self, given: Transform, say: Callable[[str], None]) -> parts.Backend:
        """The backend at work; UsageError where its settings or its packages are missing."""
        if self is BackendName.LOCAL:
            return LocalTransform(given)
        from spanishgas.scoring.jobs import SageMakerTransform

        return SageMakerTransform.of(given, say)


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
    given = read_settings(Transform)
    at_work, version = BackendName.of(backend).transform(given, say), promotion.scorable(alias)
    gold = lake.current("gold_master")
    return ScoreInputs(gold, version, version.training_table(lake), lake, at_work, given, progress)


def _score(run: Work, inputs: ScoreInputs) -> Snapshot:
    gold, task = inputs.scoring, _task(inputs)
    reconciled = Reconciled(task.shards, [MARGIN])
    writer = _Writer(inputs.version.number, gold.manifest.as_of, inputs.training.customers)

    def write(folder: Path) -> None:
        for answer, beside in reconciled.pairs(inputs.backend.answers(task, inputs.progress)):
            writer.part(folder, answer, beside)
        check("scores", ibis.read_parquet(folder / "*.parquet"))

    published = run.publish(inputs.lake, "scores", gold.manifest.as_of, write)
    run.document({"rows": reconciled.rows, "parts": reconciled.parts}, "reconciled.json")
    run.log(
        metrics={f"score.{tier.lower()}": float(count) for tier, count in writer.tiers.items()}
        | {"score.rows": float(reconciled.rows), "score.flagged": float(writer.flagged)},
        tags={"scores": published.uri, "scores.digest": published.manifest.digest},
    )
    inputs.backend.clean_up(task)
    return published


def _task(inputs: ScoreInputs) -> Task:
    version, gold, given = inputs.version, inputs.scoring, inputs.settings
    columns = list(columns_of(version.model))
    return Task(
        model_dir=version.folder,
        model=version.name,
        version=version.number,
        gold_digest=gold.manifest.digest,
        rows=gold.manifest.rows,
        shards=Shards(gold, columns, given.media, given.part_rows, given.payload_mb * MEGABYTE),
        tags={
            "model_version": version.number,
            "gold_digest": gold.manifest.digest,
            "as_of": gold.manifest.as_of.isoformat(),
            "run_id": version.run_id,
            "code": provenance.commit(),
        },
        model_sha256=version.record.manifest.files[artefact.FILE],
    )


class _Writer:
    """Writes scores part by part, and counts what it wrote."""

    def __init__(self, version: str, as_of: date, trained: set[str]) -> None:
        self._version, self._as_of, self._trained = version, as_of, trained
        self._parts, self.flagged = 0, 0
        self.tiers: Counter[str] = Counter()

    def part(self, folder: Path, answer: pd.DataFrame, beside: pd.DataFrame) -> None:
        """One more part of the scores: an answer, and what the table knows of its customers."""
        frame = answer[[ID, PROBABILITY, FLAG, TIER]].copy()
        frame[LOSS] = expected_loss(answer[PROBABILITY], beside[MARGIN])
        frame["in_training"] = answer[ID].isin(self._trained)
        frame["model_version"] = self._version
        frame["as_of"] = self._as_of
        table = pa.Table.from_pandas(frame, SCHEMA, preserve_index=False)
        pq.write_table(table, folder / f"part-{self._parts:05d}.parquet")
        self._parts += 1
        self.flagged += int(frame[FLAG].sum())
        self.tiers.update(frame[TIER])


def expected_loss(probability: pd.Series, margin: pd.Series) -> pd.Series:
    """P(churn) times the positive part of the average monthly margin, in EUR; an unknown margin loses nothing."""
    loss: pd.Series = probability * margin.clip(lower=0).fillna(0.0)
    return loss


def score_table(table: pd.DataFrame, model: ChurnModel | str | Path) -> pd.DataFrame:
    """Score a table in this process, without lake or tracking: what `spanishgas.score` does.

    Args:
        table: customer_id and every input of the model; other columns are ignored.
        model: a fitted model, the folder of its artefact (it holds model.skops), or an alias or number of a version
            in the registry.

    Returns:
        customer_id, churn_probability, churn_flag and risk_tier, indexed like `table`.
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

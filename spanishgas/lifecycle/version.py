"""A registered version as its own record: how it was made, what it learned from, and how it was judged.

Policy says what is to be done now, the version what was done then: who was held out, which tiers and offers it was
judged by. Both are written once, with the verdict, and sealed with it; what became of the version is read from the
history of `champion`. Tags of runs and versions say the same for the UI, and are not believed.
"""

from __future__ import annotations

import json
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from spanishgas.config.policy import Holdout
from spanishgas.errors import DataError, SpanishGasError, TrackingError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import runs, seal
from spanishgas.lifecycle.history import MoveRecord
from spanishgas.lifecycle.records import (
    ExperimentRecord,
    JudgedVersion,
    OfferRecord,
    Verdict,
    VersionRecord,
)
from spanishgas.lifetime import temporary_folder
from spanishgas.training.sides import in_holdout
from spanishgas.training.times import with_fair_labels

if TYPE_CHECKING:
    from spanishgas.training.model import ChurnModel
    from spanishgas.training.offers import OfferModel

R = TypeVar("R", VersionRecord, OfferRecord)
VERDICT, DIGEST, WORDS = "gate", "gate.digest", "gate.words"
OVERRIDE, ROLLED_BACK = "gate.override", "rolled_back"
PASSED, REFUSED = "passed", "refused"
JUDGED = "verdict.json"
"""Artefact of the run that evaluated a version: its verdict, its metrics and its record."""


@dataclass(frozen=True)
class TrainingTable:
    """The labelled table that a version was made from, divided as it was then."""

    table: Snapshot
    holdout: Holdout
    earlier: tuple[Snapshot, ...] = ()
    """What it learned from where the holdout was by time, and `table` is the day that it was judged on."""
    recalibrated: Snapshot | None = None
    """The later day whose labels its curve was fitted to, and that it was judged on."""

    @classmethod
    def of(cls, chosen: ExperimentRecord, holdout: Holdout, lake: Lake) -> TrainingTable:
        """The tables that a record names; LakeError where one is gone."""
        tables = [lake.by_digest(digest, "gold_master") for digest in chosen.tables]
        later = tables.pop() if chosen.recalibrated else None
        return cls(tables[0], holdout, tuple(tables[1:]), later)

    @property
    def judged(self) -> Snapshot:
        """The day whose held-out customers it was judged on."""
        return self.recalibrated or self.table

    @property
    def customers(self) -> set[str]:
        """Ids of the customers that the version learned from: its probabilities of them are too sure of themselves."""
        ids = pd.concat([_known_ids(day) for day in self.earlier or (self.table,)]).drop_duplicates()
        return set(ids[~in_holdout(ids, self.holdout)])

    def held_out(self) -> pd.DataFrame:
        """Labelled rows of the customers that it did not learn from."""
        rows = with_fair_labels(self.judged.pandas())
        rows = rows[rows["churn"].notna().to_numpy()]
        return rows[in_holdout(rows["customer_id"], self.holdout)].reset_index(drop=True)


def _known_ids(day: Snapshot) -> pd.Series:
    """Ids of the customers of whom a table tells whether, or how long, they stayed."""
    told = [name for name in ("churn", "observed_months") if name in day.manifest.columns]
    rows = day.pandas(["customer_id", *told])
    ids: pd.Series = rows["customer_id"][rows[told].notna().any(axis="columns").to_numpy()]
    return ids


@dataclass(frozen=True)
class Version:
    """A version of the registered model.

    - `record`, `verdict` and `metrics` are what its run holds, as it was sealed; TrackingError where that is gone or is
      none of ours, DataError where it differs.
    - `folder` and `model` are the bytes that were judged, or a DataError; `checked` looks without loading.
    - `fault` says in words why it may not be champion, if so; `require` raises it with the ways out.
    """

    entity: ModelVersion
    moves: MoveRecord = field(default_factory=MoveRecord)
    """The history of `champion`, as it was when the version was asked for."""

    @property
    def number(self) -> str:
        """Its number, as tables name it."""
        return str(self.entity.version)

    @property
    def name(self) -> str:
        """The registered model's name."""
        return str(self.entity.name)

    @property
    def run_id(self) -> str:
        """The run that evaluated it; empty if another client registered it without one."""
        return self.entity.run_id or ""

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, as they were when it was asked for."""
        return dict(self.entity.tags)

    @property
    def named(self) -> str:
        """What messages call it."""
        return f"version {self.number} of {self.name}"

    @property
    def identity(self) -> list[str]:
        """What results that it makes depend on; the digest of what was judged covers every byte of its artefact."""
        return [self.name, self.number, self.run_id, seal.digest(self._document)]

    @property
    def digest(self) -> str | None:
        """Digest of its verdict: by the first move that named it, else as it was registered."""
        return self.moves.seal(self.number) or self.tags.get(DIGEST)

    @cached_property
    def _document(self) -> dict[str, Any]:
        if not self.run_id:
            raise TrackingError(
                f"{self.named} is missing a verdict: it was never evaluated, for it names no run"
            )
        return runs.artifact(self.run_id, JUDGED)

    @cached_property
    def judged(self) -> JudgedVersion:
        """Verdict, metrics and record, as they were sealed."""
        seal.check(self._document, self.digest, self.name, self.named)
        try:
            return JudgedVersion.model_validate_json(json.dumps(self._document))
        except ValidationError as fault:
            raise TrackingError(
                f"{self.named} does not say how it was made: only versions made by `spanishgas evaluate` of this "
                "version of the project do. Evaluate its experiment again"
            ) from fault

    @cached_property
    def record(self) -> VersionRecord:
        """How it was made, of a version that says who leaves."""
        return self._recorded(VersionRecord)

    @cached_property
    def offer_record(self) -> OfferRecord:
        """How it was made, of a version that says what offers change."""
        return self._recorded(OfferRecord)

    def _recorded(self, kind: type[R]) -> R:
        record = self.judged.record
        if not isinstance(record, kind):
            raise TrackingError(f"{self.named} says {record.SAYS}, and not {kind.SAYS}: name another version")
        return record

    @property
    def verdict(self) -> Verdict:
        """The gate's verdict."""
        return self.judged.verdict

    @property
    def outcome(self) -> str:
        """What a verb that judged it says in the end."""
        return f"version {self.number}, gate {self.verdict.words}" + "\nnot promoted" * (
            not self.verdict.passed
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics that it was judged by."""
        return self.judged.metrics

    def too_old(self, newest: date | None, limit: int | None) -> str:
        """What to say of a version that learned more than `limit` days before the `newest` data; empty of others."""
        if newest is None or limit is None:
            return ""
        trained = self.record.chosen.as_of
        age = (newest - trained).days
        if age <= limit:
            return ""
        return (
            f"version {self.number} learned from data of {trained}, {age} days before the newest ({newest}); "
            f"policy.yaml allows {limit} (max_age_days): spanishgas retrain"
        )

    def training_table(self, lake: Lake) -> TrainingTable:
        """The table that it was made from; LakeError where that is gone."""
        return TrainingTable.of(self.record.chosen, self.record.policy.holdout, lake)

    @cached_property
    def folder(self) -> Path:
        """A copy of its artefact, every byte as it was judged, while this object lives; DataError otherwise."""
        with ExitStack() as stack:
            copy = stack.enter_context(temporary_folder())
            try:
                uri = f"models:/{self.name}/{self.number}"
                folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(copy)))
            except (MlflowException, OSError) as fault:
                why = str(fault).replace(str(copy), "")
                raise DataError(
                    f"the artefact of {self.named} cannot be read ({why}): put it back at {self.entity.source}, or "
                    "promote another version"
                ) from fault
            if differing := seal.differing(self.judged.record.manifest, folder):
                raise DataError(
                    f"{self.named} is not what was judged: {', '.join(differing[:3])} of its artefact differ"
                    f"{'s' * (len(differing) == 1)} from the manifest in its verdict, so it is not used. Put the files "
                    "back, or go on with another version: `spanishgas rollback` or `spanishgas promote`"
                )
            weakref.finalize(self, stack.pop_all().close)
        return folder

    def checked(self) -> Version:
        """Itself, if its artefact holds the bytes that were judged; DataError otherwise."""
        _ = self.folder
        return self

    @cached_property
    def model(self) -> ChurnModel:
        """Its model, the artefact checked against our own list of trusted types first."""
        from spanishgas.training import artefact

        return artefact.load(self.folder, self.named)

    @cached_property
    def offer_model(self) -> OfferModel:
        """Its model, likewise, of a version that says what offers change."""
        from spanishgas.training import artefact
        from spanishgas.training.offers import OfferModel

        return artefact.load_as(OfferModel, self.folder, self.named)

    @property
    def override(self) -> str | None:
        """Who let it pass in spite of its verdict, when and why."""
        return self.moves.override(self.number)

    @cached_property
    def fault(self) -> str | None:
        """Why it may not be champion, in words; None where its verdict passed, is untampered and nothing came since."""
        if (reason := self.moves.rolled_back(self.number)) is not None:
            return f"was rolled back ({reason})"
        try:
            verdict = self.verdict
        except SpanishGasError as fault:
            return f"has no passed verdict: {fault}"
        return None if verdict.passed else f"has no passed verdict: it is refused ({verdict.words})"

    @property
    def cleared(self) -> bool:
        """Whether it may be champion and score."""
        return self.fault is None or bool(self.override)

    def require(self) -> None:
        """Raise TrackingError that names the verdict and the ways out, unless it is cleared."""
        if not self.cleared:
            raise TrackingError(
                f"{self.named} {self.fault}. Nothing is scored with it: go back with "
                f"`spanishgas rollback --reason ...`, promote another version, or let this one pass in your name with "
                f'`spanishgas promote --version {self.number} --reason ... --override "why"`'
            )

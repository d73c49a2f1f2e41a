"""A registered version as its own record: how it was made, what it learned from, and how it was judged.

Policy says what is to be done now, the version what was done then: who was held out, which tiers and offers it was
judged by. Both are written once, with the verdict, and covered by the verdict's digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from pydantic import ValidationError

from spanishgas import stages
from spanishgas.config.policy import Holdout
from spanishgas.errors import TrackingError
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.records import VersionRecord
from spanishgas.training.sides import in_holdout

if TYPE_CHECKING:
    from spanishgas.training.model import ChurnModel

VERDICT, DIGEST, WORDS = "gate", "gate.digest", "gate.words"
OVERRIDE, ROLLED_BACK, APPROVED = "gate.override", "rolled_back", "approved"
PROBATION = "probation"
"""How a champion fares beside the one before it, in words."""
PASSED, REFUSED = "passed", "refused"
JUDGED = "verdict.json"
"""Artefact of the run that evaluated a version: its verdict, its metrics and its record."""


def sealed(verdict: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Digest of a verdict and the record beside it (both as JSON data), as version tags and moves hold it."""
    return stages.digest(json.dumps([verdict, record], sort_keys=True))


@dataclass(frozen=True)
class TrainingTable:
    """The labelled table that a version was made from, divided as it was then."""

    table: Snapshot
    holdout: Holdout

    @property
    def customers(self) -> set[str]:
        """Ids of the customers that the version learned from: its probabilities of them are too sure of themselves."""
        rows = self._labelled(["customer_id", "churn"])
        return set(rows["customer_id"][~in_holdout(rows["customer_id"], self.holdout)])

    def held_out(self) -> pd.DataFrame:
        """Labelled rows of the customers that it did not learn from."""
        rows = self._labelled()
        return rows[in_holdout(rows["customer_id"], self.holdout)].reset_index(drop=True)

    def _labelled(self, columns: list[str] | None = None) -> pd.DataFrame:
        rows = self.table.pandas(columns)
        return rows[rows["churn"].notna().to_numpy()]


@dataclass(frozen=True)
class Version:
    """A version of the registered model.

    - `record`, `verdict` and `metrics` are what its run holds; TrackingError where that is gone or is none of ours.
    - `fault` says in words why it may not be champion, if so; `require` raises it with the ways out.
    """

    entity: ModelVersion

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
    def identity(self) -> list[str]:
        """What results that it makes depend on."""
        return [self.name, self.number, self.run_id, self.tags.get(DIGEST, "")]

    @cached_property
    def _judged(self) -> dict[str, Any]:
        if not self.run_id:
            raise TrackingError(f"version {self.number} of {self.name} names no run that holds its {JUDGED}")
        return runs.artifact(self.run_id, JUDGED)

    @cached_property
    def record(self) -> VersionRecord:
        """How it was made."""
        try:
            return VersionRecord.model_validate_json(json.dumps(self._judged["record"]))
        except (KeyError, ValidationError) as fault:
            raise TrackingError(
                f"version {self.number} of {self.name} does not say how it was made: only versions made by "
                "`spanishgas evaluate` do. Evaluate its experiment again"
            ) from fault

    @property
    def verdict(self) -> dict[str, Any]:
        """The gate's verdict as data."""
        verdict: dict[str, Any] = self._judged["verdict"]
        return verdict

    @property
    def metrics(self) -> dict[str, float]:
        """`holdout.*` metrics that it was judged by."""
        metrics: dict[str, float] = self._judged["metrics"]
        return metrics

    def training_table(self, lake: Lake) -> TrainingTable:
        """The table that it was made from; LakeError where that is gone."""
        return TrainingTable(
            lake.by_digest(self.record.chosen.gold, "gold_master"), self.record.policy.holdout
        )

    @cached_property
    def folder(self) -> Path:
        """A local folder with its artefact as MLflow keeps it."""
        return Path(mlflow.artifacts.download_artifacts(f"models:/{self.name}/{self.number}"))

    @cached_property
    def model(self) -> ChurnModel:
        """Its model, the artefact checked against our own list of trusted types first."""
        from spanishgas.training import artefact

        return artefact.load(self.folder, f"version {self.number} of {self.name}")

    @property
    def digest(self) -> str | None:
        """Digest of verdict and record as they were when it was registered."""
        return self.tags.get(DIGEST)

    @property
    def override(self) -> str | None:
        """Who let it pass in spite of its verdict, when and why."""
        return self.tags.get(OVERRIDE)

    @cached_property
    def fault(self) -> str | None:
        """Why it may not be champion, in words; None where its verdict passed, is untampered and nothing came since."""
        tags = self.tags
        if ROLLED_BACK in tags:
            return f"was rolled back ({tags[ROLLED_BACK]})"
        if tags.get(VERDICT) != PASSED:
            words = tags.get(WORDS, "never evaluated")
            return f"has no passed verdict: it is {tags.get(VERDICT, 'missing')} ({words})"
        return self._tampered

    @property
    def _tampered(self) -> str | None:
        says = "says that its gate passed, but"
        if not self.run_id:
            return f"{says} no run holds the verdict"
        try:
            verdict, record = self._judged.get("verdict", {}), self._judged.get("record", {})
        except TrackingError as fault:
            return f"{says} run {self.run_id} holds no {JUDGED} that can be read ({fault.__cause__})"
        if sealed(verdict, record) != self.digest:
            return f"{says} the verdict of run {self.run_id} has another digest"
        return None

    @property
    def cleared(self) -> bool:
        """Whether it may be champion and score."""
        return self.fault is None or bool(self.override)

    def require(self) -> None:
        """Raise TrackingError that names the verdict and the ways out, unless it is cleared."""
        if not self.cleared:
            raise TrackingError(
                f"version {self.number} of {self.name} {self.fault}. Nothing is scored with it: go back with "
                f"`spanishgas rollback --reason ...`, promote another version, or let this one pass in your name with "
                f'`spanishgas promote --version {self.number} --reason ... --override "why"`'
            )

"""What became of a scored cohort, once its labels are there.

    labels + scores + gold + treatments -> outcomes table -> performance, calibration by tier, value, uplift,
                                                             concept drift -> one run, stage=outcomes

The rows go to the lake; the run gets figures with intervals and a sentence per finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from spanishgas import code
from spanishgas.config.policy import Policy, load_policy
from spanishgas.config.reading import as_data
from spanishgas.contracts import check_pandas, contract
from spanishgas.errors import LakeError
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.monitoring import cohort as of_cohort
from spanishgas.monitoring import sentences
from spanishgas.monitoring.cohort import Cohort, Figures, Uplift
from spanishgas.monitoring.concept import Concept, Scored, concept_drift
from spanishgas.monitoring.estimate import expected
from spanishgas.monitoring.labels import ID, LABEL, WHEN, known_only, read_labels
from spanishgas.monitoring.probation import probation
from spanishgas.training.matrix import in_holdout
from spanishgas.training.model import FLAG, PROBABILITY, TIER

MARGIN, DOCUMENT = "avg_monthly_margin", "outcomes.json"
_PARTS = ("monitoring", "evaluation", "training")


@dataclass(frozen=True)
class Outcomes:
    """What a cohort's labels showed."""

    run_id: str
    as_of: date
    version: str
    findings: Sequence[str]
    concept_drift: bool | None
    """None where there were too few customers to test it."""
    probation: Sequence[str] = ()
    """What the labels say of a new champion beside the one before it, and what follows."""


@dataclass(frozen=True)
class Tables:
    """The snapshots that a cohort is made of."""

    scores: Snapshot
    gold: Snapshot
    treatments: Snapshot | None

    @classmethod
    def of(cls, lake: Lake, as_of: date | None) -> Tables:
        """Those of the cohort scored as of `as_of`, of the newest if none is named."""
        scores = lake.current("scores", as_of)
        gold = lake.at(scores.manifest.built_from["gold_master"], "gold_master")
        return cls(scores, gold, lake.find("treatments", scores.manifest.as_of))

    @property
    def digests(self) -> dict[str, str]:
        """By table."""
        held = (self.scores, self.gold, self.treatments)
        return {one.manifest.table: one.manifest.digest for one in held if one}

    def cohort(self, labels: pd.DataFrame, policy: Policy) -> Cohort:
        """The labelled customers, as the figures take them."""
        rows = labels.merge(self.scores.pandas(), on=ID, validate="1:1")
        rows = rows.merge(
            self.gold.pandas([ID, MARGIN]).rename(columns={MARGIN: "margin"}), on=ID, how="left"
        )
        arms = [ID, "arm", "offer", "control_share"]
        if self.treatments is not None:
            rows = rows.merge(self.treatments.pandas(arms), on=ID, how="left")
        rows = rows.reindex(columns=list(dict.fromkeys([*rows, *arms]))).astype({"arm": object})
        rows["arm"] = rows["arm"].where(rows["arm"].notna(), None)
        rows["value"] = realised_value(
            rows[PROBABILITY].to_numpy(),
            rows[FLAG].to_numpy(dtype="int64"),
            rows[LABEL].to_numpy(dtype="int64"),
            rows["margin"].to_numpy(dtype="float64"),
            policy.offers,
        )
        return Cohort(rows)


def outcomes(file: Path, as_of: date | None = None, *, lake: Lake) -> Outcomes:
    """Hold the labels in `file` against the scores as of `as_of` (the newest if None), log and publish what they show.

    - The file is all that is known of that cohort: another one replaces it as the current `outcomes` table.
    - The same labels, tables, policy and code give the run that is there already.
    - A champion on probation is judged by them too, and rolled back if the policy says so.
    - Raises what `read_labels` and `known_only` raise.
    """
    policy, labels, tables = load_policy(), read_labels(file), Tables.of(lake, as_of)
    day = tables.scores.manifest.as_of
    scored = tables.scores.pandas([ID, "model_version"])
    rows, strangers = known_only(labels, scored[ID], day)
    version = str(scored["model_version"].iloc[0])
    said = rows.sort_values(ID).astype(str).to_csv(index=False)
    rules = [
        as_data(policy.holdout),
        as_data(policy.offers),
        policy.risk_tiers,
        policy.drift.false_alarm_rate,
    ]
    fingerprint = code.fingerprint("outcomes", said, tables.digests, rules, code.digest(*_PARTS))
    cohort = tables.cohort(rows, policy)
    held, known = lake.reusable("outcomes", day), runs.find({"stage": "outcomes", "fingerprint": fingerprint})
    if known and held and held.manifest.fingerprint == fingerprint:
        found = _found(known[0].info.run_id)
    else:
        title = f"outcomes as of {day}: {len(rows):,} labels"
        tags = {"fingerprint": fingerprint, "as_of": day, "version": version}
        with runs.stage("outcomes", title, params={"version": version, "as_of": day}, tags=tags) as run:
            run.read(tables.scores, "scores")
            held = _publish(run, cohort, tables, fingerprint, lake)
            study = _Study.of(cohort, registry.resolve(version), policy, lake)
            coverage = sentences.coverage(labels, len(rows), len(strangers), tables.scores.manifest.rows)
            summary = study.log(run, [*coverage, *study.sentences(day)])
            run.log(tags={"outcomes": held.uri, "outcomes.digest": held.manifest.digest})
        found = _outcomes(run.run_id, summary)
    return replace(found, probation=probation(day, held, tables.gold, cohort, policy, lake))


def _publish(run: runs.StageRun, cohort: Cohort, tables: Tables, fingerprint: str, lake: Lake) -> Snapshot:
    rows = cohort.rows[list(contract("outcomes").fields)]
    rows = rows.astype({WHEN: pd.ArrowDtype(pa.date32()), "arm": "str"})
    check_pandas("outcomes", rows)
    return lake.publish(
        "outcomes",
        tables.scores.manifest.as_of,
        lambda folder: rows.to_parquet(folder / "part-0.parquet", index=False),
        built_from=tables.digests,
        fingerprint=fingerprint,
        code=code.identity(*_PARTS),
        run_id=run.run_id,
    )


@dataclass(frozen=True)
class _Study:
    """Everything that a cohort's labels show, before it is logged."""

    figures: dict[str, Figures]
    calibration: pd.DataFrame
    uplift: Uplift | None
    concept: Concept | None
    cohort: Cohort
    estimated: Figures | None
    """What was to be expected of the unseen customers before their labels arrived."""
    holdout: dict[str, float]
    """Metrics of the verdict."""

    @classmethod
    def of(cls, cohort: Cohort, version: ModelVersion, policy: Policy, lake: Lake) -> _Study:
        """Concept drift is None where the reference is gone from the lake."""
        unseen = cohort.unseen.judged
        return cls(
            figures=of_cohort.groups(cohort),
            calibration=of_cohort.calibration(cohort.unseen, policy.risk_tiers),
            uplift=of_cohort.uplift(cohort, policy.offers),
            concept=_concept(cohort.unseen.untreated, version, policy, lake),
            cohort=cohort,
            estimated=expected(unseen.probability, unseen.flag) if len(unseen.y) else None,
            holdout=MlflowClient().get_run(str(version.run_id)).data.metrics if version.run_id else {},
        )

    def sentences(self, day: date) -> list[str]:
        """A sentence per finding, the weightiest first."""
        return [
            *sentences.performance(self.figures, self.cohort, self.holdout, day),
            *sentences.estimated(self.estimated, self.figures),
            *sentences.concept(self.concept),
            *sentences.calibration(self.calibration),
            *sentences.uplift(self.uplift, self.cohort),
        ]

    def log(self, run: runs.StageRun, findings: list[str]) -> dict[str, Any]:
        """Metrics under `outcomes.`, tables, and the sentences; gives what `outcomes.json` holds."""
        run.log(metrics=self._metrics(), tags={"concept_drift": _WORDS[self.drifted]})
        run.tables({"calibration.json": self.calibration})
        rows = self.cohort.rows
        summary = {
            "as_of": str(rows["as_of"].iloc[0]),
            "version": str(rows["model_version"].iloc[0]),
            "findings": findings,
            "concept_drift": self.drifted,
        }
        run.document(summary, DOCUMENT)
        run.describe("\n".join(f"- {line}" for line in findings))
        return summary

    @property
    def drifted(self) -> bool | None:
        """Whether there is concept drift; None where it was not tested."""
        return self.concept.drifted if self.concept else None

    def _metrics(self) -> dict[str, float]:
        metrics = {"outcomes.rows": float(len(self.cohort.rows))}
        metrics["outcomes.unseen"] = float(len(self.cohort.unseen.rows))
        for group, (points, intervals) in self.figures.items():
            metrics |= with_intervals(
                "outcomes" if group == "all" else f"outcomes.{group}", points, intervals
            )
        for line in self.calibration.to_dict(orient="records"):
            prefix = f"outcomes.tier.{str(line['tier']).lower()}"
            metrics |= {
                f"{prefix}.{name}": float(line[name]) for name in ("customers", "predicted", "observed")
            }
            metrics |= {f"{prefix}.observed.{end}": float(line[end]) for end in ("low", "high")}
        metrics |= with_intervals("estimated", *self.estimated) if self.estimated else {}
        if self.concept and self.concept.p:
            metrics |= {f"concept.p.{name.lower()}": p for name, p in self.concept.p.items()}
            metrics |= {"concept.churners": self.concept.churners, "concept.expected": self.concept.expected}
            metrics["concept.drift"] = float(bool(self.drifted))
        return metrics | (self.uplift.metrics if self.uplift else {})


_WORDS = {None: "unknown", True: "yes", False: "no"}


def _concept(cohort: Cohort, version: ModelVersion, policy: Policy, lake: Lake) -> Concept | None:
    """Offers are chosen by score and margin, so customers without one are fair among those with the same score."""
    try:
        trained = lake.at(version.tags.get("data.digest", ""), "gold_master").pandas()
    except LakeError:
        return None
    held = trained[trained[LABEL].notna().to_numpy() & in_holdout(trained[ID], policy.holdout)]
    scored = registry.load(str(version.version)).model.predict(held)
    rows = cohort.rows
    return concept_drift(
        Scored(scored[PROBABILITY].to_numpy(), held[LABEL].to_numpy(dtype="int64"), scored[TIER]),
        Scored(rows[PROBABILITY].to_numpy(), rows[LABEL].to_numpy(dtype="int64"), rows[TIER]),
        policy.drift.false_alarm_rate,
    )


def _found(run_id: str) -> Outcomes:
    return _outcomes(run_id, runs.artifact(run_id, DOCUMENT))


def _outcomes(run_id: str, summary: dict[str, Any]) -> Outcomes:
    return Outcomes(run_id, **{**summary, "as_of": date.fromisoformat(summary["as_of"])})

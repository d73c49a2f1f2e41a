"""What became of a scored cohort, once its labels are there.

    labels + scores + gold + treatments -> outcomes table -> performance, calibration by tier, value, uplift,
                                                             concept drift -> one run, stage=outcomes

The rows go to the lake; the run gets figures with intervals and a sentence per finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa

from spanishgas.config.policy import Offers, load_policy
from spanishgas.contracts import check_pandas, contract
from spanishgas.errors import LakeError
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.records import OFFERS
from spanishgas.lifecycle.stage import Work, earlier, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.monitoring import cohort as of_cohort
from spanishgas.monitoring import sentences
from spanishgas.monitoring.cohort import Cohort, Figures, Outcomes, Uplift
from spanishgas.monitoring.concept import Concept, ConceptScores, concept_drift
from spanishgas.monitoring.estimate import expected
from spanishgas.monitoring.labels import ID, LABEL, WHEN, Labels, known_only, read_labels
from spanishgas.monitoring.probation import probation
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.model import FLAG, PROBABILITY, TIER

MARGIN, DOCUMENT = "avg_monthly_margin", "outcomes.json"


@dataclass(frozen=True)
class OutcomesInputs:
    """What the study of a cohort depends on."""

    scores: Snapshot
    gold: Snapshot
    treatments: Snapshot | None
    labels: Labels
    version: Version
    training: TrainingTable | None
    """None where the version's own table is gone: concept drift is then not tested."""
    offers: Offers
    """Those that were made, by the run that recommended them; else the policy's."""
    false_alarm_rate: float
    lake: Lake = unkeyed("where the outcomes table goes")

    def cohort(self) -> Cohort:
        """The labelled customers, as the figures take them."""
        rows = self.labels.rows.merge(self.scores.pandas(), on=ID, validate="1:1")
        margins = self.gold.pandas([ID, MARGIN]).rename(columns={MARGIN: "margin"})
        rows = rows.merge(margins, on=ID, how="left")
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
            self.offers,
        )
        return Cohort(rows)


OUTCOMES = Stage[OutcomesInputs]("outcomes", (__name__,))


def outcomes(file: Path, as_of: date | None = None, *, lake: Lake) -> Outcomes:
    """Hold the labels in `file` against the scores as of `as_of` (the newest if None), log and publish what they show.

    - The file is all that is known of that cohort: another one replaces it as the current `outcomes` table.
    - The same labels, tables, version, offers and code give the run that is there already.
    - A champion on probation is judged by them too, and rolled back if the policy says so.
    - Raises what `read_labels` and `known_only` raise.
    """
    inputs = outcomes_inputs(file, as_of, lake)
    day, rows = inputs.scores.manifest.as_of, inputs.labels.rows
    shown = through(
        OUTCOMES,
        inputs,
        _outcomes,
        title=f"outcomes as of {day}: {len(rows):,} labels",
        recall=lambda key: _recalled(key, inputs),
        params={"version": inputs.version.number, "as_of": day},
        tags={"as_of": day, "version": inputs.version.number},
    )
    table = lake.current("outcomes", day)
    told = probation(day, table, inputs.gold, inputs.cohort(), load_policy(), lake)
    return shown.model_copy(update={"probation": told})


def outcomes_inputs(file: Path, as_of: date | None, lake: Lake) -> OutcomesInputs:
    """The study of the cohort scored as of `as_of`, by the version that scored it and the offers that were made."""
    labels, scores = read_labels(file), lake.current("scores", as_of)
    day, policy = scores.manifest.as_of, load_policy()
    scored = scores.pandas([ID, "model_version"])
    version = registry.resolve(str(scored["model_version"].iloc[0])).checked()
    treatments = lake.find("treatments", day)
    return OutcomesInputs(
        scores=scores,
        gold=lake.by_digest(scores.manifest.built_from["gold_master"], "gold_master"),
        treatments=treatments,
        labels=known_only(labels, scored[ID], day),
        version=version,
        training=_training(version, lake),
        offers=_offers(treatments) or policy.offers,
        false_alarm_rate=policy.drift.false_alarm_rate,
        lake=lake,
    )


def _training(version: Version, lake: Lake) -> TrainingTable | None:
    try:
        return version.training_table(lake)
    except LakeError:
        return None


def _offers(treatments: Snapshot | None) -> Offers | None:
    run_id = treatments.manifest.run_id if treatments else None
    if run_id is None or runs.status(run_id) == "GONE":
        return None
    return runs.record(Offers, run_id, OFFERS)


def _recalled(key: str, inputs: OutcomesInputs) -> Outcomes | None:
    run_id = earlier(OUTCOMES, key)
    if run_id is None or not inputs.lake.made("outcomes", inputs.scores.manifest.as_of, key):
        return None
    return runs.record(Outcomes, run_id, DOCUMENT)


def _outcomes(run: Work, inputs: OutcomesInputs) -> Outcomes:
    cohort, day = inputs.cohort(), inputs.scores.manifest.as_of
    rows = cohort.rows[list(contract("outcomes").fields)]
    rows = rows.astype({WHEN: pd.ArrowDtype(pa.date32()), "arm": "str"})
    check_pandas("outcomes", rows)
    table = run.publish(
        inputs.lake, "outcomes", day, lambda folder: rows.to_parquet(folder / "part-0.parquet", index=False)
    )
    study = _Study.of(cohort, inputs)
    run.log(tags={"outcomes": table.uri, "outcomes.digest": table.manifest.digest})
    outcomes = Outcomes(
        run_id=run.run_id,
        as_of=day,
        version=inputs.version.number,
        findings=[*inputs.labels.coverage, *study.sentences(day)],
        concept_drift=study.drifted,
    )
    study.log(run, outcomes)
    return outcomes


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
    def of(cls, cohort: Cohort, inputs: OutcomesInputs) -> _Study:
        """Concept drift is None where the reference is gone from the lake."""
        unseen = cohort.unseen.judged
        return cls(
            figures=of_cohort.groups(cohort),
            calibration=of_cohort.calibration(cohort.unseen, inputs.version.record.policy.risk_tiers),
            uplift=of_cohort.uplift(cohort, inputs.offers),
            concept=_concept(cohort.unseen.untreated, inputs),
            cohort=cohort,
            estimated=expected(unseen.probability, unseen.flag) if len(unseen.y) else None,
            holdout=inputs.version.metrics,
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

    def log(self, run: runs.StageRun, outcomes: Outcomes) -> None:
        """Metrics under `outcomes.`, tables, and what was found in sentences."""
        run.log(metrics=self._metrics(), tags={"concept_drift": _WORDS[self.drifted]})
        run.tables({"calibration.json": self.calibration})
        run.document(outcomes.model_dump(mode="json"), DOCUMENT)
        run.describe("\n".join(f"- {line}" for line in outcomes.findings))

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


def _concept(cohort: Cohort, inputs: OutcomesInputs) -> Concept | None:
    """Offers are chosen by score and margin, so customers without one are fair among those with the same score."""
    if inputs.training is None:
        return None
    reference, rows = inputs.training.held_out(), cohort.rows
    scored = inputs.version.model.predict(reference)
    return concept_drift(
        ConceptScores(scored[PROBABILITY].to_numpy(), reference[LABEL].to_numpy(dtype="int64"), scored[TIER]),
        ConceptScores(rows[PROBABILITY].to_numpy(), rows[LABEL].to_numpy(dtype="int64"), rows[TIER]),
        inputs.false_alarm_rate,
    )

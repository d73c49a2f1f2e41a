"""What became of a scored cohort, once its labels are there.

    labels + scores + gold + treatments -> outcomes table -> performance, calibration by tier, value, concept drift,
                      earlier campaigns -> effects of offers -> one run, stage=outcomes

The rows go to the lake; the run gets figures with intervals and a sentence per finding. Before labels arrive, the run
gets what the scores would reach if the probabilities they state were right (`estimate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from spanishgas.config.policy import Offers, load_policy
from spanishgas.errors import DataError, LakeError
from spanishgas.evaluation.effects import FEWEST as FEWEST_ARM
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.evaluation.value import realised_value
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.records import OFFERS
from spanishgas.lifecycle.stage import Work, recorded, through
from spanishgas.lifecycle.version import TrainingTable, Version
from spanishgas.monitoring import cohort as of_cohort
from spanishgas.monitoring.campaigns import MARGIN, Logged, OfferEffects, joined, logged, pooled
from spanishgas.monitoring.cohort import Cohort, Figures, Outcomes, expected
from spanishgas.monitoring.concept import FEWEST, OVERALL, Concept
from spanishgas.monitoring.labels import ID, LABEL, Labels, known_only, matured, read_labels
from spanishgas.monitoring.probation import probation
from spanishgas.monitoring.season import Season, differing, untreated, year_before
from spanishgas.rendering import paragraphs
from spanishgas.stages import Stage, unkeyed
from spanishgas.training.model import FLAG, PROBABILITY

DOCUMENT, ESTIMATED = "outcomes.json", "estimate.json"


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
    horizon_months: int
    """Within which a customer who left counts as such."""
    earlier: tuple[Logged, ...] = ()
    """The campaigns before, which are pooled with this one."""
    season: Season | None = None
    """The cohort of a year before, if that is known."""
    lake: Lake = unkeyed("where the outcomes table goes", None)

    def effects(self, cohort: Cohort) -> OfferEffects | None:
        """What offers do, by this campaign and those before; None where none was logged."""
        logs = [one.rows() for one in self.earlier]
        if self.treatments is not None:
            logs.append(joined(cohort.rows, self.treatments.pandas(), self.gold))
        return OfferEffects.of(pooled(logs), self.offers) if any(map(len, logs)) else None

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
    told = probation(table, inputs.gold, inputs.cohort(), load_policy(), lake)
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
        labels=matured(known_only(labels, scored[ID], day), day, policy.label_horizon_months),
        version=version,
        training=_training(version, lake),
        offers=_offers(treatments) or policy.offers,
        false_alarm_rate=policy.drift.false_alarm_rate,
        horizon_months=policy.label_horizon_months,
        earlier=tuple(logged(lake, before=day)),
        season=year_before(day, lake),
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
    if not inputs.lake.made("outcomes", inputs.scores.manifest.as_of, key):
        return None
    return recorded(OUTCOMES, key, Outcomes, DOCUMENT)


def _outcomes(run: Work, inputs: OutcomesInputs) -> Outcomes:
    cohort, day = inputs.cohort(), inputs.scores.manifest.as_of
    table = run.publish_rows(inputs.lake, "outcomes", day, cohort.rows)
    unseen, figures = cohort.unseen.judged, of_cohort.groups(cohort)
    tiers = of_cohort.calibration(cohort.unseen, inputs.version.record.policy.risk_tiers)
    effects, (concept, season) = inputs.effects(cohort), _concepts(cohort.unseen, inputs)
    judged_by = season or concept
    remedy = judged_by.remedy if judged_by else None
    estimated = expected(unseen.probability, unseen.flag) if len(unseen.y) else None
    outcomes = Outcomes(
        run_id=run.run_id,
        as_of=day,
        version=inputs.version.number,
        findings=[
            *inputs.labels.coverage,
            *paragraphs(
                "spanishgas.monitoring",
                "outcomes.md.jinja",
                as_of=day,
                unseen=len(unseen.y),
                seen=len(cohort.rows) - len(unseen.y),
                offered=int(cohort.unseen.rows["arm"].eq("offer").sum()),
                figures=figures,
                promised=inputs.version.metrics.get("holdout.average_precision"),
                estimated=estimated,
                concept=concept,
                season=season,
                year_before=inputs.season.outcomes.manifest.as_of if inputs.season else None,
                remedy=remedy,
                fewest=FEWEST,
                overall=OVERALL,
                tiers=tiers.to_dict("records"),
                effects=effects,
                fewest_arm=FEWEST_ARM,
            ),
        ],
        concept_drift=concept.drifted if concept else None,
        remedy=remedy,
    )
    run.log(
        metrics={
            "outcomes.rows": len(cohort.rows),
            "outcomes.unseen": len(unseen.y),
            **_metrics(figures, tiers),
            **(with_intervals("estimated", *estimated) if estimated else {}),
            **(concept.metrics() if concept else {}),
            **(season.metrics("season") if season else {}),
            **(effects.metrics if effects else {}),
        },
        tags={
            "outcomes": table.uri,
            "outcomes.digest": table.manifest.digest,
            "concept_drift": {None: "unknown", True: "yes", False: "no"}[outcomes.concept_drift],
            "remedy": remedy or "none",
        },
    )
    run.tables({"calibration.json": tiers})
    if effects:
        run.tables({"effects.json": effects.table, "balance.json": effects.balance})
    outcomes.keep(run, DOCUMENT)
    return outcomes


def _metrics(figures: dict[str, Figures], tiers: pd.DataFrame) -> dict[str, float]:
    metrics = dict[str, float]()
    for group, of_group in figures.items():
        metrics |= with_intervals("outcomes" if group == "all" else f"outcomes.{group}", *of_group)
    for line in tiers.to_dict(orient="records"):
        values = {name: float(line[name]) for name in ("customers", "predicted", "observed")}
        ends = {"observed": (float(line["low"]), float(line["high"]))}
        metrics |= with_intervals(f"outcomes.tier.{str(line['tier']).lower()}", values, ends)
    return metrics


def _concepts(cohort: Cohort, inputs: OutcomesInputs) -> tuple[Concept | None, Concept | None]:
    """What differs from the holdout, and from the same season a year before; None without controls, or that season.

    On those without an offer, controls standing for all who were chosen.
    """
    if inputs.training is None or not cohort.replaceable:
        return None, None
    model, level, now = inputs.version.model, inputs.false_alarm_rate, untreated(cohort, inputs.gold)
    then = inputs.season.rows(inputs.training.customers) if inputs.season else None
    season = None if then is None else differing(model, then, now, level)
    of_holdout = differing(model, inputs.training.held_out(), now, level)
    return of_holdout, season if season and season.p else None


@dataclass(frozen=True)
class EstimateInputs:
    """What an estimate depends on."""

    scores: Snapshot
    version: str
    """Number of the version that made them."""


ESTIMATE = Stage[EstimateInputs]("outcomes", (__name__,))


def estimate(as_of: date | None = None, *, lake: Lake) -> Outcomes:
    """Log as `estimated.*` what the scores as of `as_of` (the newest if None) would reach without concept drift.

    The same scores and code give the run that is there already. DataError where the model learned from everybody.
    """
    scores = lake.current("scores", as_of)
    day, version = scores.manifest.as_of, str(scores.pandas(["model_version"]).iloc[0, 0])
    return through(
        ESTIMATE,
        EstimateInputs(scores, version),
        _estimate,
        title=f"outcomes as of {day}, estimated",
        recall=lambda key: recorded(ESTIMATE, key, Outcomes, ESTIMATED),
        tags={"as_of": day, "version": version},
    )


def _estimate(run: Work, inputs: EstimateInputs) -> Outcomes:
    rows, day = inputs.scores.pandas([PROBABILITY, FLAG, "in_training"]), inputs.scores.manifest.as_of
    unseen = rows[~rows["in_training"]]
    if unseen.empty:
        raise DataError(
            f"the model learned from every customer scored as of {day}: its probabilities of "
            "them say nothing of what it reaches on others. Score a table with other customers too"
        )
    figures = expected(unseen[PROBABILITY].to_numpy(), unseen[FLAG].to_numpy(dtype="int64"))
    outcomes = Outcomes(
        run_id=run.run_id,
        as_of=day,
        version=inputs.version,
        findings=paragraphs(
            "spanishgas.monitoring", "estimate.md.jinja", figures=figures, customers=len(unseen)
        ),
    )
    run.log(metrics=with_intervals("estimated", *figures))
    outcomes.keep(run, ESTIMATED)
    return outcomes

"""Labelled samples that no offer changed, and what differs between two: holdout, cohort, and the one of a year before.

What the season does to customers it did a year before as well: what is left between the two cohorts is no season.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import pandas as pd

from spanishgas.errors import LakeError
from spanishgas.lake import Lake, Snapshot
from spanishgas.monitoring.cohort import Cohort
from spanishgas.monitoring.concept import STANDS, Concept, concept_drift
from spanishgas.monitoring.labels import ID, LABEL
from spanishgas.monitoring.reasons import tested_inputs
from spanishgas.training.model import ChurnModel

YEAR, NEAR = timedelta(365), timedelta(15)
"""A cohort is of the same season if it was scored so near to a year before."""


@dataclass(frozen=True)
class Season:
    """A labelled cohort of a year before."""

    outcomes: Snapshot
    gold: Snapshot
    treatments: Snapshot | None

    def rows(self, learned: set[str]) -> pd.DataFrame | None:
        """Its `untreated` rows without the customers that a model `learned` from; None where nobody stands for some."""
        rows = self.outcomes.pandas()
        if self.treatments is not None:
            rows = rows.merge(self.treatments.pandas([ID, "control_share"]), on=ID, how="left")
        cohort = Cohort(rows[~rows[ID].isin(learned)].reset_index(drop=True))
        return untreated(cohort, self.gold) if cohort.replaceable else None


def year_before(day: date, lake: Lake) -> Season | None:
    """The labelled cohort nearest to a year before `day`; None without one, or where its gold is gone."""
    off = {then: abs(day - YEAR - then) for then in lake.dates("outcomes")}
    then = min(off, key=off.__getitem__, default=day)
    if then == day or off[then] > NEAR:
        return None
    outcomes = lake.current("outcomes", then)
    try:
        gold = lake.by_digest(outcomes.manifest.built_from["gold_master"], "gold_master")
    except LakeError:
        return None
    return Season(outcomes, gold, lake.find("treatments", then))


def untreated(cohort: Cohort, gold: Snapshot) -> pd.DataFrame:
    """Gold of the customers of a cohort without an offer, with `churn` and `stands` (how many each stands for)."""
    free = cohort.untreated
    rows = gold.pandas().set_index(ID).loc[free.rows[ID]].reset_index()
    return rows.assign(**{LABEL: free.rows[LABEL].to_numpy(), STANDS: free.weights})


def differing(model: ChurnModel, before: pd.DataFrame, after: pd.DataFrame, level: float) -> Concept:
    """`concept_drift` of two samples of gold rows with labels, by the model's scores, and input by input."""
    scored = (model.predict(rows).join(rows.filter([LABEL, STANDS])) for rows in (before, after))
    return concept_drift(next(scored), next(scored), level, tested_inputs(model, before, after))

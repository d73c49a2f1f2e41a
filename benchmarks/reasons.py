"""Level, slope, rest and reasons: how often each rings where only time passed, and where customers leave for others.

A model (E5 XGBoost, published parameters) learns from one drawn utility of 6,000 customers; 4,000 customers of a second
one are its holdout, and as many of a third one as leave some 300 churners are the cohort, on the same day or up to half
a year later. Beside it stand three worlds that the simulator did not draw (tests/worlds.py); their quiet month differs
by a season of 0.4 log odds, their other reason adds 0.6 log odds per standard deviation of consumption's rank. Labels
are drawn again from the true probabilities for every repeat; the customers stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from benchmarks.estimate import fitted
from benchmarks.utility import AS_OF, drawn
from spanishgas.config.policy import load_policy
from spanishgas.config.search import ModelKind, load_search
from spanishgas.evaluation.inference import Z, wilson
from spanishgas.monitoring.concept import Concept, concept_drift
from spanishgas.monitoring.reasons import tested_inputs
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from tests.worlds import WORLDS, world

CUSTOMERS, HELD, CHURNERS, LEVEL, REPEATS = 6_000, 4_000, 300, 0.01, 200
MARCH, JUNE = date(2025, 3, 31), date(2025, 6, 30)
LATER = {
    "the same day": (AS_OF, "none"),
    "a quarter later": (MARCH, "none"),
    "half a year later": (JUNE, "none"),
    "a quarter later, dearer": (MARCH, "prices"),
    "other reasons at half strength": (AS_OF, "concept:0.5"),
    "other reasons": (AS_OF, "concept"),
    "a quarter later, other reasons": (MARCH, "concept"),
}
SEASON, REASON = 0.4, 0.6
PARTS = ("level", "slope", "rest", "reasons", "unfamiliar", "retrain", "recalibrate")


class Sample(NamedTuple):
    """Customers as the model takes them, and their true probabilities."""

    rows: pd.DataFrame
    truth: np.ndarray


class Cohort(NamedTuple):
    """A model, its holdout and a cohort."""

    words: str
    model: ChurnModel
    held: Sample
    later: Sample


def simulated(quick: bool) -> Iterator[Cohort]:
    """The simulator's utilities."""
    size = 1_500 if quick else CUSTOMERS
    model = fitted(size, 1, 60 if quick else 300)
    held = _some(drawn(size, 2), HELD)
    for words, (day, shift) in LATER.items():
        utility = drawn(size, 3, day, shift)
        yield Cohort(f"simulator, {words}", model, held, _some(utility, int(CHURNERS / utility.true.mean())))
        drawn.cache_clear()


def _some(utility: tuple[pd.DataFrame, pd.Series], most: int) -> Sample:
    gold, true = utility
    rows = gold.sample(min(most, len(gold)), random_state=1).reset_index(drop=True)
    return Sample(rows, true.loc[rows["customer_id"]].to_numpy())


def other_worlds(quick: bool) -> Iterator[Cohort]:
    """The three worlds, quiet and with another reason."""
    size, trees = (1_500, 60) if quick else (CUSTOMERS, 300)
    for name in WORLDS:
        drawn_world = world(name, 3 * size, 1)
        frame, truth = drawn_world.frame, drawn_world.truth
        learn, held, later = (slice(at * size, (at + 1) * size) for at in range(3))
        X = matrix(frame[learn], list(drawn_world.kinds), drawn_world.kinds)
        y = frame["churn"][learn].to_numpy()
        space = load_search().of(ModelKind.XGBOOST)
        training = Training(X, y, list(drawn_world.kinds), drawn_world.kinds, ModelKind.XGBOOST, 5, 1)
        model = fit_chosen(training, space.fixed | space.start | {"n_estimators": trees}, load_policy()).model
        reference = Sample(frame[held][:HELD], truth[held][:HELD])
        kwh = frame["kwh"][later].rank(pct=True).to_numpy()
        odds = logit(truth[later]) + SEASON
        for words, moved in (("a season", 0.0), ("another reason", REASON)):
            at = expit(odds + moved * (kwh - 0.5) * np.sqrt(12))
            most = int(CHURNERS / at.mean())
            yield Cohort(f"{name}, {words}", model, reference, Sample(frame[later][:most], at[:most]))


def found(cohort: Cohort, repeats: int) -> Iterator[Concept]:
    """What the tests say, of so many draws of both samples' labels."""
    model, rng = cohort.model, np.random.default_rng(7)
    inputs = tested_inputs(model, cohort.held.rows, cohort.later.rows)
    scored = [model.predict(sample.rows) for sample in (cohort.held, cohort.later)]
    for _ in range(repeats):
        draws = [(rng.random(len(of.truth)) < of.truth).astype("int64") for of in (cohort.held, cohort.later)]
        before, after = (frame.assign(churn=y) for frame, y in zip(scored, draws, strict=True))
        yield concept_drift(before, after, LEVEL, inputs=inputs)


def row(cohort: Cohort, repeats: int) -> str:
    """A line of the table: the share of repeats in which each part rang."""
    counts = dict.fromkeys(PARTS, 0)
    for one in found(cohort, repeats):
        rang = {name: p < LEVEL for name, p in one.gap.items()}
        rang |= {"reasons": bool(one.reasons), "unfamiliar": bool(one.unfamiliar)}
        rang |= {verb: one.remedy == verb for verb in ("retrain", "recalibrate")}
        for name in PARTS:
            counts[name] += rang[name]
    cells = []
    for name in PARTS:
        low, high = wilson(counts[name], repeats, Z)
        cells.append(f"{counts[name] / repeats:.1%} ({low:.1%} to {high:.1%})")
    return f"| {cohort.words} | {cohort.later.truth.sum():.0f} | " + " | ".join(cells) + " |"


def run(quick: bool) -> None:
    """Print the table."""
    print(f"level {LEVEL:g}, {2 if quick else REPEATS} draws of the labels per row")
    print("| cohort | churners | " + " | ".join(PARTS) + " |\n|---|---|" + "---|" * len(PARTS))
    for cohorts in (other_worlds, simulated):
        for cohort in cohorts(quick):
            print(row(cohort, 2 if quick else REPEATS), flush=True)

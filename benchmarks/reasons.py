"""Level, slope, rest and reasons: how often each rings where only time passed, and where customers leave for others.

A model (E5 XGBoost, published parameters) learns from one drawn utility of 6,000 customers. Each repeat draws 4,000
customers of a second one as its holdout, and as many of a third one as leave some 300 churners as the cohort (on the
same day or up to half a year later), and their labels from the true probabilities. On the same day both are drawn from
both utilities, so that they differ by chance alone; of later days the 6,000 customers stay the same, and with them what
these happen to have in common. Beside it stand three worlds that the simulator did not draw (tests/worlds.py): there
the quiet month differs by a season of 0.4 log odds, another reason adds 0.6 log odds per standard deviation of the rank
of consumption.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.estimate import fitted
from benchmarks.utility import AS_OF, drawn
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.evaluation.inference import Z, wilson
from spanishgas.monitoring.concept import Concept, concept_drift
from spanishgas.monitoring.reasons import TestedInput, tested_inputs
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from tests.worlds import WORLDS, world

CUSTOMERS, HELD, CHURNERS, LEVEL, REPEATS, SHIFTED = 6_000, 4_000, 300, 0.01, 200, 50
MARCH, JUNE = date(2025, 3, 31), date(2025, 6, 30)
LATER = {
    "the same day": (AS_OF, "none"),
    "a quarter later": (MARCH, "none"),
    "half a year later": (JUNE, "none"),
    "other reasons": (AS_OF, "concept"),
    "other reasons at half strength": (AS_OF, "concept:0.5"),
    "a quarter later, other reasons": (MARCH, "concept"),
    "a quarter later, dearer": (MARCH, "prices"),
}
SEASON, REASON = 0.4, 0.6
PARTS = ("level", "slope", "rest", "reasons", "unfamiliar", "retrain", "recalibrate")
Array = NDArray[np.float64]


class Pool(NamedTuple):
    """Customers of two samples, the reference's first, and their probabilities of leaving in either."""

    words: str
    model: ChurnModel
    held: pd.DataFrame
    later: pd.DataFrame
    before: Array
    after: Array
    quiet: bool
    mixed: bool
    """Whether a customer may be drawn for either sample."""


def simulated(quick: bool) -> Iterator[Pool]:
    """The simulator's utilities."""
    size = 1_500 if quick else CUSTOMERS
    model, held = fitted(size, 1, 60 if quick else 300), drawn(size, 2)
    for words, (day, shift) in LATER.items():
        later = drawn(size, 3, day, shift)
        before, after = (utility.gold.reset_index(drop=True) for utility in (held, later))
        truth = np.concatenate([u.true.loc[u.gold["customer_id"]].to_numpy() for u in (held, later)])
        quiet = shift == "none"
        yield Pool(f"simulator, {words}", model, before, after, truth, truth, quiet, quiet and day == AS_OF)
        drawn.cache_clear()


def other_worlds(quick: bool) -> Iterator[Pool]:
    """The three worlds, quiet and with another reason."""
    size, trees = (1_500, 60) if quick else (CUSTOMERS, 300)
    for name in WORLDS:
        frame, truth = (drawn_world := world(name, 3 * size, 1)).frame, np.asarray(drawn_world.truth)[size:]
        kinds, learned = drawn_world.kinds, frame[:size]
        space, y = load_search().of(XGBOOST), learned["churn"].to_numpy()
        training = Training(matrix(learned, list(kinds), kinds), y, list(kinds), kinds, XGBOOST, 5, 1)
        model = fit_chosen(training, space.fixed | space.start | {"n_estimators": trees}, load_policy()).model
        held, later = (frame[at * size : (at + 1) * size].reset_index(drop=True) for at in (1, 2))
        kwh = frame["kwh"][size:].rank(pct=True).to_numpy()
        for words, moved in (("a season", 0.0), ("another reason", REASON)):
            after = expit(logit(truth) + SEASON + moved * (kwh - 0.5) * np.sqrt(12))
            yield Pool(f"{name}, {words}", model, held, later, truth, after, moved == 0, True)


def found(pool: Pool, repeats: int) -> Iterator[Concept]:
    """What the tests say, of so many draws of customers and labels."""
    rng, split = np.random.default_rng(7), len(pool.held)
    inputs = tested_inputs(pool.model, pool.held, pool.later)
    scored = pool.model.predict(pd.concat([pool.held, pool.later], ignore_index=True))
    rows = np.arange(len(scored))
    for _ in range(repeats):
        order = rng.permutation(rows) if pool.mixed else rng.permutation(rows[:split])
        rest = order[HELD:] if pool.mixed else rng.permutation(rows[split:])
        taken = [order[:HELD], rest[: int(CHURNERS / pool.after[rest].mean())]]
        both = np.concatenate(taken)
        of_these = {name: TestedInput(one.columns[both], one.moved) for name, one in inputs.items()}
        samples = [
            scored.iloc[part].assign(churn=(rng.random(len(part)) < truth[part]).astype("int64"))
            for part, truth in zip(taken, (pool.before, pool.after), strict=True)
        ]
        yield concept_drift(samples[0], samples[1], LEVEL, of_these)


def row(pool: Pool, repeats: int) -> str:
    """A line of the table: the share of repeats in which each part rang."""
    counts = dict.fromkeys(PARTS, 0)
    for one in found(pool, repeats):
        rang = {name: p < LEVEL for name, p in one.gap.items()}
        rang |= {"reasons": bool(one.reasons), "unfamiliar": bool(one.unfamiliar)}
        rang |= {verb: one.remedy == verb for verb in ("retrain", "recalibrate")}
        for name in PARTS:
            counts[name] += rang[name]
    cells = []
    for name in PARTS:
        low, high = wilson(counts[name], repeats, Z)
        cells.append(f"{counts[name] / repeats:.1%} ({low:.1%} to {high:.1%})")
    return f"| {pool.words} | {repeats} | " + " | ".join(cells) + " |"


def run(quick: bool) -> None:
    """Print the table."""
    print(f"level {LEVEL:g}, about {CHURNERS} churners in each cohort")
    print("| cohort | repeats | " + " | ".join(PARTS) + " |\n|---|---|" + "---|" * len(PARTS))
    for pools in (other_worlds, simulated):
        for pool in pools(quick):
            print(row(pool, 2 if quick else REPEATS if pool.quiet else SHIFTED), flush=True)

"""What opening one holdout again and again costs: how far its average precision is above the truth after 20 openings.

A repeat draws 4,000 held-out customers, a tenth of them churners, and 21 versions that state the true log odds with
noise of their own, as much for all: none is better. The first is champion, and the others come one after another.
Two rules choose by the holdout:

    gate     the next version becomes champion where the paired interval's lower end lies above -0.04 (policy.yaml)
    ahead    it becomes champion where it ranks better on the holdout, so that the best of 21 is at the end

The truth is average precision on 100,000 fresh customers. The width of the paired interval is that of the first repeat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import average_precision_score

from spanishgas.config.policy import load_policy
from spanishgas.evaluation.inference import Predictions, differences

OPENINGS, REPEATS, HELD, FRESH, NOISE = 20, 200, 4_000, 100_000, 0.5
Array = NDArray[np.float64]


def customers(rng: np.random.Generator, rows: int) -> tuple[Array, NDArray[np.int64]]:
    """True log odds and labels."""
    odds = rng.normal(-4.3, 2.6, rows)
    return odds, (rng.random(rows) < expit(odds)).astype("int64")


def scores(odds: Array, rng: np.random.Generator) -> Array:
    """What one more version says of customers."""
    said: Array = odds + NOISE * rng.normal(size=len(odds))
    return said


def below(seed: int) -> float:
    """How far the paired interval's lower end lies below the difference of two versions."""
    rng = np.random.default_rng(seed)
    odds, y = customers(rng, HELD)
    ours, theirs = (Predictions(expit(scores(odds, rng)), np.zeros(HELD)) for _ in range(2))
    between = differences(y, ours, theirs, seed)["average_precision"]
    return between.value - between.low


def repeat(seed: int, half: float) -> dict[str, float]:
    """Average precision on the holdout less the truth, by rule."""
    rng = np.random.default_rng(seed)
    (odds, y), (fresh_odds, fresh_y) = customers(rng, HELD), customers(rng, FRESH)
    truth = float(average_precision_score(fresh_y, scores(fresh_odds, rng)))
    shown = [float(average_precision_score(y, scores(odds, rng))) for _ in range(OPENINGS + 1)]
    margin, gate = load_policy().gate.champion.average_precision_margin, shown[0]
    for challenger in shown[1:]:
        gate = challenger if challenger - gate - half >= -margin else gate
    return {"first": shown[0] - truth, "gate": gate - truth, "ahead": max(shown) - truth}


def run(quick: bool) -> None:
    """Print the optimism of each rule."""
    repeats = 5 if quick else REPEATS
    half = below(1)
    drawn = [repeat(seed, half) for seed in range(1, repeats + 1)]
    print(f"holdout less truth in average precision after {OPENINGS} openings, {repeats} repeats")
    print(
        f"the paired interval reaches {half:.4f} below the difference; the gate's margin is in policy.yaml\n"
    )
    print("| rule | mean | Monte Carlo error | spread between repeats |")
    print("|---|---|---|---|")
    for rule in drawn[0]:
        values = np.array([one[rule] for one in drawn])
        spread = values.std(ddof=1)
        print(f"| {rule} | {values.mean():+.4f} | {spread / np.sqrt(repeats):.4f} | {spread:.4f} |")

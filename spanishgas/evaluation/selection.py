"""The one rule that chooses, the simplest experiment within one paired standard error of the best, and its ladder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spanishgas.evaluation.metrics import fold_interval
from spanishgas.rendering import as_markdown
from spanishgas.training.folds import fold_error


@dataclass(frozen=True)
class Rung:
    """An experiment with one model: where its run is, how many features it reads, and its score in each fresh fold."""

    experiment: str
    model: str
    run_id: str
    features: int
    fold_scores: tuple[float, ...]
    repeats: int = 1
    """How many times over the fresh folds divide the same rows."""
    below: tuple[str, ...] = ()
    """The experiments that this one stands on, nearest first."""

    @property
    def score(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.fold_scores))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the score, corrected for the rows that folds share."""
        return fold_interval(self.fold_scores, self.repeats)


@dataclass(frozen=True)
class Compared:
    """A rung against the best one: mean paired difference over the folds and its corrected standard error."""

    rung: Rung
    behind: float
    standard_error: float
    chosen: bool


def choose(rungs: Sequence[Rung]) -> list[Compared]:
    """Every rung compared with the best, in the order given; exactly one is chosen.

    All rungs must have been scored on the same folds: only then do the differences cancel what the folds share. Among
    those within one standard error the fewest features win, then the higher score, then the name.

    >>> a = Rung("E4", "xgboost", "a", 50, (0.71, 0.74, 0.72))
    >>> b = Rung("E5", "xgboost", "b", 56, (0.72, 0.74, 0.72))
    >>> [c.rung.experiment for c in choose([a, b]) if c.chosen]
    ['E4']
    """
    best = max(rungs, key=lambda r: (r.score, -r.features, r.experiment, r.model))
    gaps = [np.subtract(best.fold_scores, r.fold_scores) for r in rungs]
    errors = [fold_error(gap.tolist(), best.repeats) for gap in gaps]
    within = [r for r, g, e in zip(rungs, gaps, errors, strict=True) if g.mean() <= e]
    winner = min(within, key=lambda r: (r.features, -r.score, r.experiment, r.model))
    return [Compared(r, float(g.mean()), e, r is winner) for r, g, e in zip(rungs, gaps, errors, strict=True)]


@dataclass(frozen=True)
class RungStep:
    """A rung against the one below it with the same model: paired difference over the folds, 95 % interval."""

    rung: Rung
    below: Rung
    gain: float
    low: float
    high: float

    @property
    def words(self) -> str:
        """Whether the step pays, as a sentence."""
        if self.low > 0:
            verdict = "pays"
        elif self.high < 0:
            verdict = "costs"
        elif self.rung.features == self.below.features and self.low == self.high:
            verdict = "changes nothing, the model reads the same features"
        else:
            verdict = "cannot be told from noise on these folds"
        gain = f"{self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f})"
        return f"{self.below.experiment} to {self.rung.experiment} with {self.rung.model} {verdict}: {gain}."


def steps(rungs: Sequence[Rung]) -> list[RungStep]:
    """Every rung against the nearest one at hand that it stands on, with the same model, on the same folds."""
    ladder = {(r.experiment, r.model): r for r in rungs}
    ladder_steps = []
    for rung in rungs:
        names = [(name, rung.model) for name in rung.below]
        if below := next((ladder[name] for name in names if name in ladder), None):
            gains = np.subtract(rung.fold_scores, below.fold_scores).tolist()
            ladder_steps.append(
                RungStep(rung, below, float(np.mean(gains)), *fold_interval(gains, rung.repeats))
            )
    return ladder_steps


PROTOCOL = (
    "Every search used the same folds. The scores are of the winners refitted on fresh repeated folds that no search "
    "saw, the same for all rungs; intervals and the paired standard error allow for the rows that folds share."
)


def ladder_words(compared: Sequence[Compared]) -> str:
    """The ladder as Markdown: what it found, its table, how it was measured, and whether each tier pays."""
    pays = "\n".join(f"- {step.words}" for step in steps([c.rung for c in compared]))
    table = as_markdown(ladder_table(compared))
    return "\n\n".join(part for part in (sentence(compared), table, PROTOCOL, pays) if part)


def sentence(compared: Sequence[Compared]) -> str:
    """What the ladder found, in words."""
    best = min(compared, key=lambda c: c.behind)
    pick = next(c for c in compared if c.chosen)
    chosen = f"{pick.rung.experiment} {pick.rung.model} ({pick.rung.features} features)"
    if pick.rung is best.rung:
        return f"{chosen} is best, and no simpler rung is within one paired standard error of it."
    return (
        f"{chosen} is the simplest within one paired standard error ({pick.standard_error:.4f}) of the best, "
        f"{best.rung.experiment} {best.rung.model}: it is {pick.behind:.4f} behind."
    )


def ladder_table(compared: Sequence[Compared]) -> pd.DataFrame:
    """The ladder as a table, one row per rung."""
    gains = {step.rung.run_id: step for step in steps([c.rung for c in compared])}
    rows = []
    for c in compared:
        step = gains.get(c.rung.run_id)
        rows.append(
            {
                "experiment": c.rung.experiment,
                "model": c.rung.model,
                "features": c.rung.features,
                "average precision": c.rung.score,
                "95 % interval": "{:.4f} to {:.4f}".format(*c.rung.interval),
                "behind the best": c.behind,
                "paired s.e.": c.standard_error,
                "over": step.below.experiment if step else "",
                "gain": f"{step.gain:+.4f}" if step else "",
                "95 % interval of the gain": f"{step.low:.4f} to {step.high:.4f}" if step else "",
                "chosen": "chosen" if c.chosen else "",
            }
        )
    return pd.DataFrame(rows)

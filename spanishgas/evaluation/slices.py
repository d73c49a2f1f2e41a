"""Where a model is worse than elsewhere: slices of the held-out customers, each with intervals and two tests.

- ranking: as many churners and stayers as the slice has, drawn at random from all held-out customers, rank this badly
  with probability p. The draws have the slice's churn rate, with which average precision moves.
- calibration: its probabilities being right, a count of churners this far off has probability p (Poisson binomial).

Holm's step-down procedure (1979) over all tests of all slices keeps the chance of any false flag at 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import poisson_binom

from spanishgas.config.policy import Dimension
from spanishgas.evaluation.inference import Z, figures, holm, wilson
from spanishgas.evaluation.metrics import Array, Labels, average_precisions

Mask = NDArray[np.bool_]
LEVEL = 0.05
FEWEST = 5
"""Churners, and stayers, from which a slice is judged."""
BATCH, MOST_DRAWS, ENOUGH = 100, 10_000, 10
MOST_VALUES = 12
COLUMNS: Mapping[Dimension, str] = {
    "segment": "segment",
    "channel": "sales_channel",
    "competition": "is_high_competition_province",
    "tenure": "tenure_bucket",
    "renewal": "renewal_bucket",
    "fuel": "is_dual_fuel",
    "province": "province_code",
}
"""Dimension -> column."""
WORDS: Mapping[str, Mapping[str, str]] = {
    "competition": {"0": "low", "1": "high"},
    "fuel": {"0": "single", "1": "dual"},
}


class Slice(BaseModel):
    """One slice of the held-out customers; what cannot be told of so few is None."""

    model_config = ConfigDict(frozen=True)

    dimension: str
    value: str
    rows: int
    churners: int
    flagged: int
    """Customers whose probability reaches the threshold."""
    caught: int
    """Churners among them."""
    average_precision: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval, by `inference.figures`."""
    expected: float | None = None
    """Average precision of random draws with as many churners and stayers."""
    mean_probability: float
    p_ranking: float | None = None
    p_calibration: float | None = None
    ranks_worse: bool = False
    miscalibrated: bool = False

    @property
    def worse(self) -> bool:
        """Whether the slice is worse than chance would allow."""
        return self.ranks_worse or self.miscalibrated

    @property
    def words(self) -> str:
        """The verdict, in a few words."""
        if self.p_ranking is None:
            return "too few to judge"
        said = ["ranks worse"] * self.ranks_worse
        if self.miscalibrated:
            said.append(
                f"probabilities too {'low' if self.churners > self.rows * self.mean_probability else 'high'}"
            )
        return ", ".join(said) or "no worse than chance"


def groups(rows: pd.DataFrame, kinds: Mapping[str, str] = MappingProxyType({})) -> dict[str, pd.Series]:
    """The slice of each customer by dimension, as text ("unknown" for null); those without a column are left out.

    A table with none of these columns is divided by its first categories and flags in `kinds`, or is one slice.
    """
    by_dimension: dict[str, pd.Series] = {}
    own = [
        f for f, kind in kinds.items() if kind in ("category", "flag") and rows[f].nunique() <= MOST_VALUES
    ]
    columns: dict[str, str] = {d: c for d, c in COLUMNS.items() if c in rows}
    columns = columns or {f: f for f in own[: len(COLUMNS)]}
    if not columns:
        return {"customers": pd.Series("all", rows.index, dtype=object)}
    for dimension, column in columns.items():
        text = rows[column].astype("string").fillna("unknown")
        by_dimension[dimension] = text.replace(dict(WORDS.get(dimension, {}))).astype(object)
    return by_dimension


def measure(
    y: Labels, probability: Array, flag: Labels, by: Mapping[str, pd.Series], seed: int
) -> list[Slice]:
    """Every slice of every dimension in `by`, in order of dimension and name, with its flags."""
    rng = np.random.default_rng(seed)
    measured = []
    for dimension, value in by.items():
        names = value.to_numpy()
        for name in sorted(set(names)):
            measured.append(_measure(dimension, str(name), names == name, y, probability, flag, rng))
    return _flagged(measured)


def _measure(
    dimension: str,
    name: str,
    here: Mask,
    y: Labels,
    probability: Array,
    flag: Labels,
    rng: np.random.Generator,
) -> Slice:
    labels, scores, flags = y[here], probability[here], flag[here]
    churners, rows, caught = int(labels.sum()), len(labels), int(labels @ flags)
    one = Slice(
        dimension=dimension,
        value=name,
        rows=rows,
        churners=churners,
        flagged=int(flags.sum()),
        caught=caught,
        mean_probability=float(scores.mean()),
    )
    if not FEWEST <= churners <= rows - FEWEST:
        return one
    points, intervals = figures(lambda w: {"value": average_precisions(w * labels, w, scores)}, labels, rng)
    p_ranking, expected = _as_bad(points["value"], here, y, probability, rng)
    law = poisson_binom(scores)
    as_far = 2 * min(law.cdf(churners), law.sf(churners - 1))
    judged = {"average_precision": points["value"], "interval": intervals["value"], "expected": expected}
    return one.model_copy(update=judged | {"p_ranking": p_ranking, "p_calibration": float(min(1.0, as_far))})


def _as_bad(
    value: float, here: Mask, y: Labels, score: Array, rng: np.random.Generator
) -> tuple[float, float]:
    """Probability that as many churners and stayers, drawn at random, rank as badly; and what they reach on average.

    Draws end once ten were as bad (Besag & Clifford 1991): only a slice that stands out needs all of them.
    """
    as_bad, drawn = 0, list[Array]()
    while as_bad < ENOUGH and BATCH * len(drawn) < MOST_DRAWS:
        taken = np.empty((BATCH, len(y)))
        for of in (y == 0, y == 1):
            taken[:, of] = rng.permuted(np.tile(here[of], (BATCH, 1)), axis=1)
        drawn.append(average_precisions(taken * y, taken, score))
        as_bad += int((drawn[-1] <= value).sum())
    draws = np.concatenate(drawn)
    return (as_bad + 1) / (len(draws) + 1), float(draws.mean())


def _flagged(slices: Sequence[Slice]) -> list[Slice]:
    tests = {
        (number, flag): p
        for number, one in enumerate(slices)
        for flag, p in (("ranks_worse", one.p_ranking), ("miscalibrated", one.p_calibration))
        if p is not None
    }
    flags: dict[int, dict[str, bool]] = {}
    for (number, flag), p in holm(tests).items():
        flags.setdefault(number, {})[flag] = p <= LEVEL
    return [one.model_copy(update=flags.get(number, {})) for number, one in enumerate(slices)]


def table(slices: Sequence[Slice]) -> pd.DataFrame:
    """The slices as a table for people."""
    return pd.DataFrame(
        [
            {
                "dimension": s.dimension,
                "slice": s.value,
                "customers": s.rows,
                "churners": s.churners,
                "average precision": _between(s.average_precision, s.interval),
                "by chance": "" if s.expected is None else f"{s.expected:.3f}",
                "recall": _rate(s.caught, s.churners),
                "mean probability": f"{s.mean_probability:.3f}",
                "churn rate": f"{s.churners / s.rows:.3f}",
                "verdict": s.words,
            }
            for s in slices
        ]
    )


def rates(slices: Sequence[Slice], dimensions: Sequence[Dimension]) -> pd.DataFrame:
    """What the model does to the customers of each slice, with Wilson's 95 % interval of each rate."""
    return pd.DataFrame(
        [
            {
                "dimension": s.dimension,
                "slice": s.value,
                "customers": s.rows,
                "flagged": _rate(s.flagged, s.rows),
                "of them churners": _rate(s.caught, s.flagged),
                "churners flagged": _rate(s.caught, s.churners),
                "stayers flagged": _rate(s.flagged - s.caught, s.rows - s.churners),
                "mean probability": f"{s.mean_probability:.3f}",
                "churn rate": _rate(s.churners, s.rows),
            }
            for s in slices
            if s.dimension in dimensions
        ]
    )


def _rate(count: int, of: int) -> str:
    return _between(count / of, wilson(count, of, Z)) if of else "none"


def _between(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return ""
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"

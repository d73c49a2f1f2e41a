"""Checks of what the columns say of the label, one by one and in pairs.

They read the training side alone; `made_of_the_label` reads both, since gold is built of both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import beta, gamma
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from spanishgas.config.policy import Waiver
from spanishgas.evaluation.leakage.finding import ALPHA, FOLDS, LeakageFinding, Sides
from spanishgas.evaluation.metrics import Array, Labels
from spanishgas.training.folds import folds
from spanishgas.training.matrix import matrix

MAX_SKILL = 0.25
"""How far one column alone may go from chance to perfect average precision. All 15 features of the contract together
went 0.23 of it in the replaced system (average precision 0.305 at a churn rate of 0.0996)."""
MAX_RATE, FEWEST_RATE = 0.75, 0.1
"""Churn rate that a value may surely exceed, and, as a share of that of all customers, fall below without a churner."""
SMOOTHING, REPEATED, ROWS, FEWEST_VALUES = 5.0, 0.5, 5, 12
"""Customers of the mean churn rate added to each value; distinct values by row up to which a number repeats itself;
rows from which a value is judged, and such values from which their spread is."""
MAX_PAIR, LEVELS, BINS, SCORED = 0.4, 40, 16, 5
"""Skill that two columns may reach together, twice that of the strongest honest pair of the tests' worlds (0.19);
most values of a column that is paired as it is; ranges that other numbers are cut into; pairs that are scored."""
MISSING = "number of missing values"
SOURCE = "find out how and when the column is written; leave it out, or declare it in policy.yaml's waivers"
Codes = NDArray[np.int64]


def columns(sides: Sides, waivers: Sequence[Waiver]) -> list[LeakageFinding]:
    """The findings on columns that nobody declared, then the strongest column of each waiver that names inputs."""
    X, y = _inputs(sides.trained, sides)
    waived = {w.check: [f for f in w.features if f in X] for w in waivers}
    others = X.drop(columns=[f for names in waived.values() for f in names])
    findings: list[LeakageFinding] = []
    for judge in CHECKS if others.shape[1] else ():
        rows, labels = _inputs(sides.both, sides) if judge is made_of_the_label else (X, y)
        findings += judge(rows[others.columns], labels, sides.seed)
        others = others.drop(
            columns=[f for one in findings if one.found for f in one.features if f in others]
        )
    declared = [
        _strongest(name, skills(X[names], y, sides.seed), declared=True)
        for name, names in waived.items()
        if names
    ]
    return findings + declared


def _inputs(rows: pd.DataFrame, sides: Sides) -> tuple[pd.DataFrame, Labels]:
    return matrix(rows, sides.features, sides.kinds), rows["churn"].to_numpy(dtype="int64")


def single_features(X: pd.DataFrame, y: Labels, seed: int) -> list[LeakageFinding]:
    """How well the strongest column predicts alone; how many values a row lacks counts as a column."""
    strength = skills(X, y, seed)
    strength[MISSING] = skill(X.isna().sum(axis=1), y, seed)
    return [_strongest("single_feature", strength, declared=False)]


def _strongest(name: str, strength: pd.Series, *, declared: bool) -> LeakageFinding:
    beyond = strength[strength > MAX_SKILL].sort_values(ascending=False)
    top = str(strength.idxmax())
    return LeakageFinding(
        name=name,
        value=float(strength.max()),
        limit=MAX_SKILL,
        words=f"{top} alone goes this share of the way from chance to perfect average precision",
        way_out=SOURCE,
        features=tuple(map(str, beyond.index)),
        declared=declared,
    )


def skills(X: pd.DataFrame, y: Labels, seed: int) -> pd.Series:
    """The skill of each column."""
    return pd.Series({name: skill(X[name], y, seed) for name in X})


def skill(column: pd.Series, y: Labels, seed: int) -> float:
    """(average precision - churn rate) / (1 - churn rate) of what one column says out of fold.

    That is the most of a small tree on a number's size, of whether it has decimals, cents or more, and of the churn
    rate of each value where values repeat: codes have no order that a tree could cut.
    """
    number, codes = pd.api.types.is_numeric_dtype(column), pd.factorize(column, use_na_sentinel=False)[0]
    scores: list[Array] = []
    if number:
        values = column.to_numpy(dtype="float64")
        tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=10, random_state=seed % 2**32)
        parts = folds(y, FOLDS, seed)
        scores.append(cross_val_predict(tree, values[:, None], y, cv=parts, method="predict_proba")[:, 1])
        decimals = [np.isclose(values, values.round(digits), rtol=0, atol=1e-9) for digits in (0, 2)]
        scores.append(target_statistics(decimals[0] + decimals[1] * 1, y, seed))
    if not number or codes.max() < REPEATED * len(y):
        scores.append(target_statistics(codes, y, seed))
    rate = float(y.mean())
    return (max(float(average_precision_score(y, score)) for score in scores) - rate) / (1 - rate)


def target_statistics(codes: Codes, y: Labels, seed: int) -> Array:
    """Churn rate of each row's value among the rows of the other folds, drawn to that of all by SMOOTHING customers."""
    said, size = np.empty(len(y)), int(codes.max()) + 1
    for train, valid in folds(y, FOLDS, seed):
        rows = np.bincount(codes[train], minlength=size)
        hits = np.bincount(codes[train], y[train], minlength=size)
        rates = (hits + SMOOTHING * y[train].mean()) / (rows + SMOOTHING)
        said[valid] = rates[codes[valid]]
    return said


@dataclass(frozen=True)
class Counts:
    """Rows and churners by value of one column; missing is a value."""

    value: NDArray[Any]
    rows: Array
    churners: Array


def counts(column: pd.Series, y: Labels) -> Counts:
    """Those of the values that ROWS customers have."""
    values = column.round(9) if pd.api.types.is_numeric_dtype(column) else column
    codes, names = pd.factorize(values, use_na_sentinel=False)
    rows, churners = np.bincount(codes), np.bincount(codes, y)
    often = rows >= ROWS
    return Counts(np.asarray(names)[often], rows[often].astype("float64"), churners[often].astype("float64"))


def pure_values(X: pd.DataFrame, y: Labels, seed: int) -> list[LeakageFinding]:
    """A value whose churn rate is surely above MAX_RATE, and one that no churner has though many should.

    By the exact bounds of Clopper & Pearson (1934), at ALPHA shared by all values.
    """
    by_column = {str(name): counts(X[name], y) for name in X}
    level = ALPHA / max(1, sum(len(of.value) for of in by_column.values()))
    enough = float(np.log(level) / np.log1p(-FEWEST_RATE * y.mean()))
    surely = {
        name: np.nan_to_num(beta.ppf(level, of.churners, of.rows - of.churners + 1))
        for name, of in by_column.items()
    }
    without = {name: np.where(of.churners == 0, of.rows, 0.0) for name, of in by_column.items()}
    words = "lower bound of the churn rate among customers with"
    return [
        _value("value_of_churners", by_column, surely, MAX_RATE, words),
        _value("value_of_stayers", by_column, without, enough, "customers, none of whom left, with"),
    ]


def _value(
    name: str, of: Mapping[str, Counts], values: Mapping[str, Array], limit: float, words: str
) -> LeakageFinding:
    most = {column: float(value.max(initial=0.0)) for column, value in values.items()}
    top = max(most, key=lambda column: most[column])
    example = of[top].value[values[top].argmax()] if len(values[top]) else "a repeated value"
    return LeakageFinding(
        name=name,
        value=most[top],
        limit=limit,
        words=f"{words} {top} = {example}",
        way_out=SOURCE,
        features=tuple(column for column, value in most.items() if value > limit),
    )


def made_of_the_label(X: pd.DataFrame, y: Labels, seed: int) -> list[LeakageFinding]:
    """A column whose values say the churn rate of those who have them more exactly than chance allows.

    Churners among n rows of one value vary by at least the binomial around any rate that an honest column could state.
    Around a rate computed from the labels themselves they do not: smoothed or not, it is linear in v, v / n and 1 / n
    (or so is the inverse logit of v, a weight of evidence). The sum of squared residuals has a gamma distribution of
    the binomial's mean and variance; its lower end at ALPHA, shared by all columns, is what chance allows.
    """
    by_column = {str(n): counts(X[n].dropna(), y[X[n].notna()]) for n in X.select_dtypes("number")}
    judged = {name: of for name, of in by_column.items() if len(of.value) >= FEWEST_VALUES}
    level, rate = ALPHA / max(1, 2 * len(judged)), float(y.mean())
    lacking = {
        (name, shape): _lacking(of, value, level)
        for name, of in judged.items()
        for shape, value in enumerate((of.value, expit(of.value + logit(rate))))
    }
    top = max(lacking, key=lambda one: float(np.subtract(*lacking[one])), default=("a number", 0))
    value, limit = lacking.get(top, (0.0, 1.0))
    return [
        LeakageFinding(
            name="made_of_the_label",
            value=value,
            limit=limit,
            words=f"share of chance that the churn rates by {top[0]} lack",
            way_out="encode categories by their churn rate inside the folds, never in gold",
            features=tuple(dict.fromkeys(name for (name, _), (v, most) in lacking.items() if v > most)),
        )
    ]


def _lacking(of: Counts, v: Array, level: float) -> tuple[float, float]:
    """1 - residual variance / the binomial's, and what that may be by chance."""
    n, k = of.rows, of.churners
    basis, root = np.column_stack([v, v / n, 1 / n, np.ones(len(n))]), np.sqrt(n)
    weighted = basis * (root[:, None] / np.maximum(np.abs(basis).max(axis=0), 1e-300))
    fitted = weighted @ np.linalg.lstsq(weighted, k / root)[0] / root
    p = np.clip(fitted, 0, 1)
    spread = p * (1 - p)
    mean = spread.sum() * (1 - basis.shape[1] / len(n))
    variance = (2 * spread**2 + spread * (1 - 6 * spread) / n).sum()
    if not mean > 0 or not variance > 0:
        return 0.0, 1.0
    rest = ((k - n * fitted) ** 2 / n).sum()
    allowed = gamma.ppf(level, mean**2 / variance, scale=variance / mean)
    return float(1 - rest / mean), float(1 - allowed / mean)


def pairs(X: pd.DataFrame, y: Labels, seed: int) -> list[LeakageFinding]:
    """How well the strongest pair of columns predicts together, of those that stand out most in a chi-square test.

    Numbers of many values enter by BINS ranges of their ranks.
    """
    codes = {str(name): few for name in X if (few := _few(X[name])) is not None}
    stands_out = {pair: _chi_square(codes[pair[0]], codes[pair[1]], y) for pair in combinations(codes, 2)}
    first = sorted(stands_out, key=lambda pair: -stands_out[pair])[:SCORED]
    rate = float(y.mean())
    strength = {
        pair: (
            average_precision_score(y, target_statistics(_joint(*(codes[c] for c in pair)), y, seed)) - rate
        )
        / (1 - rate)
        for pair in first
    }
    top = max(strength, key=lambda pair: strength[pair], default=("no", "pair"))
    value = float(strength.get(top, 0.0))
    return [
        LeakageFinding(
            name="pair_of_features",
            value=value,
            limit=MAX_PAIR,
            words=f"{top[0]} and {top[1]} go this share of the way from chance to perfect average precision",
            way_out=SOURCE,
            features=top if value > MAX_PAIR else (),
        )
    ]


def _few(column: pd.Series) -> Codes | None:
    if column.nunique() > LEVELS:
        if not pd.api.types.is_numeric_dtype(column):
            return None
        column = (column.rank(pct=True) * BINS).round()
    return np.asarray(pd.factorize(column, use_na_sentinel=False)[0], dtype="int64")


def _joint(one: Codes, other: Codes) -> Codes:
    return one * (int(other.max()) + 1) + other


def _chi_square(one: Codes, other: Codes, y: Labels) -> float:
    """The pair's chi-square in standard deviations of chance."""
    joint, rate = _joint(one, other), float(y.mean())
    rows, hits = np.bincount(joint), np.bincount(joint, y)
    rows, hits = rows[rows > 0], hits[rows > 0]
    free = max(1, len(rows) - 1)
    return float((((hits - rows * rate) ** 2 / (rows * rate * (1 - rate))).sum() - free) / np.sqrt(2 * free))


CHECKS: Sequence[Callable[[pd.DataFrame, Labels, int], list[LeakageFinding]]] = (
    single_features,
    pure_values,
    made_of_the_label,
    pairs,
)

"""`tune_uplift`: a table, a treatment and an outcome in, the effect of the treatment on each row out.

    outcome models, cross-fitted -> pseudo-outcomes -> effect models, cross-fitted -> convex mixture, out of fold

A doubly robust learner (Kennedy 2023): where the propensity is right, the pseudo-outcome of a row has the row's effect
as its mean, however wrong the outcome models are. Pseudo-outcomes of rows that are rarely treated, or whose outcome is
a toss-up, are noisier: all fits weigh them by inverse variance (Aitken 1935). The mixture is the one of least squared
distance to the pseudo-outcomes among all convex ones of the candidates and of the constant effect (a stack: van der
Laan, Polley & Hubbard 2007): where nothing tells effects apart, the constant is what remains.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from spanishgas.errors import DataError, UsageError
from spanishgas.settings import settings
from spanishgas.training.columns import LearnsColumns, table_of
from spanishgas.training.doubly_robust import pseudo_outcomes
from spanishgas.training.effects import EffectCandidate, candidates, mixed
from spanishgas.training.folds import Fold, folds
from spanishgas.training.matrix import preprocessor

Array = NDArray[np.float64]
OVERLAP, MOST_OUTSIDE = 0.01, 0.1
"""Propensities nearer to 0 or 1 count as this; more rows than this share of them have nobody to be compared with."""
WRONG = 0.02
"""How far their mean may lie from the share that was treated."""
FEWEST_TRIALS, QUANTILES, LEAST, CONSTANT = 3, 200, 0.05, "constant"


class Allocation(NamedTuple):
    """Who was treated, with what probability, and what became of them."""

    treated: Array
    y: NDArray[np.int64]
    propensity: Array


class FoldLearner(BaseEstimator):  # type: ignore[misc]
    """Every candidate, fitted on one fold's training rows; effect models read the risk beside the features.

    What is `views` here is the matrix for trees and the one for linear models.
    """

    def __init__(self, tried: list[EffectCandidate], rows: NDArray[np.intp]) -> None:
        self.tried = tried
        self.rows = rows

    def fit_outcomes(self, views: list[Array], seen: Allocation) -> Self:
        """Fit the models of the outcome."""
        models = [c for c in self.tried if c.of_outcome]
        t, y = seen.treated[self.rows], seen.y[self.rows]
        self.outcomes_ = [clone(c.estimator).fit(views[c.linear][self.rows], t, y) for c in models]
        self.outcome_views_ = [int(c.linear) for c in models]
        return self

    def fit_effects(self, views: list[Array], risk: Array, scores: Array, precision: Array) -> Self:
        """Fit the models of the effect on pseudo-outcomes `scores`, so precise each; `risk` is out of fold."""
        models = [c for c in self.tried if not c.of_outcome]
        target, at, weight = scores[self.rows], risk[self.rows], precision[self.rows]
        self.mean_, self.scale_ = float(target.mean()), float(target.std())
        unit, read = (target - self.mean_) / self.scale_, [np.column_stack([v[self.rows], at]) for v in views]
        self.effects_ = [clone(c.estimator).fit(read[c.linear], unit, sample_weight=weight) for c in models]
        self.effect_views_ = [int(c.linear) for c in models]
        return self

    def arms(self, views: list[Array]) -> Array:
        """P(y = 1) without and with the treatment by each outcome model, shape (models, rows, 2)."""
        pairs = zip(self.outcomes_, self.outcome_views_, strict=True)
        return np.stack([model.arms(views[view]) for model, view in pairs])

    def effects(self, views: list[Array], blend: Array) -> Array:
        """The effect by each candidate, those of outcomes first, shape (rows, candidates)."""
        arms = self.arms(views)
        read = [np.column_stack([view, _risk(np.tensordot(blend, arms, 1))]) for view in views]
        pairs = zip(self.effects_, self.effect_views_, strict=True)
        told = [self.mean_ + self.scale_ * model.predict(read[view]) for model, view in pairs]
        return np.column_stack([*(arms[:, :, 1] - arms[:, :, 0]), *told])


class UpliftModel(LearnsColumns, BaseEstimator):  # type: ignore[misc]
    """The effect of a treatment on P(y = 1), as the mixture of candidates that pseudo-outcomes out of fold call best.

    After `fit`:
    - `effect_`, `effect_error_`: the average effect and its standard error, doubly robust
    - `candidates_`: a row each with its name, its gain (weighted squared distance to the pseudo-outcomes, less than
      that of the constant effect by so much; below 0 it is worse than no model) and its weight
    - `pseudo_outcomes_`, `out_of_fold_`: what each row of the table showed, and its effect by models that have not seen
      it but for the mixture's weights
    - `treatments_`: the two kinds of treatment; the effect is that of the second
    """

    def __init__(self, *, trials: int = 25, folds: int = 5, seed: int = 0) -> None:
        self.trials = trials
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, treatment: Any, y: Any, propensity: Any = None) -> Self:
        """Learn the effect; DataError or UsageError says what is wrong with table, allocation or options."""
        for name, least in (("trials", FEWEST_TRIALS), ("folds", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, but got {getattr(self, name)}")
        table = table_of(X)
        self.treatments_, seen = allocation(len(table), treatment, y, propensity, self.folds)
        self._learn_columns(table)
        rows = self._prepared(table)
        self._views = [_view(rows, self.roles_, linear).fit(rows) for linear in (False, True)]
        views, tried = self._matrices(rows), candidates(self.trials, len(rows), self.seed)
        parts = folds((2 * seen.treated + seen.y).astype("int64"), self.folds, self.seed)
        self.learners_ = [FoldLearner(tried, part.train) for part in parts]
        arms = self._outcomes(views, seen, parts)
        taken = np.take_along_axis(arms, seen.treated.astype("int64")[None, :, None], 2)[:, :, 0]
        self.blend_ = mixed(taken.T, seen.y.astype("float64"))
        both = np.tensordot(self.blend_, arms, 1)
        self.pseudo_outcomes_ = pseudo_outcomes(seen.y, seen.treated, seen.propensity, both)
        precision = _precision(both, seen)
        effects = self._effects(views, _risk(both), precision, parts)
        self._mix(effects, precision, [c.name for of in (True, False) for c in tried if c.of_outcome == of])
        return self

    def predict(self, X: Any) -> Array:
        """The effect on each row's P(y = 1), shape (rows,); the mean over the models of all folds."""
        if not hasattr(self, "weights_"):
            raise NotFittedError("this UpliftModel is not fitted yet: call fit(X, treatment, y) first")
        table = self._checked(X)
        if len(table) == 0:
            return np.empty(0)
        views = self._matrices(self._prepared(table))
        effects = np.mean([one.effects(views, self.blend_) for one in self.learners_], axis=0)
        off: Array = (effects - self.means_) @ self.weights_[1:]
        return self.effect_ + self.stretch_ * off

    def without_rows(self) -> Self:
        """A copy that predicts the same and holds nothing of the rows that it learned from."""
        slim = copy.copy(self)
        slim.learners_ = [copy.copy(one) for one in self.learners_]
        for one in slim.learners_:
            one.tried, one.rows = [], np.empty(0, dtype="int64")
        for name in ("candidates_", "pseudo_outcomes_", "out_of_fold_"):
            delattr(slim, name)
        return slim

    def _matrices(self, rows: pd.DataFrame) -> list[Array]:
        return [np.ascontiguousarray(view.transform(rows), dtype="float64") for view in self._views]

    def _outcomes(self, views: list[Array], seen: Allocation, parts: list[Fold]) -> Array:
        """Every outcome model's P(y = 1) under both arms, out of fold."""
        told = _at_once(lambda one: one.fit_outcomes(views, seen), self.learners_)
        arms = np.empty((len(told[0].outcomes_), len(seen.y), 2))
        for one, part in zip(told, parts, strict=True):
            arms[:, part.valid] = one.arms([view[part.valid] for view in views])
        return arms

    def _effects(self, views: list[Array], risk: Array, precision: Array, parts: list[Fold]) -> Array:
        """Every candidate's effect, out of fold."""
        scores = self.pseudo_outcomes_
        told = _at_once(lambda one: one.fit_effects(views, risk, scores, precision), self.learners_)
        valid = [[view[part.valid] for view in views] for part in parts]
        apart = [one.effects(rows, self.blend_) for one, rows in zip(told, valid, strict=True)]
        effects: Array = np.concatenate(apart)[np.argsort(np.concatenate([part.valid for part in parts]))]
        return effects

    def _mix(self, effects: Array, precision: Array, names: list[str]) -> None:
        scores, root = self.pseudo_outcomes_, np.sqrt(precision)[:, None]
        self.effect_, self.effect_error_ = float(scores.mean()), float(scores.std() / np.sqrt(len(scores)))
        self.means_ = effects.mean(axis=0)  # an average is known better than any candidate tells it
        off = np.column_stack([np.zeros(len(scores)), effects, scores])
        *columns, target = ((off - np.average(off, axis=0, weights=precision)) * root).T
        self.weights_ = mixed(np.column_stack(columns), target)
        mixture = (effects - self.means_) @ self.weights_[1:]
        self.stretch_ = _stretch(mixture, scores)
        self.out_of_fold_ = self.effect_ + self.stretch_ * mixture
        loss = np.square(np.column_stack(columns) - target[:, None]).mean(axis=0)
        self.candidates_ = pd.DataFrame(
            {"name": [CONSTANT, *names], "gain": loss[0] - loss, "weight": self.weights_}
        )


def tune_uplift(
    X: Any,
    treatment: Any,
    y: Any,
    *,
    propensity: Any = None,
    trials: int = 25,
    folds: int = 5,
    seed: int = 0,
) -> UpliftModel:
    """What the treatment changes of each row's P(y = 1), learned on all of `X` by doubly robust cross-fitting.

    Args:
        X: a table with a row per case, as `tune` takes it.
        treatment: of each row, one of two kinds; the effect is that of the one which sorts last.
        y: 0 or 1 for each row.
        propensity: P(treated | x), known from the design: one number or one per row. None says that the treatment was
            given at random, with one probability for all: its share is then taken.
        trials: candidates to mix, of which there are a dozen.
        folds: folds of the cross-fitting; each arm needs each outcome that often.
        seed: the same seed gives the same model.

    >>> rng = np.random.default_rng(0)
    >>> X = pd.DataFrame({"age": rng.integers(18, 90, 400), "plan": rng.choice(["basic", "full"], 400)})
    >>> treated = rng.integers(0, 2, 400)
    >>> y = (rng.random(400) < 0.2 + 0.4 * treated * (X["age"] > 50)).astype(int)
    >>> model = tune_uplift(X, treated, y, propensity=0.5, trials=3)
    >>> effect = model.predict(X)
    >>> bool(effect[X["age"] > 60].mean() > effect[X["age"] < 40].mean() + 0.1)
    True
    """
    return UpliftModel(trials=trials, folds=folds, seed=seed).fit(X, treatment, y, propensity)


def _at_once(work: Any, learners: list[FoldLearner]) -> list[FoldLearner]:
    with ThreadPoolExecutor(min(len(learners), settings().cores)) as pool:
        return list(pool.map(work, learners))


def _view(rows: pd.DataFrame, roles: dict[str, str], linear: bool) -> Pipeline:
    """Numbers for trees; for linear models normal scores, which no outlier bends."""
    encode = preprocessor(list(roles), roles, linear=linear)
    if not linear:
        return make_pipeline(encode)
    ranks = QuantileTransformer(
        n_quantiles=min(QUANTILES, len(rows)), output_distribution="normal", random_state=0
    )
    return make_pipeline(encode, ranks, StandardScaler())


def _stretch(off: Array, scores: Array) -> float:
    """The factor on deviations from the average effect: the slope of `scores` on them, shrunk by its error.

    That is by 1 - 4 / z^2, as of James & Stein (1961): what lies within two standard errors the best of many candidates
    reaches by chance. LEAST of it stays, so that rows keep their order.
    """
    square = float((off**2).sum())
    if square <= 1e-12 * len(off):
        return 1.0
    slope = float((off * scores).sum()) / square
    variance = float(((off * (scores - scores.mean() - slope * off)) ** 2).sum()) / square**2
    return max(slope, 0.0) * max(1 - 4 * variance / slope**2, LEAST) if slope else LEAST


def _precision(arms: Array, seen: Allocation) -> Array:
    """Inverse variance of each row's pseudo-outcome, 1 on average: rows count by how much they say of the effect.

    No outcome counts as more than ten times rarer than it is on average.
    """
    share = float(seen.y.mean())
    likely = np.clip(arms, share / 10, 1 - (1 - share) / 10)
    spread = likely * (1 - likely) / np.column_stack([1 - seen.propensity, seen.propensity])
    weight = 1 / spread.sum(axis=1)
    precision: Array = weight / weight.mean()
    return precision


def _risk(arms: Array) -> Array:
    """Log odds of y = 1 without the treatment."""
    p = np.clip(arms[:, 0], 1e-4, 1 - 1e-4)
    odds: Array = np.log(p / (1 - p))
    return odds


def allocation(
    rows: int, treatment: Any, y: Any, propensity: Any, folds: int
) -> tuple[NDArray[Any], Allocation]:
    """Both kinds of treatment, and the allocation; DataError says why no effect can be learned from it."""
    kinds, codes = _kinds(treatment, "treatment", rows)
    outcomes, events = _kinds(y, "y", rows)
    if set(outcomes.tolist()) != {0, 1}:
        raise DataError(f"y must be 0 or 1, but has {outcomes.tolist()}: give y == {outcomes[1]} or so")
    for arm, kind in enumerate(kinds):
        events_there = int(events[codes == arm].sum())
        for what, count in ((1, events_there), (0, int((codes == arm).sum()) - events_there)):
            if count < folds:
                raise DataError(
                    f"the arm {kind} has {count} rows with y = {what}, fewer than the {folds} folds: "
                    "give more rows, or fewer folds"
                )
    return kinds, Allocation(codes.astype("float64"), events, _propensity(propensity, codes))


def _kinds(values: Any, name: str, rows: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Both kinds in order, and which one each row has."""
    column = pd.Series(np.asarray(values).ravel())
    if rows == 0:
        raise DataError("the table has no rows: give some to learn from")
    if len(column) != rows:
        raise DataError(f"X has {rows} rows, but {name} has {len(column)}: give one per row")
    if missing := int(column.isna().sum()):
        raise DataError(f"{name} is missing in {missing} rows: drop those rows")
    codes, kinds = pd.factorize(column, sort=True)
    if len(kinds) != 2:
        raise DataError(f"{name} must have two kinds, but has {len(kinds)}: {list(kinds[:5])}")
    return np.asarray(kinds), codes.astype("int64")


def _propensity(propensity: Any, treated: NDArray[np.int64]) -> Array:
    share, rows = float(treated.mean()), len(treated)
    if propensity is None:
        return np.full(rows, share)
    try:
        chance = np.asarray(propensity, dtype="float64").ravel()
    except (TypeError, ValueError) as fault:
        raise DataError(f"propensities are no numbers ({fault}): give P(treated | x)") from fault
    if chance.size not in (1, rows):
        raise DataError(
            f"X has {rows} rows, but propensity has {chance.size}: give one per row, or one for all"
        )
    chance = np.broadcast_to(chance, rows)
    if wrong := int((~((chance > 0) & (chance < 1))).sum()):
        raise DataError(
            f"{wrong} propensities are missing or not between 0 and 1: where the chance of treatment was not logged, "
            "or was none, no effect can be learned. Leave those rows out"
        )
    _overlap(chance, treated, share)
    clipped: Array = np.clip(chance, OVERLAP, 1 - OVERLAP)
    return clipped


def _overlap(chance: Array, treated: NDArray[np.int64], share: float) -> None:
    outside = float(((chance < OVERLAP) | (chance > 1 - OVERLAP)).mean())
    apart = chance[treated == 1].min() > chance[treated == 0].max()
    if outside > MOST_OUTSIDE or apart:
        raise DataError(
            f"the arms do not overlap: {outside:.0%} of the propensities are below {OVERLAP} or above {1 - OVERLAP}"
            f"{', and they alone tell who was treated' if apart else ''}. Explore: give each row a chance of both arms"
        )
    if abs(chance.mean() - share) > max(
        WRONG, 6 * float(np.sqrt((chance * (1 - chance)).sum())) / len(chance)
    ):
        raise DataError(
            f"by the propensities {chance.mean():.0%} of the rows were treated, but {share:.0%} were: "
            "give P(treated | x), not that of the arm each row was in"
        )

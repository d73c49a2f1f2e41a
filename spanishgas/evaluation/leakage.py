"""Does a model know what it could not have known? Five checks on the rows and the procedure behind an evaluation.

    single_feature     one column alone predicts too well, out of fold
    dated_after_as_of  an age counted from as_of is negative, or a date lies beyond it
    duplicates         a held-out customer stands among the training rows too
    permuted_labels    trained on shuffled labels, the procedure still predicts them
    adversarial        training and held-out customers can be told apart

A finding that the policy's waivers name is declared: known, dated and shown, but no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import sqrt

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from spanishgas.config.policy import Waiver
from spanishgas.config.reading import Value
from spanishgas.config.search import ModelKind
from spanishgas.evaluation.metrics import Array, Labels, average_precisions
from spanishgas.training.fitting import Training
from spanishgas.training.folds import folds
from spanishgas.training.matrix import is_text, matrix

AGES = ("tenure_months", "last_interaction_days_ago", "months_since_last_change")
MAX_SKILL = 0.25
"""How far one column alone may go from chance to perfect average precision. All 15 features of the contract together
went 0.23 of it in the replaced system (average precision 0.305 at a churn rate of 0.0996)."""
TAIL = 5.0
"""Standard deviations: far more than chance, since predictions out of fold share training rows and average precision is
skewed. With shuffled labels six of 300 clean tables of 640 customers went beyond 3.09, none beyond 4.4; telling sides
apart, 25 splits of one clean table of 6,000 spread 1.15 times as far as the formula says, the furthest 3.9."""
SHUFFLES, FOLDS = 200, 3
SMALL_TREES: Mapping[str, Value] = {"n_estimators": 60, "max_depth": 3, "learning_rate": 0.2}
OutOfFold = Callable[[Labels], Array]


class LeakageFinding(BaseModel):
    """One check's result. It is found where `value` exceeds `limit` or is no number, and refuses if not declared."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    limit: float
    words: str
    """What the figure means."""
    way_out: str
    features: tuple[str, ...] = ()
    declared: bool = False
    """Whether a waiver of the policy names it."""

    @property
    def found(self) -> bool:
        """Whether the check found something."""
        return not self.value <= self.limit

    @property
    def refuses(self) -> bool:
        """Whether it found something that nobody declared."""
        return self.found and not self.declared


@dataclass(frozen=True)
class Sides:
    """Labelled rows of gold on both sides of a holdout, and the inputs of the model that learned from the one."""

    trained: pd.DataFrame
    held_out: pd.DataFrame
    features: Sequence[str]
    kinds: Mapping[str, str]
    seed: int

    @property
    def both(self) -> pd.DataFrame:
        """Training rows first."""
        return pd.concat([self.trained, self.held_out], ignore_index=True)


def check(
    sides: Sides, as_of: date, waivers: Sequence[Waiver], out_of_fold: OutOfFold
) -> list[LeakageFinding]:
    """Every finding on a model.

    `out_of_fold` is the procedure under test: it takes labels of the training rows and gives scores of rows that the
    fit did not see. Labels of held-out rows are not used.
    """
    return [
        *single_features(sides, waivers),
        dated_after(sides.both, as_of),
        duplicates(sides.trained, sides.held_out),
        permuted_labels(sides.trained["churn"].to_numpy(dtype="int64"), out_of_fold, sides.seed),
        adversarial(sides),
    ]


def single_features(sides: Sides, waivers: Sequence[Waiver]) -> list[LeakageFinding]:
    """The strongest column that nobody declared, then the strongest of each waiver that names inputs."""
    X, y = matrix(sides.trained, sides.features, sides.kinds), sides.trained["churn"].to_numpy(dtype="int64")
    strength = pd.Series(
        {f: skill(X[f], y, text=is_text(sides.kinds[f]), seed=sides.seed) for f in sides.features}
    )
    waived = {w.check: [f for f in w.features if f in strength.index] for w in waivers}
    others = strength.drop([f for named in waived.values() for f in named])
    findings = [_strongest("single_feature", others, declared=False)] if len(others) else []
    return findings + [
        _strongest(name, strength[named], declared=True) for name, named in waived.items() if named
    ]


def _strongest(name: str, strength: pd.Series, *, declared: bool) -> LeakageFinding:
    beyond = strength[strength > MAX_SKILL].sort_values(ascending=False)
    top = str(strength.idxmax())
    return LeakageFinding(
        name=name,
        value=float(strength.max()),
        limit=MAX_SKILL,
        words=f"{top} alone goes this share of the way from chance to perfect average precision",
        way_out="find out how and when the column is written; leave it out, or declare it in policy.yaml's waivers",
        features=tuple(map(str, beyond.index)),
        declared=declared,
    )


def skill(column: pd.Series, y: Labels, *, text: bool, seed: int) -> float:
    """(average precision - churn rate) / (1 - churn rate) of a small tree on one column, out of fold."""
    values = pd.factorize(column)[0].astype("float64") if text else column.to_numpy(dtype="float64")
    tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=10, random_state=seed % 2**32)
    score = cross_val_predict(tree, values[:, None], y, cv=folds(y, FOLDS, seed), method="predict_proba")[
        :, 1
    ]
    rate = float(y.mean())
    return (float(average_precision_score(y, score)) - rate) / (1 - rate)


def dated_after(rows: pd.DataFrame, as_of: date) -> LeakageFinding:
    """Customers with an age below zero, or with a date beyond `as_of` in a column of dates."""
    ages = [name for name in AGES if name in rows]
    late = {name: pd.to_numeric(rows[name]) < 0 for name in ages}
    late |= {
        str(n): rows[n] >= pd.Timestamp(as_of) + pd.Timedelta(days=1) for n in rows.select_dtypes("datetime")
    }
    hit = {name: where for name, where in late.items() if where.any()}
    return LeakageFinding(
        name="dated_after_as_of",
        value=float(pd.DataFrame(hit, index=rows.index).any(axis=1).sum()),
        limit=0,
        words=f"customers with something that happened after {as_of}",
        way_out="build gold again as of the date of the extract; rows dated later must not reach it",
        features=tuple(hit),
    )


def duplicates(trained: pd.DataFrame, held_out: pd.DataFrame) -> LeakageFinding:
    """Held-out customers whose id, or whose every gold value, stands among the training rows too.

    All columns of gold are compared, not the model's alone: in few columns of few values customers agree by chance.
    """
    beside = ("customer_id", "churn")
    columns = [c for c in trained.columns if c not in beside]
    seen = set(pd.util.hash_pandas_object(trained[columns], index=False))
    again = pd.util.hash_pandas_object(held_out[columns], index=False).isin(seen)
    again |= held_out["customer_id"].isin(set(trained["customer_id"]))
    return LeakageFinding(
        name="duplicates",
        value=float(again.sum()),
        limit=0,
        words="held-out customers that the model was trained on, under the same id or another",
        way_out="give each customer one id in the raw files and build gold again",
    )


def permuted_labels(y: Labels, out_of_fold: OutOfFold, seed: int) -> LeakageFinding:
    """Average precision where there is nothing to learn; the limit is what shuffling the labels once more allows."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(y)
    score = out_of_fold(shuffled)
    again = np.array([rng.permutation(shuffled) for _ in range(SHUFFLES)])
    chance = average_precisions(again, np.ones_like(again), score)
    return LeakageFinding(
        name="permuted_labels",
        value=float(average_precision_score(shuffled, score)),
        limit=float(chance.mean() + TAIL * chance.std(ddof=1)),
        words=f"average precision on shuffled labels; the churn rate is {y.mean():.3f}",
        way_out="something before the folds has seen the labels: fit every step inside the fold",
    )


def adversarial(sides: Sides) -> LeakageFinding:
    """ROC-AUC of small boosted trees that tell held-out customers from training ones, out of fold; chance gives 0.5."""
    seed, sizes = sides.seed, (len(sides.trained), len(sides.held_out))
    X, side = matrix(sides.both, sides.features, sides.kinds), np.repeat([0, 1], sizes)
    model = Training(X, side, sides.features, sides.kinds, ModelKind.XGBOOST, FOLDS, seed).unfitted(
        SMALL_TREES
    )
    score = cross_val_predict(model, X, side, cv=folds(side, FOLDS, seed), method="predict_proba")[:, 1]
    error = sqrt((len(side) + 1) / (12 * sizes[0] * sizes[1]))  # Mann & Whitney 1947, no difference
    return LeakageFinding(
        name="adversarial",
        value=float(roc_auc_score(side, score)),
        limit=0.5 + TAIL * error,
        words="ROC-AUC of telling held-out from training customers",
        way_out="the two sides differ by more than chance: look for ids that say something about the customer",
    )


def table(findings: Sequence[LeakageFinding]) -> pd.DataFrame:
    """The findings as a table for people: check, value, limit, verdict, meaning."""
    verdict = {(True, True): "declared", (True, False): "FOUND"}
    return pd.DataFrame(
        [
            {
                "check": f.name,
                "value": f.value,
                "limit": f.limit,
                "verdict": verdict.get((f.found, f.declared), "nothing found"),
                "what it says": f.words + (f" ({', '.join(f.features)})" if f.found and f.features else ""),
            }
            for f in findings
        ]
    )

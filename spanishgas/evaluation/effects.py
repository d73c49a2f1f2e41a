"""What offers do, on average: a doubly robust estimate over customers whom chance treated, and whether chance did.

    score of a customer = m0 - m1 + (no offer) (y - m0) / p0 - (offer) (y - m1) / p1

The mean of these scores is the churn that an offer avoids (augmented inverse probability weights: Robins, Rotnitzky &
Zhao 1994). The probabilities p are those of the draw, as logged, so the estimate is unbiased whatever the models m of
churn say; these only make it more precise. They are logistic regressions on risk score, segment and a term per
campaign, each fitted to other customers than it speaks of (cross-fitting: Chernozhukov et al. 2018). A customer who is
in several campaigns counts as one when it comes to intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import chi2

from spanishgas.config.policy import ACTIONS, Offers
from spanishgas.evaluation.inference import holm, skewed
from spanishgas.evaluation.value import NO_OFFER, protected_margin
from spanishgas.training.doubly_robust import option_scores

Array = NDArray[np.float64]
PROPENSITIES = [f"propensity_{option}" for option in ACTIONS]
"""Columns of the treatment log: the probability of each option, no offer first."""
FOLDS, FEWEST = 5, 10
"""Parts for cross-fitting, and customers that each arm must have."""
FLOOR = 0.01
"""Customers whom an option had a smaller chance to meet are compared with nobody."""
BALANCE_LEVEL = 0.01
"""Share of sound randomisations that the joint test of balance calls unbalanced."""
RANK = 1e-9
"""Variance, as a share of the largest, from which on a combination of covariates is no rounding error."""
ALL = "all offers"
EFFECTS = ["about", "value", "customers", "offered", "controls", "avoided", "low", "high", "assumed"]


def average_effects(rows: pd.DataFrame, offers: Offers, models: Array | None = None) -> pd.DataFrame:
    """Churn avoided by the offers, a row of EFFECTS for all, each offer, and by risk tier and segment.

    `rows` are as `Campaigns.rows` has them; avoided and its 95 % interval are differences of the churn rate, `assumed`
    what the policy's uplift and acceptance would avoid. Comparisons without FEWEST customers in each arm are missing.
    `models` are `outcome_models` of the rows, fitted here if None.
    """
    lines = list[tuple[object, ...]]()
    for name, part in _compared(rows):
        models = outcome_models(rows) if models is None else models
        score = scores(rows, models, name)[comparable(rows, name)]
        groups = [("offer", name, np.ones(len(part), dtype=bool))]
        if name == ALL:
            values = ((by, value) for by in ("risk_tier", "segment") for value in part[by].dropna().unique())
            groups += [(by, str(value), part[by].eq(value).to_numpy()) for by, value in values]
        assumed = assumed_effect(part, offers, name)
        for about, value, of in groups:
            counts = len(part[of]), *(int(arm[of].sum()) for arm in _arms(part, name))
            if min(counts[1:]) >= FEWEST:
                estimate = np.clip(mean_interval(score[of], part["customer_id"][of]), -1, 1)
                lines.append((about, value, *counts, *estimate, float(assumed[of].mean())))
    return pd.DataFrame(lines, columns=EFFECTS)


def worth(rows: pd.DataFrame, offers: Offers, models: Array | None = None) -> tuple[float, float, float]:
    """EUR that the offers made brought, over all who got one, with its interval: margin kept less what they cost.

    What an offer costs is paid when it is taken, and labels do not say by whom: acceptance is the policy's.
    `models` are `outcome_models` of the rows, fitted here if None.
    """
    models = outcome_models(rows) if models is None else models
    part = rows[comparable(rows, ALL)]
    protected = protected_margin(part["margin"].to_numpy(dtype="float64"), offers.horizon_months)
    offered = 1 - part[PROPENSITIES[0]].to_numpy(dtype="float64")
    kept = scores(rows, models, ALL)[comparable(rows, ALL)] * protected * offered
    cost = sum(offers.named(name).expected_cost for name in part["treatment"] if name != NO_OFFER)
    value, low, high = (len(part) * end for end in mean_interval(kept, part["customer_id"]))
    return value - cost, low - cost, high - cost


def chances(rows: pd.DataFrame, name: str) -> tuple[Array, Array]:
    """The probabilities of no offer, and of the offer named (or of any)."""
    of_none = rows[PROPENSITIES[0]].to_numpy(dtype="float64")
    return of_none, 1 - of_none if name == ALL else rows[f"propensity_{name}"].to_numpy(dtype="float64")


def comparable(rows: pd.DataFrame, name: str) -> NDArray[np.bool_]:
    """Customers who might have met either, the offer and none."""
    both: NDArray[np.bool_] = np.minimum(*chances(rows, name)) >= FLOOR
    return both


def _arms(rows: pd.DataFrame, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    treatment = rows["treatment"].to_numpy(dtype=object)
    return treatment != NO_OFFER if name == ALL else treatment == name, treatment == NO_OFFER


def scores(rows: pd.DataFrame, models: Array, name: str) -> Array:
    """The doubly robust score of each customer: its mean over the comparable ones is the churn avoided."""
    made = np.array([ACTIONS.index(treatment) for treatment in rows["treatment"]])
    propensities = rows[PROPENSITIES].to_numpy(dtype="float64")
    by_option = option_scores(rows["churn"].to_numpy(dtype="float64"), made, propensities, models)
    if name != ALL:
        return by_option[:, 0] - by_option[:, ACTIONS.index(name)]
    shares = propensities[:, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Array = by_option[:, 0] - (by_option[:, 1:] * shares).sum(axis=1) / shares.sum(axis=1)
    return out


def outcome_models(rows: pd.DataFrame, seed: int = 0) -> Array:
    """Probability of churn of each customer under each option, shape (rows, options), by models of other customers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    made, y = rows["treatment"].to_numpy(dtype=object), rows["churn"].to_numpy(dtype="int64")
    base, models = _covariates(rows), np.empty((len(rows), len(ACTIONS)))
    folds = min(FOLDS, rows["customer_id"].nunique())
    for train, test in GroupKFold(folds, shuffle=True, random_state=seed).split(base, y, rows["customer_id"]):
        means = np.full((len(test), len(ACTIONS)), y[train].mean())
        if 0 < y[train].sum() < len(train):
            fitted = LogisticRegression(max_iter=1000).fit(_under(base[train], made[train]), y[train])
            under = [_under(base[test], np.full(len(test), option)) for option in ACTIONS]
            means = np.column_stack([fitted.predict_proba(x)[:, 1] for x in under])
        models[test] = means
    return models


def _covariates(rows: pd.DataFrame) -> Array:
    """Log odds of the risk score first, then indicators of segment and campaign."""
    odds = logit(rows["risk_score"].to_numpy(dtype="float64").clip(1e-4, 1 - 1e-4))
    indicators = pd.get_dummies(rows[["segment", "as_of"]].astype("str"), drop_first=True)
    return np.column_stack([odds, indicators.to_numpy(dtype="float64")])


def _under(base: Array, made: NDArray[np.object_]) -> Array:
    """The covariates with those of the offer: which one, and the log odds if any."""
    which = np.stack([made == option for option in ACTIONS[1:]], axis=1).astype("float64")
    return np.column_stack([base, which, base[:, 0] * (made != NO_OFFER)])


def assumed_effect(rows: pd.DataFrame, offers: Offers, name: str) -> Array:
    """The churn that each customer's offer (or mix of offers) avoids by the policy's uplift and acceptance."""
    effects = {option: offer.acceptance * offer.uplift for option, offer in offers.menu.items()}
    if name == ALL:
        shares = rows[PROPENSITIES[1:]].to_numpy(dtype="float64")
        mixed = shares @ [effects.get(option, 0.0) for option in ACTIONS[1:]] / shares.sum(axis=1)
    else:
        mixed = np.full(len(rows), effects.get(name, 0.0))
    out: Array = mixed * rows["risk_score"].to_numpy(dtype="float64")
    return out


def mean_interval(values: Array, customers: pd.Series) -> tuple[float, float, float]:
    """The mean and its 95 % interval, where the values of one customer may depend on each other."""
    mean, n = float(values.mean()), len(values)
    codes, ids = pd.factorize(customers)
    off = np.bincount(codes, values - mean) / n
    few = len(ids) / max(len(ids) - 1, 1)
    return mean, *skewed(mean, few * float((off**2).sum()), float((off**3).sum()))


def balance(rows: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """How alike the arms are in what was there before: by covariate, and a joint p-value of the randomisation.

    A row per comparison and covariate: the difference of means, weighted by 1 / probability, in standard deviations.
    The statistic is Wald's with the covariance that the draw itself has; p-values of several comparisons are Holm's.
    """
    tables, raw = list[pd.DataFrame](), dict[str, float]()
    for name, part in _compared(rows):
        x, names = _before(part)
        p0, p1 = chances(part, name)
        offered, control = _arms(part, name)
        off = (x - x.mean(axis=0)) / x.std(axis=0)
        weight = offered / p1 - control / p0
        gap = weight @ off
        spread = (off * (1 / p0 + 1 / p1)[:, None]).T @ off
        statistic = gap @ np.linalg.pinv(spread, rcond=RANK, hermitian=True) @ gap
        raw[name] = float(chi2.sf(statistic, np.linalg.matrix_rank(spread, rtol=RANK, hermitian=True)))
        tables.append(pd.DataFrame({"offer": name, "covariate": names, "difference": gap / len(part)}))
    joint = min(holm(raw).values(), default=1.0)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(), joint


def _compared(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name in (ALL, *ACTIONS[1:]):
        part = rows[comparable(rows, name)]
        if min((int(arm.sum()) for arm in _arms(part, name)), default=0) >= FEWEST:
            yield name, part


def _before(rows: pd.DataFrame) -> tuple[Array, list[str]]:
    numbers = rows[["risk_score", "margin"]].astype("float64")
    numbers = numbers.fillna(numbers.mean()).fillna(0.0).rank()
    indicators = pd.get_dummies(rows[["risk_tier", "segment"]].astype("str"), dtype="float64")
    beside = pd.concat([numbers, indicators], axis="columns")
    beside = beside.loc[:, beside.nunique() > 1]
    return beside.to_numpy(), list(map(str, beside.columns))

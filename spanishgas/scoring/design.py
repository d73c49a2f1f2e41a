"""The experiment that a campaign is: who gets which offer, who none, and with which probability, by policy.yaml.

    what pays most -> explore: a share gets any eligible offer -> control: a share of the rest gets none -> propensities

Each draw is a hash of salt, as-of date and id, so a campaign is drawn again as it was, and the next one anew. Money
that is not spent on controls is spent on the next best. Whether a customer's turn comes within the budget depends on
the draws of those before, not on its own, and so the probabilities are those of the draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import Control, Offers
from spanishgas.errors import UsageError
from spanishgas.evaluation.budget import within_budget
from spanishgas.training.draws import uniform

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Options = NDArray[np.intp]


@dataclass(frozen=True)
class Assignment:
    """What is done to each customer. Options are numbered as `values` has them, 0 is no offer."""

    intended: Options
    """The offer made or, from a control, withheld; 0 where none was chosen."""
    made: Options
    propensities: Array
    """Probability of each option for each customer, shape (options, customers)."""
    drawn: Flags
    """Who is part of the experiment: an offer was chosen for them, or one might be tried on them."""


def assign(
    values: Array,
    costs: Array,
    customers: pd.DataFrame,
    strata: NDArray[np.object_],
    offers: Offers,
    most: float | None = None,
) -> Assignment:
    """Draw the campaign; `values` and `costs` are as `within_budget` takes them, `customers` has the ids and as_of.

    `most` limits, beside the policy's budget, what offers cost that are not tried out (EUR, None: nothing does).
    UsageError where the offers tried out cost more than the budget.
    """
    eligible, everyone = np.isfinite(values[1:]), np.arange(values.shape[1])
    open_to = eligible.sum(axis=0)
    explore = np.where(open_to > 0, offers.explore, 0.0)
    tries = _uniform(customers, offers.control.salt, "explore ") < explore
    nth = (_uniform(customers, offers.control.salt, "offer ") * open_to).astype(int)
    tried = 1 + (eligible.cumsum(axis=0) > nth).argmax(axis=0)
    budget = _least(offers.total_budget_eur, most)
    control, share = _controls(values, costs, customers, strata, tries, offers.control, budget)
    left = _least(_left(offers, float(costs[tried[tries]].sum())), most)
    chosen = within_budget(values, costs, left, ~control & ~tries)
    propensities = np.vstack([np.zeros(len(everyone)), eligible * explore / np.maximum(open_to, 1)])
    propensities[chosen, everyone] += (1 - explore) * (1 - share)
    propensities[0] += (1 - explore) * share
    intended = np.where(tries, tried, chosen)
    return Assignment(
        intended, np.where(control & ~tries, 0, intended), propensities, (chosen > 0) | (explore > 0)
    )


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _left(offers: Offers, spent: float) -> float | None:
    budget = offers.total_budget_eur
    if budget is not None and spent > budget:
        raise UsageError(
            f"offers.explore {offers.explore:g} tries out offers for {spent:,.0f} EUR, more than "
            f"offers.total_budget_eur {budget:,.0f}: lower it, to {offers.explore * budget / spent / 2:.2g} for example"
        )
    return None if budget is None else budget - spent


def _controls(
    values: Array,
    costs: Array,
    customers: pd.DataFrame,
    strata: NDArray[np.object_],
    tries: Flags,
    control: Control,
    budget: float | None,
) -> tuple[Flags, Array]:
    """Who gets no offer where one is chosen, and with which probability.

    Those whose draw lies below the share and, in a stratum where they are too few, those of the next smallest draws.
    The strata are counted among the customers who would get an offer if nothing were left to chance.
    """
    draw, share = _uniform(customers, control.salt), np.full(len(customers), control.share)
    planned = (within_budget(values, costs, budget) > 0) & ~tries
    controls = draw < share
    for name in pd.unique(strata) if control.minimum else ():
        inside = strata == name
        rows = np.flatnonzero(planned & inside)
        least = min(control.minimum, len(rows) // 2)
        share[inside] = _share(control, len(rows), least)
        controls[inside] = draw[inside] < share[inside]  # also those whom only money that others left reaches
        controls[rows] = draw[rows] < control.share
        controls[rows[np.argsort(draw[rows])][:least]] = True
    return controls, share


def _share(control: Control, customers: int, least: int) -> float:
    """Probability of each of so many to be a control: by symmetry, the expected number of controls over all."""
    from scipy.stats import binom

    beyond = binom.sf(np.arange(least, customers), customers, control.share).sum()
    return float(least + beyond) / max(customers, 1)


def stratum(customers: pd.DataFrame, names: Sequence[str]) -> NDArray[np.object_]:
    """The stratum of each customer, such as `High Residential`; `all` where policy names none."""
    if not names:
        return np.full(len(customers), "all", dtype=object)
    columns = [customers[name].astype(object).where(customers[name].notna(), "unknown") for name in names]
    return np.array([" ".join(map(str, values)) for values in zip(*columns, strict=True)], dtype=object)


def _uniform(customers: pd.DataFrame, salt: str, what: str = "") -> Array:
    """A number from 0 to 1 per customer, by hash.

    It changes with the as-of date, so that nobody is left out of every campaign.
    """
    if customers.empty:
        return np.empty(0)
    return uniform(customers["customer_id"], f"{salt} {what}{customers['as_of'].iloc[0]} ")

"""Which option each customer gets where money is limited.

Each customer's offers form a frontier of cost against expected value; its upward steps, over
all customers, are taken by value per EUR until the budget is used up. This is the greedy rule of the multiple-choice
knapsack problem (Sinha & Zoltners 1979): the result is less than one step of one customer away from the best choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def within_budget(
    values: Array, costs: Array, budget: float | None, spends: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """The option chosen per customer, so that the costs chosen sum to at most `budget` (None: as much as pays).

    `values` has a row per option and a column per customer: expected EUR, -inf where an option is not allowed; option 0
    is no offer at 0 EUR. `costs` are EUR per option; only customers whom `spends` names (None: all) cost them. Equal
    choices give equal results: ties go to the earlier customer.
    """
    if budget is None:
        best: NDArray[np.intp] = values.argmax(axis=0)
        return best
    customer, option, cost, gain = _steps(values, costs)
    with np.errstate(divide="ignore"):
        order = np.argsort(-(gain / cost), kind="stable")
    chosen = np.zeros(values.shape[1], dtype=np.intp)
    left, smallest, closed = budget, cost.min(initial=np.inf), set[int]()
    for at in order:
        if left < smallest:
            break
        if int(customer[at]) in closed:
            continue
        if cost[at] > left:
            closed.add(int(customer[at]))  # a later step stands on this one
            continue
        chosen[customer[at]] = option[at]
        if spends is None or spends[customer[at]]:
            left -= cost[at]
    return chosen


def for_no_more(
    kept: Array, values: Array, costs: Array, budget: float | None
) -> tuple[NDArray[np.intp], Array, float]:
    """The choice by `values` within `budget`, and what a rule by `kept` may do beside it: its values and its budget.

    It chooses only where `values` allow the option, and spends no more.
    """
    chosen = within_budget(values, costs, budget)
    return chosen, np.where(np.isfinite(values), kept, -np.inf), float(costs[chosen].sum())


def _steps(values: Array, costs: Array) -> tuple[NDArray[np.intp], NDArray[np.intp], Array, Array]:
    """The steps up each customer's frontier: customer, option reached, what it costs more and brings more.

    From each option the step goes to the dearer one of most value per EUR, so a customer's steps fall in value per EUR.
    """
    at = np.zeros(values.shape[1], dtype=np.intp)
    everyone = np.arange(values.shape[1])
    steps: list[tuple[NDArray[np.intp], NDArray[np.intp], Array, Array]] = []
    for _ in range(len(costs) - 1):
        gain = values - values[at, everyone]
        more = costs[:, None] - costs[at]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where((gain > 0) & (more >= 0), gain / more, -np.inf)
        best = slope.argmax(axis=0)
        rows = np.flatnonzero(slope[best, everyone] > -np.inf)
        steps.append((rows, best[rows], more[best[rows], rows], gain[best[rows], rows]))
        at[rows] = best[rows]
    customer, option, cost, gained = zip(*steps, strict=True)
    return np.concatenate(customer), np.concatenate(option), np.concatenate(cost), np.concatenate(gained)

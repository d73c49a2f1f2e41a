"""Fill missing prices in four levels, each only where the price is needed (feature dictionary, "Silver").

raw price (0 is missing) -> previous of the customer -> next -> median of (is_industrial, month) -> of the month
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import ibis
import ibis.expr.types as ir

from spanishgas.contracts.tables import PERIODS
from spanishgas.etl.quality import Audit, flagged

LEVELS = ("previous_price", "next_price", "segment_month_median", "month_median")
# Which column says that a price is needed: it must be above 0.
NEEDED_BY: Mapping[str, str] = {
    **{f"variable_price_tier{i}_eur_kwh": f"elec_kwh_{name}" for i, name in enumerate(PERIODS, 1)},
    "elec_fixed_fee_eur_month": "monthly_elec_kwh",
    "gas_variable_price_eur_m3": "uses_gas",
    "gas_fixed_revenue_eur_year": "uses_gas",
}


@dataclass(frozen=True)
class _Price:
    """A price column and the names of what is computed beside it."""

    name: str

    @property
    def level(self) -> str:
        return f"level_{self.name}"

    def fill(self, months: ir.Table, value: ir.Value, level: int) -> dict[str, ir.Value]:
        """The column with `value` where it is needed and missing, and the level that filled it."""
        gap = months[self.name].isnull() & (months[NEEDED_BY[self.name]] > 0) & value.notnull()
        return {
            self.name: ibis.ifelse(gap, value, months[self.name]),
            self.level: ibis.ifelse(gap, level, months[self.level]),
        }


PRICES = tuple(_Price(name) for name in NEEDED_BY)


def impute(months: ir.Table, audit: Audit) -> ir.Table:
    """`months` (with is_industrial and uses_gas) with its six prices filled; what each level filled is counted."""
    keep = audit.engine.materialize
    months = keep("imputed_0", _own_prices(months))
    months = keep("imputed_1", _neighbours(months))
    months = keep("imputed_2", _medians(months, ("is_industrial", "month"), 3))
    months = keep("imputed_3", _medians(months, ("month",), 4), by=["customer_id", "month"])
    _count(months, audit)
    return months.select(~ibis.selectors.startswith("level_"))


@lru_cache(maxsize=8)
def _own_prices(months: ir.Table) -> ir.Table:
    """For each price the customer's nearest one before and after: last() of values is not alike on the two engines."""
    months = months.mutate(
        **{price.name: months[price.name].nullif(0) for price in PRICES},
        **{price.level: ibis.literal(0, "int64") for price in PRICES},
    )
    before = ibis.window(group_by="customer_id", order_by="month", preceding=None, following=0)
    after = ibis.window(group_by="customer_id", order_by="month", preceding=0, following=None)
    nearest: dict[str, ir.Value] = {}
    for p in PRICES:
        price = ibis.struct({"month": months.month, "price": months[p.name]})
        known = ibis.ifelse(months[p.name].notnull(), price, None)
        nearest |= {f"before_{p.name}": known.max().over(before), f"after_{p.name}": known.min().over(after)}
    months = months.mutate(**nearest)
    return months.mutate(**{name: months[name]["price"] for name in nearest})


@lru_cache(maxsize=8)
def _neighbours(months: ir.Table) -> ir.Table:
    """Fill by the customer's price before, else by the one after."""
    for level, direction in enumerate(("before", "after"), 1):
        fills = [price.fill(months, months[f"{direction}_{price.name}"], level) for price in PRICES]
        months = months.mutate(**{name: value for fill in fills for name, value in fill.items()})
    return months.select(~ibis.selectors.startswith(("before_", "after_")))


@lru_cache(maxsize=8)
def _medians(months: ir.Table, by: tuple[str, ...], level: int) -> ir.Table:
    """Fill by the median over the rows of the same group where the price is needed; a null is no group."""
    needed = {p.name: ibis.ifelse(months[NEEDED_BY[p.name]] > 0, months[p.name], None) for p in PRICES}
    medians = months.group_by(by).agg(**{f"median_{name}": price.median() for name, price in needed.items()})
    joined = months.left_join(medians, by).drop(*(f"{name}_right" for name in by))
    fills = [price.fill(joined, joined[f"median_{price.name}"], level) for price in PRICES]
    filled = joined.mutate(**{name: value for fill in fills for name, value in fill.items()})
    return filled.select(~ibis.selectors.startswith("median_"))


def _count(months: ir.Table, audit: Audit) -> None:
    counts = {
        f"imputed.{price.name}.{name}": flagged(months[price.level] == level)
        for price in PRICES
        for level, name in enumerate(LEVELS, 1)
    }
    totals = {
        f"imputed.{n}": sum((counts[f"imputed.{p.name}.{n}"] for p in PRICES), start=ibis.literal(0))
        for n in LEVELS
    }
    audit.measure("silver_customer_month", months, **totals, **counts)

"""Fill missing prices in four levels, each only where the price is needed (feature dictionary, "Silver").

raw price (0 is missing) -> previous of the customer -> next -> median of (is_industrial, month) -> of the month
"""

from __future__ import annotations

from functools import lru_cache

import ibis
import ibis.expr.types as ir

from spanishgas.config.tariff import tariff
from spanishgas.etl.quality import Audit, flagged

LEVELS = ("previous_price", "next_price", "segment_month_median", "month_median")


def needed_by() -> dict[str, str]:
    """Which column says that a price is needed: it must be above 0."""
    periods = zip(tariff().prices, tariff().periods, strict=True)
    return {
        **{price: f"elec_kwh_{period}" for price, period in periods},
        "elec_fixed_fee_eur_month": "monthly_elec_kwh",
        "gas_variable_price_eur_m3": "uses_gas",
        "gas_fixed_revenue_eur_year": "uses_gas",
    }


def impute(months: ir.Table, audit: Audit) -> ir.Table:
    """`months` (with is_industrial and uses_gas) with its prices filled; what each level filled is counted."""
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
        **{name: months[name].nullif(0) for name in needed_by()},
        **{f"level_{name}": ibis.literal(0, "int64") for name in needed_by()},
    )
    before = ibis.window(group_by="customer_id", order_by="month", preceding=None, following=0)
    after = ibis.window(group_by="customer_id", order_by="month", preceding=0, following=None)
    nearest: dict[str, ir.Value] = {}
    for name in needed_by():
        dated = ibis.struct({"month": months.month, "price": months[name]})
        dated = ibis.ifelse(months[name].notnull(), dated, None)
        nearest |= {f"before_{name}": dated.max().over(before), f"after_{name}": dated.min().over(after)}
    months = months.mutate(**nearest)
    return months.mutate(**{name: months[name]["price"] for name in nearest})


@lru_cache(maxsize=8)
def _neighbours(months: ir.Table) -> ir.Table:
    """Fill by the customer's price before, else by the one after."""
    for level, direction in enumerate(("before", "after"), 1):
        months = _filled(months, direction, level)
    return months.select(~ibis.selectors.startswith(("before_", "after_")))


@lru_cache(maxsize=8)
def _medians(months: ir.Table, by: tuple[str, ...], level: int) -> ir.Table:
    """Fill by the median over the rows of the same group where the price is needed; a null is no group."""
    needed = {name: ibis.ifelse(months[use] > 0, months[name], None) for name, use in needed_by().items()}
    medians = months.group_by(by).agg(**{f"median_{name}": price.median() for name, price in needed.items()})
    joined = months.left_join(medians, by).drop(*(f"{name}_right" for name in by))
    return _filled(joined, "median", level).select(~ibis.selectors.startswith("median_"))


def _filled(months: ir.Table, source: str, level: int) -> ir.Table:
    """Each price that is needed and missing filled from the column named by `source` before it, and by which level."""
    changes: dict[str, ir.Value] = {}
    for name, use in needed_by().items():
        value = months[f"{source}_{name}"]
        gap = months[name].isnull() & (months[use] > 0) & value.notnull()
        changes[name] = ibis.ifelse(gap, value, months[name])
        changes[f"level_{name}"] = ibis.ifelse(gap, level, months[f"level_{name}"])
    return months.mutate(**changes)


def _count(months: ir.Table, audit: Audit) -> None:
    counts = {
        f"imputed.{price}.{name}": flagged(months[f"level_{price}"] == level)
        for price in needed_by()
        for level, name in enumerate(LEVELS, 1)
    }
    totals = {
        f"imputed.{n}": sum((counts[f"imputed.{price}.{n}"] for price in needed_by()), start=ibis.literal(0))
        for n in LEVELS
    }
    audit.measure("silver_customer_month", months, **totals, **counts)

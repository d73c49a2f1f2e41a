"""Bronze: one row per customer and one per customer-month, after the dictionary's rules for duplicates and orphans.

No rule looks at file order. What a rule leaves out is counted under its name, so that per raw table
rows_in = kept + everything left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import ibis
import ibis.expr.types as ir

from spanishgas.contracts import contract
from spanishgas.contracts.tables import ATTRIBUTES, CONTRACTS, COSTS, PRICES
from spanishgas.errors import ContractError
from spanishgas.etl import calendar
from spanishgas.etl.engine import Engine
from spanishgas.etl.hours import READINGS
from spanishgas.etl.quality import Quality, flagged, rows
from spanishgas.etl.raw import UNREADABLE_DATES
from spanishgas.etl.rollup import RollUp, customer_months
from spanishgas.etl.source import HOURS as TABLE
from spanishgas.etl.source import MEND

PAST_DATES = ("customer_first_activation_date", "last_product_change_date")
"""Dates that cannot lie after as_of."""


class Bronze:
    """The raw tables on their way to bronze, for one as_of."""

    def __init__(self, raw: Mapping[str, ir.Table], as_of: date, engine: Engine, quality: Quality) -> None:
        self.as_of = ibis.date(as_of.year, as_of.month, as_of.day)
        self.window = calendar.window(as_of)
        self.day = as_of
        self.engine = engine
        self.quality = quality
        self.raw = {name: self._with_id(name, table) for name, table in raw.items()}
        known = [self.raw[name].select("customer_id") for name in ("churn_label", "customer_attributes")]
        self.known = engine.hold("known", ibis.union(*known, distinct=True), by=["customer_id"])

    def customer(self) -> ir.Table:
        """bronze_customer: every customer of labels or attributes, with the contract and contact that stand."""
        parts = (self._labels(), self._attributes(), self._contracts(), self._interactions())
        table = self.known
        for part in parts:
            table = table.left_join(part, "customer_id").drop("customer_id_right")
        table = table.select(*contract("bronze_customer").fields)
        return self.engine.hold("bronze_customer", table, by=["customer_id"])

    def customer_month(self, hours: RollUp, customers: ir.Table) -> ir.Table:
        """bronze_customer_month: the months that have an hour, with their prices and the province's costs."""
        self._count_hours(hours)
        months = customer_months(hours.slots.semi_join(self.known, "customer_id"), self.day)
        months = self.engine.hold("months", months, by=["customer_id", "month"])
        table = months.left_join(self._prices(months), ["customer_id", "month"])
        table = table.drop("customer_id_right", "month_right")
        province = customers.select("customer_id", province=customers.province_code)
        table = table.left_join(province, "customer_id").drop("customer_id_right")
        table = table.left_join(self._costs(), ["province", "month"])
        table = table.select(*contract("bronze_customer_month").fields)
        return self.engine.hold("bronze_customer_month", table, by=["customer_id", "month"])

    def _labels(self) -> ir.Table:
        name = "churn_label"
        labels = self.quality.keep(name, "without_label", self.raw[name], self.raw[name].churn.notnull())
        labels = self._collapse(name, labels)
        per_id = labels.group_by("customer_id").mutate(labels=lambda t: t.count())
        one = self.quality.keep(name, "conflicting_labels", per_id, per_id.labels == 1)
        return self._kept(name, one.drop("labels"))

    def _attributes(self) -> ir.Table:
        name = "customer_attributes"
        table = self._collapse(name, self.raw[name])
        return self._kept(name, self._first(name, table, ["customer_id"], list(ATTRIBUTES)))

    def _contracts(self) -> ir.Table:
        name = "customer_contracts"
        table = self._of_known(name, self.raw[name])
        start = table.contract_start_date
        table = self.quality.keep(name, "starts_after_as_of", table, (start <= self.as_of) | start.isnull())
        table = self._collapse(name, table)
        table = self._first(name, table, ["customer_id"], list(CONTRACTS), latest=["contract_start_date"])
        table = self._kept(name, table)
        later = {column: table[column] > self.as_of for column in PAST_DATES}
        self.quality.measure(name, table, **{f"after_as_of.{c}": flagged(bad) for c, bad in later.items()})
        return table.mutate(**{c: ibis.ifelse(bad, None, table[c]) for c, bad in later.items()})

    def _interactions(self) -> ir.Table:
        name = "customer_interactions"
        table = self._of_known(name, self.raw[name])
        table = self.quality.keep(name, "without_date", table, table.date.notnull())
        table = self.quality.keep(name, "after_as_of", table, table.date <= self.as_of)
        table = self._collapse(name, table)
        latest = ["date", "interaction_summary"]
        table = self._first(
            name, table, ["customer_id"], ["channel"], latest=latest, rule="older_interactions"
        )
        return self._kept(name, table).select(
            "customer_id",
            interaction_date=table.date,
            interaction_channel=table.channel,
            interaction_summary=table.interaction_summary,
        )

    def _prices(self, months: ir.Table) -> ir.Table:
        name = "price_history"
        table = self._of_known(name, self.raw[name])
        table = self.quality.keep(name, "without_date", table, table.pricing_date.notnull())
        table = table.mutate(month=table.pricing_date.strftime("%Y-%m"))
        table = self.quality.keep(name, "outside_window", table, table.month.isin(self.window))
        table = self._collapse(name, table)
        table = self._first(name, table, ["customer_id", "month"], ["pricing_date", *PRICES])
        used = table.semi_join(months, ["customer_id", "month"])
        self.quality.add(name, month_without_hours=rows(table) - rows(used))
        return self._kept(name, used).drop("pricing_date")

    def _costs(self) -> ir.Table:
        name = "costs_by_province_month"
        table = self.raw[name]
        table = self.quality.keep(
            name, "without_key", table, table.province.notnull() & table.month.notnull()
        )
        table = self.quality.keep(name, "outside_window", table, table.month.isin(self.window))
        table = self._collapse(name, table)
        return self._kept(name, self._first(name, table, ["province", "month"], list(COSTS)))

    def _count_hours(self, hours: RollUp) -> None:
        counts = hours.counts.mutate(
            has_id=_is_id(hours.counts.customer_id),
            known=hours.counts.customer_id.isin(self.known.customer_id).fill_null(False),
        )
        counts = self.engine.hold("hour_counts", counts)
        mine, orphan = counts.has_id & counts.known, counts.has_id & ~counts.known
        sums = {
            "rows_in": counts.rows_in.sum(),
            "without_customer_id": _where(~counts.has_id, counts.rows_in),
            "orphans": _where(orphan, counts.rows_in),
            "unreadable_time": _where(mine, counts.unreadable_time),
            "outside_window": _where(mine, counts.rows_in - counts.unreadable_time - counts.in_window),
            "duplicates_collapsed": _where(mine, counts.in_window - counts.kept),
            "kept": _where(mine, counts.kept),
            **{f"negative_{name}_set_to_0": counts[f"negative_{name}"].sum() for name in READINGS},
            **{f"missing_{name}": counts[f"without_{name}"].sum() for name in READINGS},
        }
        self.quality.measure(TABLE, counts, **sums)
        unreadable = self.quality.count(TABLE, "unreadable_time")
        if unreadable > UNREADABLE_DATES * self.quality.count(TABLE, "rows_in"):
            fault = f"{unreadable} rows in column 'timestamp' are not a time (YYYY-MM-DD HH:MM:SS)"
            raise ContractError.broken(TABLE, [fault], MEND)

    def _with_id(self, name: str, table: ir.Table) -> ir.Table:
        if "customer_id" not in table.columns:
            return table
        return self.quality.keep(name, "without_customer_id", table, _is_id(table.customer_id))

    def _of_known(self, name: str, table: ir.Table) -> ir.Table:
        mine = table.semi_join(self.known, "customer_id")
        self.quality.add(name, orphans=rows(table) - rows(mine))
        return mine

    def _collapse(self, name: str, table: ir.Table) -> ir.Table:
        """Identical copies as one row."""
        once = self.engine.hold(f"once_{name}", table.distinct())
        self.quality.add(name, duplicates_collapsed=rows(table) - rows(once))
        return once

    def _first(
        self,
        name: str,
        table: ir.Table,
        keys: Sequence[str],
        columns: Sequence[str],
        *,
        latest: Sequence[str] = (),
        rule: str = "conflicting_copies",
    ) -> ir.Table:
        """The row of each key that comes last by `latest`, then first by the other `columns` (nulls last in both)."""
        order = [ibis.desc(column, nulls_first=False) for column in latest]
        # A column must not be named twice: Ibis keeps one of the two, in the direction of the second.
        order += [ibis.asc(column, nulls_first=False) for column in columns if column not in latest]
        place = ibis.row_number().over(ibis.window(group_by=list(keys), order_by=order))
        ranked = self.engine.hold(f"ranked_{name}", table.mutate(place=place))
        return self.quality.keep(name, rule, ranked, ranked.place == 0).drop("place")

    def _kept(self, name: str, table: ir.Table) -> ir.Table:
        self.quality.add(name, kept=rows(table))
        return table


def _is_id(customer_id: ir.StringValue) -> ir.BooleanValue:
    return (customer_id.strip() != "").fill_null(False)


def _where(condition: ir.BooleanValue, count: ir.NumericValue) -> ir.Value:
    return ibis.ifelse(condition, count, 0).sum()

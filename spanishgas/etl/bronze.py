"""Bronze: one row per customer and one per customer-month, after the dictionary's rules for duplicates and orphans.

No rule looks at file order. A row that loses to another goes to quarantine; identical copies collapse; what as_of
leaves aside is kept, and counted as unused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa

from spanishgas.contracts import contract
from spanishgas.contracts.checking import FEW
from spanishgas.errors import DataError
from spanishgas.etl import calendar
from spanishgas.etl.hours import READINGS
from spanishgas.etl.labels import DatedLabels
from spanishgas.etl.quality import ROW, Audit, flagged
from spanishgas.etl.rollup import RollUp, customer_months
from spanishgas.etl.units import UNIT, fault
from spanishgas.raw_files import HOURS as TABLE

FUELS = ("elec_kwh", "gas_m3")
CHANCE = 0.1
"""Share of a customer's readings, or at one stamp of the customers, that no chance spoils."""
TWO_DAYS = 48
"""Hours of a customer whose readings may differ, however few there are."""
EXAMPLES = 1_000
"""Hours of one rule that quarantine shows; all are counted."""
PAST_DATES = ("customer_first_activation_date", "last_product_change_date")
"""Dates that cannot lie after as_of."""
_Use = Callable[[ir.Table], ir.BooleanValue]


class Bronze:
    """The raw tables on their way to bronze, for one as_of."""

    def __init__(
        self,
        raw: Mapping[str, ir.Table],
        customer_ids: ir.Table,
        as_of: date,
        audit: Audit,
        horizon_months: int | None = None,
    ) -> None:
        self.horizon_months = horizon_months
        self.as_of = ibis.date(as_of.year, as_of.month, as_of.day)
        self.window = calendar.window(as_of)
        self.day = as_of
        self.audit, self.engine, self.quality = audit, audit.engine, audit.quality
        self.raw, self.customer_ids = raw, customer_ids

    def customer(self) -> ir.Table:
        """bronze_customer: every customer of labels or attributes, with the contract and contact that stand."""
        parts = (self._labels(), self._attributes(), self._contracts(), self._interactions())
        table = self.customer_ids
        for part in parts:
            table = table.left_join(part, "customer_id").drop("customer_id_right")
        table = table.select(*contract("bronze_customer").of(table.columns).fields)
        return self.engine.materialize("bronze_customer", table, by=["customer_id"])

    def customer_month(self, hours: RollUp, customers: ir.Table) -> ir.Table:
        """bronze_customer_month: the months that have an hour, with their prices and the province's costs."""
        self._count_hours(hours)
        months = customer_months(hours.slots.semi_join(self.customer_ids, "customer_id"), self.day)
        months = self.engine.materialize("months", months, by=["customer_id", "month"])
        table = months.left_join(self._prices(months), ["customer_id", "month"])
        table = table.drop("customer_id_right", "month_right")
        province = customers.select("customer_id", province=customers.province_code)
        table = table.left_join(province, "customer_id").drop("customer_id_right")
        table = table.left_join(self._costs(), ["province", "month"])
        table = table.select(*contract("bronze_customer_month").fields)
        table = self.engine.materialize("bronze_customer_month", table, by=["customer_id", "month"])
        self._count_odd(table, customers)
        return table

    def _count_odd(self, months: ir.Table, customers: ir.Table) -> None:
        """Customer-months that are kept as they are, but hardly can be true."""
        attributes = customers.select(
            "customer_id", "contracted_power_kw", active_from="customer_first_activation_date"
        )
        table = months.left_join(attributes, "customer_id")
        hours = [
            (table.month == month, pd.Period(month, freq="M").days_in_month * 24) for month in self.window
        ]
        most = table.contracted_power_kw * ibis.cases(*hours)
        odd = {
            "odd.consumption_before_activation": flagged(table.month < table.active_from.strftime("%Y-%m")),
            "odd.more_than_the_power_allows": flagged(table.monthly_elec_kwh > most),
        }
        self.audit.measure("bronze_customer_month", table, **odd)

    def _labels(self) -> ir.Table:
        name = "churn_label"
        labels = self._collapse(name, self.raw[name])
        per_id = labels.group_by("customer_id").mutate(labels=lambda t: t.count())
        one = self.audit.use(name, "conflicting_label", per_id, per_id.labels == 1)
        one = one.drop("labels")
        if self.horizon_months:
            dated = DatedLabels(self.day, self.horizon_months, self.audit)
            one = dated.labels(one, self.raw["customer_contracts"])
        return self._settled(name, one)

    def _attributes(self) -> ir.Table:
        name = "customer_attributes"
        table = self._collapse(name, self.raw[name])
        return self._settled(name, self._one(name, table, ["customer_id"]))

    def _contracts(self) -> ir.Table:
        name = "customer_contracts"
        table = self._of_known(name, self.raw[name])
        table = self._collapse(name, table, "starts_after_as_of", self._has_begun)
        table = self._one(name, table, ["customer_id"], latest=["contract_start_date"])
        later = {column: table[column] > self.as_of for column in PAST_DATES}
        counts = {f"repaired.after_as_of.{c}": flagged(bad) for c, bad in later.items()}
        self.audit.measure(name, table, **counts)
        table = table.mutate(**{c: ibis.ifelse(bad, None, table[c]) for c, bad in later.items()})
        return self._settled(name, table)

    def _has_begun(self, contracts: ir.Table) -> ir.BooleanValue:
        start = contracts.contract_start_date
        return (start <= self.as_of) | start.isnull()

    def _interactions(self) -> ir.Table:
        name = "customer_interactions"
        table = self._of_known(name, self.raw[name])
        table = self._collapse(name, table, "after_as_of", lambda t: t.date <= self.as_of)
        ranked = self._ranked(name, table, ["customer_id"], ["date", "interaction_summary"])
        self.audit.measure(name, ranked, **{"unused.older_interactions": flagged(ranked.place != 0)})
        table = self._settled(name, ranked.filter(ranked.place == 0))
        return table.select(
            "customer_id",
            interaction_date=table.date,
            interaction_channel=table.channel,
            interaction_summary=table.interaction_summary,
        )

    def _prices(self, months: ir.Table) -> ir.Table:
        name = "price_history"
        table = self._of_known(name, self.raw[name])
        table = table.mutate(month=table.pricing_date.strftime("%Y-%m"))
        table = self._collapse(name, table, "outside_window", lambda t: t.month.isin(self.window))
        table = self._one(name, table, ["customer_id", "month"])
        unused = table.anti_join(months, ["customer_id", "month"])
        self.audit.measure(name, unused, **{"unused.month_without_hours": unused.count()})
        return self._settled(name, table.semi_join(months, ["customer_id", "month"])).drop("pricing_date")

    def _costs(self) -> ir.Table:
        name = "costs_by_province_month"
        table = self._collapse(name, self.raw[name], "outside_window", lambda t: t.month.isin(self.window))
        return self._settled(name, self._one(name, table, ["province", "month"]))

    def _count_hours(self, hours: RollUp) -> None:
        counts = hours.counts.mutate(
            has_id=_is_id(hours.counts.customer_id),
            known=hours.counts.customer_id.isin(self.customer_ids.customer_id).fill_null(False),
        )
        counts = self.engine.materialize("hour_counts", counts)
        mine, orphan = counts.has_id & counts.known, counts.has_id & ~counts.known
        beside = counts.bad_elec + counts.bad_gas
        bad, without = counts.unreadable_time + beside, {name: counts[f"without_{name}"] for name in READINGS}
        sums = {
            "rows_in": counts.rows_in.sum(),
            "quarantined.missing.customer_id": _where(~counts.has_id, counts.rows_in),
            "quarantined.orphan": _where(orphan, counts.rows_in),
            "quarantined.unreadable.timestamp": _where(mine, counts.unreadable_time),
            **{
                f"quarantined.out_of_range.{column}": _where(mine, counts[f"bad_{name}"])
                for name, column in READINGS.items()
            },
            "unused.outside_window": _where(mine, counts.rows_in - bad - counts.in_window),
            "collapsed": _where(mine, counts.in_window - counts.kept),
            "repaired.copies_of_an_hour": _where(mine, counts.in_window - counts.kept),
            "repaired.between_hours": _where(mine, counts.between_hours),
            **{f"repaired.negative_{name}": counts[f"negative_{name}"].sum() for name in READINGS},
            **{
                f"repaired.missing_{name}": _where(without[name] < counts.rows_in - beside, without[name])
                for name in READINGS
            },
            **{f"missing_as_0.{name}": number.sum() for name, number in without.items()},
        }
        sums["rows_in"] = sums["rows_in"] + int(hours.replaced.get("rows", 0))
        self.quality.add(TABLE, minutes_of_a_reading=hours.grid.minutes, files=hours.files)
        self.quality.add(TABLE, **{"replaced.by_corrections": hours.replaced.get("rows", 0)})
        self.audit.measure(TABLE, counts, **sums)
        for rule, bad_hours in self._bad_hours(hours.hours).items():
            if count := self.quality.count(TABLE, f"quarantined.{rule}"):
                self.quality.add_quarantined(TABLE, rule, count, self._examples(bad_hours))
        self._count_energy(counts, mine, hours.replaced)
        self.quality.judge(TABLE, *self._no_chance(counts.filter(mine)))
        self.quality.settle(TABLE)

    def _count_energy(self, counts: ir.Table, mine: ir.BooleanValue, replaced: Mapping[str, Any]) -> None:
        """`DataError` unless what came in is what was kept and what was set apart, to the last unit."""
        for name, fuel in zip(READINGS, FUELS, strict=True):
            parts = self.audit.sums(counts, **_energy(counts, mine, name))
            if parts["in"] != sum(parts.values()) - parts["in"]:
                raise DataError(f"energy was lost in the roll-up, which is a defect of the project: {parts}")
            parts |= {"replaced": replaced.get(name, 0), "in": parts["in"] + replaced.get(name, 0)}
            self.quality.add(TABLE, **{f"energy.{fuel}.{part}": float(n) / UNIT for part, n in parts.items()})

    def _no_chance(self, counts: ir.Table) -> Iterator[str]:
        """What a customer's hours show that chance does not explain, whatever the others' hours are."""
        enough = counts.in_window >= FEW
        rules = {
            "at_the_change": counts.at_the_change > 0,
            "copies": enough & (counts.differing >= ibis.greatest(TWO_DAYS, CHANCE * counts.in_window)),
            "between": enough & (counts.between_hours > CHANCE * counts.in_window),
        }
        sums = {name: flagged(rule) for name, rule in rules.items()}
        first = {f"first_{name}": counts.customer_id.min(where=rule) for name, rule in rules.items()}
        seen = self.audit.sums(counts, customers=flagged(counts.in_window > 0), **sums, **first)
        if seen["at_the_change"] > CHANCE * seen["customers"]:
            yield self.quality.told("at_the_change", seen)
        yield from (self.quality.told(rule, seen) for rule in ("copies", "between") if seen[rule])

    def _bad_hours(self, hours: ir.Table) -> dict[str, ir.Table]:
        """The hours that each rule sets apart, nothing read yet; the first rule that holds is the hour's."""
        has_id = _is_id(hours.customer_id)
        mine = hours.filter(has_id).semi_join(self.customer_ids, "customer_id")
        timed = mine.filter(fault(mine).isnull())
        return {
            "missing.customer_id": hours.filter(~has_id),
            "orphan": hours.filter(has_id).anti_join(self.customer_ids, "customer_id"),
            **{
                f"out_of_range.{column}": mine.filter(fault(mine) == name)
                for name, column in READINGS.items()
            },
            "unreadable.timestamp": timed.filter(timed.hour.isnull()),
        }

    def _examples(self, hours: ir.Table) -> pa.Table:
        """The first of these hours in the order of their values, in the columns of the file, as DuckDB writes them."""
        first = hours.order_by(["customer_id", "written", *READINGS]).limit(EXAMPLES)
        names = {"customer_id": "customer_id", "timestamp": "written"}
        names |= {column: f"written_{name}" for name, column in READINGS.items()}
        examples = self.engine.reader.import_table("examples", self.engine.fetch(first.select(**names)))
        return self.engine.reader.fetch(examples.cast(dict.fromkeys(examples.columns, "string")))

    def _of_known(self, name: str, table: ir.Table) -> ir.Table:
        self.audit.quarantine(name, "orphan", table.anti_join(self.customer_ids, "customer_id"))
        return table.semi_join(self.customer_ids, "customer_id")

    def _collapse(self, name: str, table: ir.Table, rule: str = "", use: _Use | None = None) -> ir.Table:
        """Identical copies as one row, of the rows that meet `use`: others are of no use as of now, noted by `rule`."""
        columns = [column for column in table.columns if column != ROW]
        copies = table.group_by(columns).agg(**{ROW: table[ROW].min()})
        once = self.engine.materialize(f"once_{name}", copies)
        used = use(once).fill_null(False) if use else once[ROW].notnull()
        counts = self.audit.sums(once, rows=once.count(), unused=flagged(~used))
        gone = self.quality.count(name, "quarantined") + self.quality.count(name, "quarantined.orphan")
        self.quality.add(name, collapsed=self.quality.count(name, "rows_in") - gone - counts["rows"])
        if not use:
            return once
        self.quality.add(name, **{f"unused.{rule}": counts["unused"]})
        return once.filter(used)

    def _ranked(self, name: str, table: ir.Table, keys: Sequence[str], latest: Sequence[str]) -> ir.Table:
        """Rows of a key by `latest`, last first, then by the other columns (nulls last in both): `place` 0 stands."""
        order = [ibis.desc(column, nulls_first=False) for column in latest]
        others = [column for column in table.columns if column not in (*keys, *latest, ROW)]
        order += [ibis.asc(column, nulls_first=False) for column in others]
        place = ibis.row_number().over(ibis.window(group_by=list(keys), order_by=order))
        return self.engine.materialize(f"ranked_{name}", table.mutate(place=place))

    def _one(self, name: str, table: ir.Table, keys: Sequence[str], latest: Sequence[str] = ()) -> ir.Table:
        """The row of each key that stands; its other rows go to quarantine."""
        ranked = self._ranked(name, table, keys, latest)
        return self.audit.use(name, "conflicting_copy", ranked, ranked.place == 0).drop("place")

    def _settled(self, name: str, table: ir.Table) -> ir.Table:
        self.quality.judge(name)
        self.quality.settle(name)
        return table.drop(ROW)


def _is_id(customer_id: ir.StringValue) -> ir.BooleanValue:
    return (customer_id.strip() != "").fill_null(False)


def _energy(counts: ir.Table, mine: ir.BooleanValue, name: str) -> dict[str, ir.Value]:
    """Units that came in, and where they went."""
    rows, beside = counts[f"in_{name}"], counts[f"beside_{name}"]
    return {
        "in": (rows + beside).sum(),
        "kept": _where(mine, counts[f"kept_{name}"]),
        "of_no_customer": _where(~mine, rows + beside),
        "outside_window": _where(mine, counts[f"outside_{name}"]),
        "in_copies": _where(mine, counts[f"copies_{name}"]),
        "beside_unusable": _where(mine, beside),
    }


def _where(condition: ir.BooleanValue, count: ir.NumericValue) -> ir.Value:
    return ibis.ifelse(condition, count, 0).sum()

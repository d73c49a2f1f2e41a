"""Labels with dates: who left within the horizon after as-of, and who was not observed long enough to say.

    churn_date, observed_until -> months after as-of -> churn: 1 within the horizon, 0 beyond it, null where unknown

Month 1 begins on as-of; month m ends as many calendar months later, on the same day or the month's last. A customer who
had not left when its observation ended before the horizon has no label: it may leave yet, and is no stayer. Without
`observed_until` a customer counts as observed until the last churn date of the file, or to the end of the horizon if
that lies in the horizon's last month. A file without any date is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import ibis
import ibis.expr.types as ir
import pandas as pd

from spanishgas.config.policy import load_policy
from spanishgas.errors import ContractError
from spanishgas.etl.quality import Audit, flagged
from spanishgas.etl.source import Source
from spanishgas.raw_files import LABELS, RAW_FILES

LEFT, OBSERVED = "churn_date", "observed_until"
CENSORED = "unused.not_observed_to_the_horizon"
WAY_OUT = "Wait for later labels, leave the file out to score, or lower label_horizon_months. Nothing was published."
NEARLY_ALL = 0.9
"""Share of those who had not left from which on a horizon is too long for the labels."""


def contradictions(rows: Any, as_of: Any, end: Any) -> dict[str, Any]:
    """Whether a label's dates contradict it, each other or as-of, by rule of the quality report.

    Rows of Ibis or pandas, and the first and last day of the horizon as either compares dates.
    """
    left, observed = rows[LEFT], rows[OBSERVED]
    return {
        f"before_as_of.{LEFT}": left < as_of,
        f"after_observation.{LEFT}": left > observed,
        f"before_as_of.{OBSERVED}": observed < as_of,
        f"stayed_with_date.{LEFT}": (rows.churn == 0) & (left <= end),
    }


def horizon_of(source: Source) -> int | None:
    """Months within which a customer who left counts as such, by policy.yaml; None where labels have no dates."""
    dated = {LEFT, OBSERVED} & {*source.text(LABELS).column_names}
    return load_policy().label_horizon_months if dated else None


@dataclass(frozen=True)
class DatedLabels:
    """The rules of labels with dates, for one as-of date and horizon."""

    as_of: date
    horizon_months: int
    audit: Audit

    @cached_property
    def end(self) -> date:
        """Last day of the horizon."""
        return self._after(self.horizon_months)

    def labels(self, rows: ir.Table, contracts: ir.Table) -> ir.Table:
        """Labels with churn_month, observed_months and horizon_months in place of dates; without dates, as before.

        Rows whose dates cannot be go to quarantine. Raises `ContractError` where nearly nobody who stayed was observed
        to the end of the horizon.
        """
        present = [column for column in (LEFT, OBSERVED) if column in rows.columns]
        if not any(
            self.audit.sums(rows, **{c: rows[c].count() for c in present}).values() if present else ()
        ):
            return rows.drop(*present)
        rows = rows.mutate(**{c: ibis.null("date") for c in (LEFT, OBSERVED) if c not in present})
        active = contracts.group_by("customer_id").agg(active=contracts.customer_first_activation_date.min())
        rows = rows.left_join(active, "customer_id").drop("customer_id_right")
        rows = self._possible(rows)
        self.audit.quality.judge(LABELS)
        return self._judged(rows)

    def _possible(self, rows: ir.Table) -> ir.Table:
        left, end, dated = rows[LEFT], _day(self.end), bool(self.audit.sums(rows, n=rows[LEFT].count())["n"])
        unknown = (rows.churn == 1) & left.isnull() & (rows[OBSERVED] > end).fill_null(True) & dated
        rules = {
            f"before_activation.{LEFT}": left < rows.active,
            **contradictions(rows, _day(self.as_of), end),
            "left_without_date.customer_id": unknown,
        }
        broken = ibis.cases(*((rule.fill_null(False), name) for name, rule in rules.items()))
        rows = self.audit.engine.materialize("dated_labels", rows.mutate(broken=broken))
        for name in rules:
            rows = self.audit.use(LABELS, name, rows, rows.broken.isnull() | (rows.broken != name))
        return rows.drop("broken")

    def _judged(self, rows: ir.Table) -> ir.Table:
        last = self.audit.sums(rows, last=rows[LEFT].max())["last"] or self.end
        assumed = self.end if last > self._after(self.horizon_months - 1) else last
        until = rows[OBSERVED].fill_null(_day(assumed))
        month = self._months(rows[LEFT]) + (rows[LEFT].day() > self.as_of.day).cast("int64")
        month = ibis.ifelse(month < 1, 1, month)
        whole = (until.day() >= self.as_of.day) | ((until + ibis.interval(days=1)).day() == 1)
        watched = self._months(until) - (~whole).cast("int64")
        within, undated = month <= self.horizon_months, rows[LEFT].isnull()
        stayed = undated & (rows.churn == 0)
        censored = stayed & (watched < self.horizon_months)
        self._count(rows, until, stayed, censored, ~within)
        label = ibis.cases((within, 1), (month.notnull(), 0), (censored, None), else_=rows.churn)
        judged = rows.mutate(
            churn=label.cast("int64"),
            churn_month=month.cast("int64"),
            observed_months=ibis.ifelse(undated & ~stayed, None, watched).cast("int64"),
            horizon_months=ibis.literal(self.horizon_months, "int64"),
        )
        return judged.drop(LEFT, OBSERVED, "active")

    def _count(
        self, rows: ir.Table, until: ir.Value, stayed: ir.Value, censored: ir.Value, later: ir.Value
    ) -> None:
        sums = {
            CENSORED: flagged(censored),
            "repaired.left_after_the_horizon": flagged(later),
            "repaired.observed_until_is_assumed": flagged(rows[OBSERVED].isnull()),
        }
        seen = self.audit.sums(rows, stayed=flagged(stayed), last=until.max(), **sums)
        self.audit.quality.add(LABELS, **{name: seen[name] for name in sums})
        if seen[CENSORED] > NEARLY_ALL * seen["stayed"]:
            fault = (
                f"{seen[CENSORED]:,} of {seen['stayed']:,} customers who had not left were observed until "
                f"{seen['last']} at the latest, before the horizon ends on {self.end} ({self.horizon_months} "
                f"months after {self.as_of}, label_horizon_months in policy.yaml)"
            )
            raise ContractError.broken(RAW_FILES[LABELS], [fault], WAY_OUT)

    def _months(self, day: ir.DateValue) -> ir.IntegerValue:
        """Calendar months from as-of to `day`, whatever the day of the month."""
        return (day.year() - self.as_of.year) * 12 + day.month() - self.as_of.month

    def _after(self, months: int) -> date:
        return (pd.Timestamp(self.as_of) + pd.DateOffset(months=months)).date()


def _day(day: date) -> ir.DateScalar:
    return ibis.date(day.year, day.month, day.day)

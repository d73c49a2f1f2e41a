"""Questions about all customers of one date: totals, tiers, trend, and the campaign that filters cut out of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from spanishgas.config.policy import ACTIONS, RISK_TIERS, Policy
from spanishgas.dashboard.tables import ScoredCustomers, ask, ask_arrow
from spanishgas.errors import UsageError
from spanishgas.evaluation.value import NO_OFFER, option_values
from spanishgas.lake import Lake, Snapshot
from spanishgas.rendering import spreadsheet
from spanishgas.scoring.campaign import within_budget

SHOWN = 500
"""Rows of the campaign that a page shows."""
EXCEL_ROWS = 50_000
"""Most rows of a workbook: beyond it, writing takes minutes and opening it is no pleasure."""
ORDERS: Mapping[str, str] = {
    "expected monthly loss": "expected_monthly_loss DESC",
    "churn probability": "churn_probability DESC",
    "value of the offer": "expected_margin_impact DESC",
    "monthly margin": "avg_monthly_margin DESC NULLS LAST",
    "customer": "customer_id",
}
_JOINED = """
    FROM scores AS s
    JOIN recommendations AS r USING (customer_id)
    JOIN gold_master AS g USING (customer_id)
"""
_COLUMNS = """
    customer_id, s.churn_probability, s.risk_tier, s.expected_monthly_loss, g.avg_monthly_margin, g.segment,
    g.sales_channel, g.renewal_bucket, r.action, r.timing_window, r.offer_budget, r.expected_margin_impact,
    array_to_string(r.reason_codes, '; ') AS reasons, s.in_training
"""


@dataclass(frozen=True)
class Filters:
    """What a campaign is cut down to; an empty filter lets everything pass."""

    risk_tier: tuple[str, ...] = ()
    segment: tuple[str, ...] = ()
    sales_channel: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    timing_window: tuple[str, ...] = ()
    least_loss: float = 0.0
    """EUR a month."""

    @property
    def where(self) -> str:
        """The condition in SQL."""
        lists = [f.name for f in fields(self) if f.name != "least_loss" and getattr(self, f.name)]
        terms = [f"list_contains(${name}, {_OF[name]}.{name})" for name in lists]
        return " AND ".join(["s.expected_monthly_loss >= $least_loss", *terms])

    @property
    def values(self) -> dict[str, object]:
        """What the names in `where` stand for."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v != ()}


_OF = {"risk_tier": "s", "segment": "g", "sales_channel": "g", "action": "r", "timing_window": "r"}


@dataclass(frozen=True)
class Totals:
    """A date's customers in four numbers, and who scored them."""

    customers: int
    at_risk: int
    """Above the lowest risk tier."""
    flagged: int
    """Above the champion's threshold."""
    expected_monthly_loss: float
    """EUR."""
    model_version: str | None
    """Who scored them."""

    @property
    def share(self) -> float:
        """Share of the customers who are at risk."""
        return self.at_risk / self.customers if self.customers else 0.0


def totals(scores: Snapshot) -> Totals:
    """The four numbers of one date."""
    row = ask(
        {"scores": scores},
        """
        SELECT count(*), count(*) FILTER (risk_tier <> $lowest), count(*) FILTER (churn_flag = 1),
            coalesce(sum(expected_monthly_loss), 0), any_value(model_version)
        FROM scores
        """,
        {"lowest": RISK_TIERS[0]},
    )
    return Totals(*next(row.itertuples(index=False)))


def trend(lake: Lake) -> pd.DataFrame:
    """A row per scored date, oldest first: as_of, model_version, customers, at_risk_share, expected_monthly_loss."""
    days = [(day, totals(scores)) for day in lake.dates("scores") if (scores := lake.find("scores", day))]
    rows = [(day, t.model_version, t.customers, t.share, t.expected_monthly_loss) for day, t in days]
    names = ["as_of", "model_version", "customers", "at_risk_share", "expected_monthly_loss"]
    return pd.DataFrame(rows, columns=names)


def tiers(scores: Snapshot) -> pd.DataFrame:
    """A row per risk tier, lowest first: risk_tier, customers, expected_monthly_loss; tiers without customers too."""
    counts = ask(
        {"scores": scores},
        "SELECT risk_tier, count(*) AS customers, sum(expected_monthly_loss) AS expected_monthly_loss "
        "FROM scores GROUP BY risk_tier",
    )
    return counts.set_index("risk_tier").reindex(list(RISK_TIERS), fill_value=0).reset_index()


@dataclass(frozen=True)
class Cut:
    """What filters leave of the customers, in EUR and heads."""

    customers: int
    expected_monthly_loss: float
    offers: int
    offer_budget: float
    expected_margin_impact: float


def cut(scored: ScoredCustomers, filters: Filters) -> Cut:
    """The campaign's totals under `filters`."""
    row = ask(
        scored.tables,
        f"""
        SELECT count(*), coalesce(sum(s.expected_monthly_loss), 0), count(*) FILTER (r.action <> 'no_offer'),
            coalesce(sum(r.offer_budget), 0), coalesce(sum(r.expected_margin_impact), 0)
        {_JOINED} WHERE {filters.where}
        """,
        filters.values,
    )
    return Cut(*next(row.itertuples(index=False)))


def customers(scored: ScoredCustomers, filters: Filters, order: str, limit: int = SHOWN) -> pd.DataFrame:
    """The first `limit` customers under `filters`, in the order called `order` (of ORDERS); equal ones by id."""
    if order not in ORDERS:
        raise UsageError.unknown("order", order, ORDERS)
    return ask(scored.tables, _campaign(filters, order, limit), filters.values)


def _campaign(filters: Filters, order: str, limit: int | None) -> str:
    rows = f"LIMIT {limit}" if limit is not None else ""
    return f"SELECT {_COLUMNS} {_JOINED} WHERE {filters.where} ORDER BY {ORDERS[order]}, customer_id {rows}"


def as_csv(scored: ScoredCustomers, filters: Filters, order: str) -> bytes:
    """Every customer under `filters` as CSV in UTF-8; texts that a spreadsheet would take for a formula are quoted."""
    from pyarrow import csv

    out = io.BytesIO()
    csv.write_csv(spreadsheet(ask_arrow(scored.tables, _campaign(filters, order, None), filters.values)), out)
    return out.getvalue()


def as_excel(scored: ScoredCustomers, filters: Filters, order: str) -> bytes:
    """The same as a workbook, of at most EXCEL_ROWS customers; UsageError for more."""
    from openpyxl import Workbook

    table = spreadsheet(ask_arrow(scored.tables, _campaign(filters, order, EXCEL_ROWS + 1), filters.values))
    if table.num_rows > EXCEL_ROWS:
        raise UsageError(f"a workbook holds at most {EXCEL_ROWS:,} customers: filter further, or take CSV")
    book = Workbook(write_only=True)
    sheet = book.create_sheet("campaign")
    sheet.freeze_panes = "B2"
    sheet.append(table.column_names)
    for row in table.to_pylist():
        sheet.append(list(row.values()))
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def actions(scored: ScoredCustomers) -> pd.DataFrame:
    """A row per tier, segment and action: customers, offer_budget, expected_margin_impact (EUR); lowest first."""
    sums = ask(
        {"recommendations": scored.recommendations},
        """
        SELECT risk_tier, coalesce(segment, 'unknown') AS segment, action, count(*) AS customers,
            sum(offer_budget) AS offer_budget, sum(expected_margin_impact) AS expected_margin_impact
        FROM recommendations GROUP BY ALL
        """,
    )
    ranks = {"risk_tier": list(RISK_TIERS), "action": list(ACTIONS)}
    return sums.sort_values(
        ["risk_tier", "segment", "action"], key=lambda c: c.map(ranks[c.name].index) if c.name in ranks else c
    ).reset_index(drop=True)


def at_risk(scored: ScoredCustomers) -> pd.DataFrame:
    """The customers that offers are for, above the lowest tier, in the order of their ids.

    probability, margin (EUR a month), tier, action.
    """
    return ask(
        scored.tables,
        """
        SELECT s.churn_probability AS probability, g.avg_monthly_margin AS margin, s.risk_tier AS tier, r.action
        FROM scores AS s JOIN gold_master AS g USING (customer_id) JOIN recommendations AS r USING (customer_id)
        WHERE s.risk_tier <> $lowest ORDER BY customer_id
        """,
        {"lowest": RISK_TIERS[0]},
    )


def allocation(customers: pd.DataFrame, policy: Policy, budget: float | None) -> pd.DataFrame:
    """What `budget` in EUR would choose (None: whatever pays): offer, customers, cost and expected_value; dearest last.

    The same rule as in `spanishgas score`, before a share of the customers is held back as control.
    """
    p, m = (customers[name].to_numpy(dtype="float64") for name in ("probability", "margin"))
    values = option_values(p, m, policy.offers)
    options = {NO_OFFER: 0.0, **{name: offer.cost_eur for name, offer in policy.offers.menu.items()}}
    costs = np.array(list(options.values()))
    option = within_budget(values, costs, budget)
    chosen = np.bincount(option, minlength=len(costs))
    worth = np.bincount(option, values[option, np.arange(len(option))], minlength=len(costs))
    return pd.DataFrame(
        {"offer": list(options), "customers": chosen, "cost": costs * chosen, "expected_value": worth}
    )

"""Questions about all customers of one date: totals, tiers, trend, and the campaign that filters cut out of them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from spanishgas.config.policy import ACTIONS, RISK_TIERS, Offers, Policy
from spanishgas.dashboard.tables import ScoredCustomers, ask
from spanishgas.errors import UsageError
from spanishgas.evaluation.budget import within_budget
from spanishgas.evaluation.value import NO_OFFER, lasting_margin, option_values
from spanishgas.lake import Lake, Snapshot
from spanishgas.rendering import spreadsheet

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
GROUPS = ("segment", "sales_channel")
"""Columns of gold that a campaign can be cut down to, where it has them."""


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
    def values(self) -> dict[str, object]:
        """The filters that are set, by name."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if v != ()}

    @property
    def where(self) -> str:
        """The condition in SQL, in which $name stands for the value of that name."""
        lists = [f"list_contains(${name}, {name})" for name in self.values if name != "least_loss"]
        return " AND ".join(["expected_monthly_loss >= $least_loss", *lists])


def _campaign(scored: ScoredCustomers) -> str:
    """A row per scored customer: what the campaign's questions begin with."""
    columns = ["avg_monthly_margin", *scored.known(*GROUPS, "renewal_bucket")]
    return f"""
        WITH campaign AS (
            SELECT customer_id, s.churn_probability, s.risk_tier, s.expected_monthly_loss,
                {", ".join(f"g.{name}" for name in columns)}, r.action, r.timing_window, r.offer_budget,
                r.expected_margin_impact, array_to_string(r.reason_codes, '; ') AS reasons, s.in_training
            FROM scores AS s
            JOIN recommendations AS r USING (customer_id)
            JOIN gold_master AS g USING (customer_id)
        )
    """


def totals(scores: Snapshot) -> Any:
    """One date's customers, at_risk (above the lowest tier) and their share, flagged (above the champion's threshold).

    Beside them expected_monthly_loss (EUR) and model_version, who scored them.
    """
    row = ask(
        {"scores": scores},
        """
        SELECT count(*) AS customers, count(*) FILTER (risk_tier <> $lowest) AS at_risk,
            coalesce(at_risk / customers, 0) AS share, count(*) FILTER (churn_flag = 1) AS flagged,
            coalesce(sum(expected_monthly_loss), 0) AS expected_monthly_loss, any_value(model_version) AS model_version
        FROM scores
        """,
        {"lowest": RISK_TIERS[0]},
    )
    return next(row.df().itertuples(index=False))


def trend(lake: Lake) -> pd.DataFrame:
    """The totals of each scored date, oldest first, with its as_of."""
    days = [(day, lake.find("scores", day)) for day in lake.dates("scores")]
    return pd.DataFrame([{"as_of": day, **totals(scores)._asdict()} for day, scores in days if scores])


def tiers(scores: Snapshot) -> pd.DataFrame:
    """A row per risk tier, lowest first: risk_tier, customers; tiers without customers too."""
    counts = ask(
        {"scores": scores}, "SELECT risk_tier, count(*) AS customers FROM scores GROUP BY risk_tier"
    ).df()
    return counts.set_index("risk_tier").reindex(list(RISK_TIERS), fill_value=0).reset_index()


def cut(scored: ScoredCustomers, filters: Filters) -> Any:
    """The campaign's totals under `filters`: customers, offers, and in EUR the loss, the budget and the impact."""
    row = ask(
        scored.tables,
        f"""
        {_campaign(scored)}
        SELECT count(*) AS customers, count(*) FILTER (action <> 'no_offer') AS offers,
            coalesce(sum(expected_monthly_loss), 0) AS expected_monthly_loss,
            coalesce(sum(offer_budget), 0) AS offer_budget,
            coalesce(sum(expected_margin_impact), 0) AS expected_margin_impact
        FROM campaign WHERE {filters.where}
        """,
        filters.values,
    )
    return next(row.df().itertuples(index=False))


def customers(scored: ScoredCustomers, filters: Filters, order: str, limit: int = SHOWN) -> pd.DataFrame:
    """The first `limit` customers under `filters`, in the order called `order` (of ORDERS); equal ones by id."""
    frame: pd.DataFrame = _rows(scored, filters, order, limit).to_pandas()
    return frame


def _rows(scored: ScoredCustomers, filters: Filters, order: str, limit: int | None = None) -> pa.Table:
    if order not in ORDERS:
        raise UsageError.unknown("order", order, ORDERS)
    rows = f"LIMIT {limit}" if limit is not None else ""
    sorted_by = f"ORDER BY {ORDERS[order]}, customer_id {rows}"
    sql = f"{_campaign(scored)} SELECT * FROM campaign WHERE {filters.where} {sorted_by}"
    return ask(scored.tables, sql, filters.values).to_arrow_table()


def as_csv(scored: ScoredCustomers, filters: Filters, order: str) -> bytes:
    """Every customer under `filters` as CSV in UTF-8; texts that a spreadsheet would take for a formula are quoted."""
    out = io.BytesIO()
    csv.write_csv(spreadsheet(_rows(scored, filters, order)), out)
    return out.getvalue()


def as_excel(scored: ScoredCustomers, filters: Filters, order: str) -> bytes:
    """The same as a workbook, of at most EXCEL_ROWS customers; UsageError for more."""
    table = spreadsheet(_rows(scored, filters, order, EXCEL_ROWS + 1))
    if table.num_rows > EXCEL_ROWS:
        raise UsageError(f"a workbook holds at most {EXCEL_ROWS:,} customers: filter further, or take CSV")
    out = io.BytesIO()
    table.to_pandas().to_excel(out, sheet_name="campaign", index=False, freeze_panes=(1, 1))
    return out.getvalue()


def actions(scored: ScoredCustomers) -> pd.DataFrame:
    """A row per tier, segment and action: customers, offer_budget, expected_margin_impact (EUR); lowest first."""
    return ask(
        {"recommendations": scored.recommendations},
        """
        SELECT risk_tier, coalesce(segment, 'unknown') AS segment, action, count(*) AS customers,
            sum(offer_budget) AS offer_budget, sum(expected_margin_impact) AS expected_margin_impact
        FROM recommendations GROUP BY risk_tier, segment, action
        ORDER BY list_position($tiers, risk_tier), segment, list_position($actions, action)
        """,
        {"tiers": list(RISK_TIERS), "actions": list(ACTIONS)},
    ).df()


def left_alone(scored: ScoredCustomers) -> int:
    """Customers whom learned effects leave alone; 0 where the risk rule decides."""
    if "better_left_alone" not in scored.recommendations.manifest.columns:
        return 0
    counted = "SELECT count(*) FILTER (better_left_alone) FROM recommendations"
    return int(next(iter(ask({"recommendations": scored.recommendations}, counted).fetchall()))[0])


def at_risk(scored: ScoredCustomers, offers: Offers) -> pd.DataFrame:
    """The customers that offers are for, above the lowest tier, in the order of their ids.

    probability, margin (EUR a month that an offer protects, as recommendations count it), tier, action.
    """
    when = "expected_month" if "expected_month" in scored.scores.manifest.columns else ""
    rows = ask(
        scored.tables,
        f"""
        SELECT churn_probability AS probability, avg_monthly_margin AS margin, s.risk_tier AS tier, action, {when}
        FROM scores AS s
        JOIN recommendations AS r USING (customer_id)
        JOIN gold_master AS g USING (customer_id)
        WHERE s.risk_tier <> $lowest ORDER BY customer_id
        """,
        {"lowest": RISK_TIERS[0]},
    ).df()
    lasting = lasting_margin(rows, rows["margin"].to_numpy(dtype="float64"), offers)
    return rows[["probability", "tier", "action"]].assign(margin=lasting)


def allocation(customers: pd.DataFrame, policy: Policy, budget: float | None) -> pd.DataFrame:
    """What `budget` in EUR would choose (None: whatever pays): offer, customers, cost and expected_value; dearest last.

    The same rule as in `spanishgas score`, before a share of the customers is held back as control.
    """
    p, m = (customers[name].to_numpy(dtype="float64") for name in ("probability", "margin"))
    values, menu = option_values(p, m, policy.offers), policy.offers.menu
    costs = np.array([0.0, *(offer.cost_eur for offer in menu.values())])
    option = within_budget(values, costs, budget)
    chosen = np.bincount(option, minlength=len(costs))
    worth = np.bincount(option, values[option, np.arange(len(option))], minlength=len(costs))
    return pd.DataFrame(
        {"offer": [NO_OFFER, *menu], "customers": chosen, "cost": costs * chosen, "expected_value": worth}
    )

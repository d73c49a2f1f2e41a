"""Questions about one customer: who it is, why it is at risk, what it used and brought, and where that comes from."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spanishgas.config.tiers import read_tiers
from spanishgas.dashboard.tables import ScoredCustomers, ask
from spanishgas.errors import LakeError
from spanishgas.evaluation import importance
from spanishgas.lake import Lake, Snapshot
from spanishgas.scoring.campaign import EFFECT
from spanishgas.training.model import ChurnModel

WHO = {
    "segment": "segment",
    "sales_channel": "sales channel",
    "tenure_bucket": "with us",
    "renewal_bucket": "renewal in",
}
"""Columns of gold that say who a customer is, where it has them, in words."""
NEAR = 20
"""Most ids that a search names."""
STRONGEST = 10
"""Features in the picture of what moves a customer's risk."""


def search(scored: ScoredCustomers, text: str) -> list[str]:
    """Ids that begin with `text`, in any case of letters, the id that is `text` first; none for an empty text."""
    if not text.strip():
        return []
    answer = ask(
        {"scores": scored.scores},
        f"""
        SELECT customer_id FROM scores
        WHERE starts_with(lower(customer_id), lower($text)) OR customer_id = $exact
        ORDER BY customer_id NOT IN ($exact, $text), customer_id LIMIT {NEAR}
        """,
        {"text": text.strip(), "exact": text},
    )
    return [customer_id for (customer_id,) in answer.fetchall()]


def facts(scored: ScoredCustomers, customer_id: str) -> dict[str, Any]:
    """What was scored and recommended for a customer, and what gold says of it; LakeError where there is none."""
    columns = [f"g.{name}," for name in scored.known(*WHO)]
    measured = [f"r.{name}," for name in EFFECT if name in scored.recommendations.manifest.columns]
    rows = ask(
        scored.tables,
        f"""
        SELECT s.*, {" ".join(measured)} r.action, r.timing_window, r.offer_budget, r.expected_margin_impact,
            r.reason_codes, r.probability_low, r.probability_high, {" ".join(columns)} g.avg_monthly_margin
        FROM scores AS s
        JOIN recommendations AS r USING (customer_id)
        JOIN gold_master AS g USING (customer_id)
        WHERE customer_id = $id
        """,
        {"id": customer_id},
    ).to_arrow_table()
    if rows.num_rows == 0:
        raise LakeError(f"no customer '{customer_id}' was scored as of {scored.scores.manifest.as_of}")
    return dict(rows.to_pylist()[0])


def contributions(scored: ScoredCustomers, customer_id: str, model: ChurnModel) -> pd.DataFrame:
    """What the features add to the customer's log odds, the weightiest STRONGEST of them: feature, value, adds."""
    rows = ask({"gold": scored.gold}, "SELECT * FROM gold WHERE customer_id = $id", {"id": customer_id}).df()
    added, tiers = importance.contributions(model, rows).iloc[0], read_tiers()
    values = rows.iloc[0][list(added.index)]
    every = pd.DataFrame(
        {
            "feature": [tiers.words(name) for name in added.index],
            "value": values.map(str).where(values.notna(), "not known"),
            "adds": added,
        }
    )
    return every.sort_values("adds", key=abs, ascending=False, ignore_index=True).head(STRONGEST)


def months(lake: Lake, scored: ScoredCustomers, customer_id: str) -> pd.DataFrame:
    """A row per month: month, electricity_kwh, gas_m3, electricity_margin, gas_margin and total_margin in EUR."""
    return ask(
        {"months": _source(lake, scored, "silver_customer_month")},
        """
        SELECT month, monthly_elec_kwh AS electricity_kwh, monthly_gas_m3 AS gas_m3,
            elec_margin AS electricity_margin, gas_margin, total_margin
        FROM months WHERE customer_id = $id ORDER BY month
        """,
        {"id": customer_id},
    ).df()


def contacts(lake: Lake, scored: ScoredCustomers, customer_id: str) -> pd.DataFrame:
    """The customer's contacts: date, channel, intent, sentiment, summary; the source keeps the last one."""
    return ask(
        {"customers": _source(lake, scored, "silver_customer")},
        """
        SELECT interaction_date AS date, interaction_channel AS channel, customer_intent AS intent,
            sentiment_label AS sentiment, interaction_summary AS summary
        FROM customers WHERE customer_id = $id AND interaction_date IS NOT NULL
        """,
        {"id": customer_id},
    ).df()


def lineage(scored: ScoredCustomers) -> pd.DataFrame:
    """What was made from what: table, as_of, digest, made by (the MLflow run), code (the commit)."""
    rows = []
    for m in (snapshot.manifest for snapshot in scored.tables.values()):
        dirty = " with changes" if m.code.get("dirty") == "true" else ""
        commit = m.code.get("commit", "unknown")[:10]
        rows.append((m.table, m.as_of, m.rows, m.digest[:16], m.run_id or "none", commit + dirty))
    return pd.DataFrame(rows, columns=["table", "as of", "rows", "digest", "run", "code"])


def _source(lake: Lake, scored: ScoredCustomers, table: str) -> Snapshot:
    """The silver table that the gold table was built from."""
    gold = scored.gold.manifest
    if table not in gold.built_from:
        raise LakeError(f"the gold table of {gold.as_of} does not say which {table} it was built from")
    return lake.by_digest(gold.built_from[table], table)

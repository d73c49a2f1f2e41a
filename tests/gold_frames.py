"""Made-up gold tables for tests of what comes after the ETL: every column of the contract, and a signal to learn."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot

TEXTS = {
    "renewal_bucket": ["expired", "0-3m", "3-6m", "6-12m"],
    "tenure_bucket": ["0-6m", "6-12m", "1-2y", "2-5y", "5y+"],
    "segment": ["Residential", "SME", "Corporate"],
    "sales_channel": ["Office", "Telemarketing", "Unknown"],
    "portfolio_type": ["Residential_SingleFuel", "SME_DualFuel"],
    "customer_intent": ["Contract Renewal", "Complaint / Escalation", None],
    "sentiment_label": ["negative", "neutral", "positive", None],
}


def gold_frame(rows: int, seed: int = 0, *, labelled: bool = True, first_id: int = 1) -> pd.DataFrame:
    """`rows` customers; the log odds of churn rise with negative sentiment and fall with months_to_renewal."""
    rng = np.random.default_rng(seed)
    tiers = load_tiers()
    frame = pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(first_id, first_id + rows)]})
    frame["churn"] = pd.array([pd.NA] * rows, dtype="Int64")
    frame["avg_monthly_margin"] = rng.normal(5, 6, rows)
    frame["total_margin_2024"] = frame["avg_monthly_margin"] * 12
    frame["contracted_power_kw"] = rng.choice([3.45, 4.6, 10.0], rows)
    frame["is_urban"] = rng.integers(0, 2, rows)
    for name in tiers.features():
        entry = tiers.entry(name)
        if entry.kind == "flag" or entry.whole:
            frame[name] = rng.integers(0, 2, rows)
        elif entry.kind == "numeric":
            frame[name] = np.abs(rng.normal(3, 2, rows))
        elif entry.kind == "cross":
            frame[name] = rng.choice(["a_x_b", "a_x_c", "none_x_c"], rows)
        else:
            frame[name] = rng.choice(np.array(TEXTS[name], dtype=object), rows)
    quiet = rng.random(rows) < 0.5
    frame.loc[quiet, "last_interaction_days_ago"] = np.nan
    frame.loc[rng.random(rows) < 0.2, "months_since_last_change"] = np.nan
    if labelled:
        odds = -1.5 - frame["months_to_renewal"] / 2 + 3.5 * (frame["sentiment_label"] == "negative")
        frame["churn"] = pd.array(rng.random(rows) < 1 / (1 + np.exp(-odds)), dtype="Int64")
    return frame


def publish_gold(lake: Lake, frame: pd.DataFrame, as_of: date) -> Snapshot:
    """Put a gold frame into a lake."""

    def write(folder: Path) -> None:
        frame.to_parquet(folder / "part-0.parquet", index=False)

    return lake.publish("gold_master", as_of, write, built_from={}, fingerprint="made up", code={})

"""A small lake as the stages leave it, for tests of what people look at: silver, gold, scores and recommendations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from spanishgas.config.policy import load_policy
from spanishgas.contracts import check_pandas, contract
from spanishgas.contracts.fields import Kind
from spanishgas.contracts.tables import SENTIMENTS
from spanishgas.lake import Lake, Snapshot
from tests.gold_frames import gold_frame

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
CUSTOMERS = 40
FORMULA = "=1+1"
"""An id that a spreadsheet would run."""
_EMPTY: Mapping[Kind, object] = {
    Kind.TEXT: None,
    Kind.NUMBER: 0.0,
    Kind.FLAG: 0,
    Kind.COUNT: 0,
    Kind.CODE: 1,
    Kind.DAY: None,
    Kind.MONTH: "2024-01",
}


def publish(lake: Lake, table: str, frame: pd.DataFrame, as_of: date, **built_from: Snapshot) -> Snapshot:
    """A table that keeps its contract, in two parts."""
    if table != "gold_master":
        check_pandas(table, frame)

    def write(folder: Path) -> None:
        half = len(frame) // 2
        frame.iloc[:half].to_parquet(folder / "part-0.parquet", index=False)
        frame.iloc[half:].to_parquet(folder / "part-1.parquet", index=False)

    digests = {name: snapshot.manifest.digest for name, snapshot in built_from.items()}
    return lake.publish(
        table, as_of, write, built_from=digests, fingerprint="made up", code={"commit": "c0ffee"}
    )


def blank(table: str, rows: int) -> pd.DataFrame:
    """Rows with every column of a table's contract and nothing in them."""
    fields = contract(table).fields
    frame = pd.DataFrame({name: [_EMPTY[field.kind]] * rows for name, field in fields.items()})
    typed = {Kind.TEXT: "string", Kind.DAY: pd.ArrowDtype(pa.date32())}
    kinds = {name: typed[field.kind] for name, field in fields.items() if field.kind in typed}
    return frame.astype(kinds)


def filled(lake: Lake, as_of: date = DAY, rows: int = CUSTOMERS, seed: int = 0) -> None:
    """Everything of one date. Probabilities rise with the customer's number, from 0 to 0.999; FORMULA is the last."""
    gold = gold_frame(rows, seed, labelled=False)
    gold.loc[rows - 1, "customer_id"] = FORMULA
    silver = publish(lake, "silver_customer", customers(gold), as_of)
    months = publish(lake, "silver_customer_month", customer_months(gold), as_of)
    made_from = {"silver_customer": silver, "silver_customer_month": months}
    master = publish(lake, "gold_master", gold, as_of, **made_from)
    scored = scores(gold, as_of)
    published = publish(lake, "scores", scored, as_of, gold_master=master)
    publish(
        lake, "recommendations", recommendations(scored, gold), as_of, scores=published, gold_master=master
    )


def customers(gold: pd.DataFrame) -> pd.DataFrame:
    """Silver customers; every second one was in contact."""
    frame = blank("silver_customer", len(gold))
    frame["customer_id"] = gold["customer_id"]
    frame["sales_channel"] = gold["sales_channel"]
    spoke = np.arange(len(gold)) % 2 == 0
    frame.loc[spoke, "interaction_date"] = date(2024, 11, 5)
    frame.loc[spoke, ["interaction_channel", "interaction_summary"]] = ["phone", "asked for a *better* price"]
    frame.loc[spoke, ["customer_intent", "sentiment_label"]] = ["Pricing Offers", "negative"]
    frame[[f"sentiment_{label}" for label in SENTIMENTS]] = 0.0
    return frame


def customer_months(gold: pd.DataFrame) -> pd.DataFrame:
    """Three months of each customer."""
    parts = []
    for number in (1, 2, 3):
        frame = blank("silver_customer_month", len(gold))
        frame["customer_id"], frame["month"] = gold["customer_id"], f"2024-{number:02d}"
        frame["monthly_elec_kwh"] = 100.0 * number
        frame["elec_margin"] = frame["total_margin"] = 10.0 * number
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def scores(gold: pd.DataFrame, as_of: date) -> pd.DataFrame:
    """Scores that rise with the customer's place."""
    probability = np.linspace(0, 0.999, len(gold))
    edges = load_policy().risk_tiers
    return pd.DataFrame(
        {
            "customer_id": gold["customer_id"],
            "churn_probability": probability,
            "churn_flag": (probability >= 0.5).astype("int64"),
            "risk_tier": pd.cut(probability, [*edges.values(), 1.0], right=False, labels=list(edges)).astype(
                str
            ),
            "expected_monthly_loss": probability * gold["avg_monthly_margin"].clip(lower=0),
            "in_training": np.arange(len(gold)) % 4 == 0,
            "model_version": "3",
            "as_of": as_of,
        }
    )


def recommendations(scored: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """A small offer from probability 0.5 up."""
    offered = scored["churn_probability"] >= 0.5
    return pd.DataFrame(
        {
            "customer_id": scored["customer_id"],
            "risk_score": scored["churn_probability"],
            "risk_tier": scored["risk_tier"],
            "segment": gold["segment"],
            "action": np.where(offered, "offer_small", "no_offer"),
            "timing_window": "immediate",
            "offer_budget": np.where(offered, 10.0, 0.0),
            "expected_margin_impact": np.where(offered, 12.5, 0.0),
            "reason_codes": [["months to renewal: 2", "sentiment of the last contact: negative"]] * len(gold),
            "model_version": scored["model_version"],
            "as_of": scored["as_of"],
            "expected_monthly_loss": scored["expected_monthly_loss"],
            "probability_low": scored["churn_probability"] * 0.9,
            "probability_high": (scored["churn_probability"] * 1.1).clip(upper=1),
        }
    )

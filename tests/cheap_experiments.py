"""Copies of experiments/ that are quick to run: few trees and features, few rungs, a gate for small tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from spanishgas.settings import PROJECT

FEW = {
    "1A": "months_to_renewal renewal_bucket tenure_months is_expired_contract segment sales_channel is_dual_fuel",
    "MP_CORE": "avg_monthly_elec_kwh gas_share_of_revenue",
    "MP_RISK": "active_months_count std_margin elec_price_trend_12m rolling_margin_trend",
    "2A": "has_interaction customer_intent recent_complaint_flag last_interaction_days_ago months_since_last_change",
    "2B": "sentiment_label is_negative_sentiment complaint_x_negative_sentiment",
    "3": "is_price_sensitive dual_fuel_x_intent",
}
"""Features of every kind and use, by tier: what is drawn and reported per feature takes most of a chain's time."""


def cheap_search(folder: Path) -> Path:
    """The project's experiments, with trees and features few enough for a test."""
    shutil.copytree(PROJECT / "experiments", folder)
    tiers = yaml.safe_load((folder / "tiers.yaml").read_text())
    for file in folder.glob("E*.yaml"):
        rung = yaml.safe_load(file.read_text())
        left = {name for tier in rung["tiers"] if tier in FEW for name in tiers[tier]["features"]}
        left -= {name for names in FEW.values() for name in names.split()}
        file.write_text(yaml.safe_dump(rung | {"without": sorted({*rung.get("without", []), *left})}))
    search = yaml.safe_load((folder / "search.yaml").read_text())
    search["xgboost"]["start"] |= {"learning_rate": 0.1}
    search["xgboost"]["early_stopping"] |= {"most_trees": 30, "rounds": 30, "unmeasured": 30}
    (folder / "search.yaml").write_text(yaml.safe_dump(search, sort_keys=False))
    return folder


def lenient(experiments: Path) -> Path:
    """The same with a gate that a few hundred customers and one trial can pass."""
    file = experiments / "policy.yaml"
    policy = yaml.safe_load(file.read_text())
    policy["gate"] |= {"min_average_precision": 0.02, "max_calibration_error": 0.5}
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    return experiments


def two_rungs(experiments: Path) -> Path:
    """The same with E0 and E5 alone, the second on the first."""
    for file in experiments.glob("E*.yaml"):
        if file.stem not in ("E0", "E5"):
            file.unlink()
    upper = experiments / "E5.yaml"
    upper.write_text(yaml.safe_dump(yaml.safe_load(upper.read_text()) | {"below": "E0"}, sort_keys=False))
    return experiments

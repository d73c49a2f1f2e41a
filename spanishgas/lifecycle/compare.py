"""Two versions on the same customers: whose tier changes, and which features move them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from spanishgas.evaluation.importance import contributions
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry
from spanishgas.rendering import as_markdown as markdown
from spanishgas.training.model import PROBABILITY, TIER, ChurnModel

MOST, FEATURES = 20, 3
"""Customers and features that are listed."""


@dataclass(frozen=True)
class Comparison:
    """What changes between two versions on the customers of one gold table."""

    before: str
    after: str
    customers: int
    tiers: pd.DataFrame
    """Customers by tier before (rows) and after (columns)."""
    moved: pd.DataFrame
    """Customers whose tier changed, the largest change of probability first, with the features that moved them."""
    features: pd.Series
    """Mean absolute change of a feature's contribution (log odds) over those customers, the largest first."""


def compare(before: str, after: str, lake: Lake) -> Comparison:
    """Score the newest gold table with two versions, by number or alias; nothing is published."""
    ours, theirs = registry.resolve(before).checked(), registry.resolve(after).checked()
    rows = lake.current("gold_master").pandas()
    edges = list(ours.model.risk_tiers)
    then, now = ours.model.predict(rows), theirs.model.predict(rows)
    table = pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "before": then[TIER],
            "after": now[TIER],
            "probability before": then[PROBABILITY],
            "probability after": now[PROBABILITY],
        }
    )
    tiers = pd.crosstab(table["before"], table["after"]).reindex(index=edges, columns=edges, fill_value=0)
    moved = table[table["before"] != table["after"]]
    shift = (moved["probability after"] - moved["probability before"]).abs()
    moved = moved.loc[shift.sort_values(ascending=False, kind="stable").index]
    change = _change(ours.model, theirs.model, rows.loc[moved.index])
    moved = moved.assign(moved_by=[_words(change.loc[i]) for i in moved.index])
    features = change.abs().mean().sort_values(ascending=False, kind="stable")
    return Comparison(ours.number, theirs.number, len(rows), tiers, moved, features)


def _change(before: ChurnModel, after: ChurnModel, rows: pd.DataFrame) -> pd.DataFrame:
    """A feature that only one of them knows contributes nothing to the other."""
    then, now = contributions(before, rows), contributions(after, rows)
    return now.subtract(then, fill_value=0.0)


def _words(change: pd.Series) -> str:
    largest = change.loc[change.abs().sort_values(ascending=False, kind="stable").index[:FEATURES]]
    return ", ".join(f"{name} {value:+.2f}" for name, value in largest.items() if value)


def as_markdown(comparison: Comparison) -> str:
    """The comparison for a reader; customers beyond the first are counted."""
    count = len(comparison.moved)
    lines = [
        f"Version {comparison.before} against version {comparison.after} on {comparison.customers:,} customers: "
        f"{count:,} change their tier.",
        "",
        markdown(comparison.tiers.reset_index(names=f"{comparison.before} \\ {comparison.after}")),
    ]
    if count:
        top = (
            comparison.features.head(2 * FEATURES)
            .rename_axis("feature")
            .reset_index(name="mean change, log odds")
        )
        lines += ["", markdown(top), "", markdown(comparison.moved.head(MOST))]
    if count > MOST:
        lines.append(f"\nand {count - MOST:,} more: --out FILE.csv lists them all")
    return "\n".join(lines)

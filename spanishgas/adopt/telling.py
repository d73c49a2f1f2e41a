"""What is said of a table that was taken in: what became of its columns, what to decide, and how to go on."""

from __future__ import annotations

import pandas as pd

from spanishgas.adopt.adoption import Adopted
from spanishgas.adopt.columns import slug
from spanishgas.evaluation.leakage.columns import MAX_SKILL
from spanishgas.lake import Lake


def told(adopted: Adopted, lake: Lake) -> str:
    """The report of `adopt`, a line per fact."""
    columns, gold, labels = adopted.columns, adopted.gold, adopted.rows["churn"].dropna()
    lines = [f"gold_master: {gold.manifest.rows:,} customers, {len(columns.columns)} features, {gold.uri}"]
    if len(labels):
        who = f"'{columns.target.churns}' left ({labels.mean():.1%} of {len(labels):,})"
        lines.append(f"target '{columns.target.column}': {who}, '{columns.target.stays}' stayed")
    else:
        lines.append("nobody is labelled: a table to be scored")
    if again := int(adopted.rows.drop(columns=["customer_id", "churn"]).duplicated().sum()):
        lines.append(
            f"{again:,} customers have the values of another one: drop repeated rows, or the gate may refuse"
        )
    return "\n".join(
        [*lines, *([] if adopted.strength is None else _proposed(adopted, adopted.strength, lake))]
    )


def _proposed(adopted: Adopted, strength: pd.Series, lake: Lake) -> list[str]:
    columns, folder = adopted.columns, adopted.folder
    left = [f"left out: '{column}' {why}" for column, why in columns.left_out.items()]
    strong = [
        f"decide: {feature} alone goes {share:.2f} of the way to perfect average precision; see policy.yaml"
        for feature, share in strength[strength > MAX_SKILL].items()
    ]
    value = [] if columns.value else ["no --value: nobody's margin is known, so nobody gets an offer"]
    name = slug(folder.name.removeprefix("experiments-")).replace("_", "-")
    return [
        *(*left, *strong, *value),
        f"proposed: {folder}; what is to be decided is marked DECIDE in its policy.yaml. Then:",
        f"  export SPANISHGAS_EXPERIMENTS={folder} SPANISHGAS_LAKE={lake.root} "
        f"SPANISHGAS_REGISTERED_MODEL={name}-churn",
        "  spanishgas experiment --id E0 && spanishgas evaluate && spanishgas promote --reason first",
        "  spanishgas score",
    ]

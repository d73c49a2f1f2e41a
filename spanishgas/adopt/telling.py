"""What is said of a table that was taken in: what became of its columns, what to decide, and how to go on."""

from __future__ import annotations

from spanishgas.adopt.adoption import Adopted
from spanishgas.adopt.columns import slug
from spanishgas.evaluation.leakage import MAX_SKILL
from spanishgas.lake import Lake


def told(adopted: Adopted, lake: Lake) -> str:
    """The report of `adopt`, a line per fact."""
    columns, gold = adopted.columns, adopted.gold
    lines = [f"gold_master: {gold.manifest.rows:,} customers, {len(columns.columns)} features, {gold.uri}"]
    if adopted.labelled:
        target, rate = columns.target, adopted.churners / adopted.labelled
        lines.append(
            f"target '{target.column}': '{target.churns}' left ({rate:.1%} of {adopted.labelled:,}), "
            f"'{target.stays}' stayed"
        )
    else:
        lines.append("nobody is labelled: a table to be scored")
    if adopted.repeated:
        lines.append(
            f"{adopted.repeated:,} customers have the values of another one: if one customer has several ids, drop the "
            "repeated rows, or the gate may refuse"
        )
    return "\n".join([*lines, *(_proposed(adopted, lake) if adopted.fresh else [])])


def _proposed(adopted: Adopted, lake: Lake) -> list[str]:
    columns = adopted.columns
    left = [f"left out: '{column}' {why}" for column, why in columns.left_out.items()]
    strong = [
        f"decide: {feature} alone goes {share:.2f} of the way to perfect average precision; see policy.yaml"
        for feature, share in adopted.strength[adopted.strength > MAX_SKILL].items()
    ]
    value = [] if columns.value else ["no --value: nobody's margin is known, so nobody gets an offer"]
    name = slug(adopted.folder.name.removeprefix("experiments-")).replace("_", "-")
    return [
        *left,
        *strong,
        *value,
        f"proposed: {adopted.folder}; what is to be decided is marked DECIDE in its policy.yaml. Then:",
        f"  export SPANISHGAS_EXPERIMENTS={adopted.folder} SPANISHGAS_LAKE={lake.root} "
        f"SPANISHGAS_REGISTERED_MODEL={name}-churn",
        "  spanishgas experiment --id E0 && spanishgas evaluate && spanishgas promote --reason first",
        "  spanishgas score",
    ]

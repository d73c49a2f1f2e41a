"""The first page of a drift report: whether it rang, what moved, by how much, and whether the model cares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import jinja2
import pandas as pd

from spanishgas.monitoring.alarm import Judged, sentence
from spanishgas.monitoring.bins import MISSING, new_values
from spanishgas.training.matrix import is_text

LONGEST_NAME, MOST_NAMED = 60, 8
POINTS = 0.005
"""Half a point: smaller changes of the missing values are left out of the page."""


@dataclass(frozen=True)
class Shown:
    """What the page tells beside the verdict."""

    version: str
    dates: tuple[date, date]
    customers: tuple[int, int]
    source: str
    """Where ordinary change was learned."""
    rate: float
    """False alarms that the policy allows."""
    prediction: str
    files: Mapping[str, str]
    """The full reports, by what they are about."""
    rows: str = ""
    """On which rows those are, where not on all."""


def weighed(effects: pd.DataFrame, attribution: pd.Series[float]) -> pd.DataFrame:
    """`Judged.effects` with weight (share of the attributions) and matters (share moved x weight), which sorts it."""
    total = float(attribution.sum())
    weight = (attribution / total if total > 0 else attribution).reindex(effects.index).fillna(0.0)
    found = effects.assign(weight=weight, matters=effects["moved"] * weight)
    return found.sort_values(["matters", "effect"], ascending=False, kind="stable")


def quality(
    shares: pd.DataFrame, reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> pd.DataFrame:
    """Columns feature, before, after (shares missing) and new (categories in words), where any of it moved."""
    missing = shares.xs(MISSING, level="bin")[["before", "after"]]
    new = {
        name: new_values(reference[name], current[name]) if is_text(kind) else pd.Series(dtype="float64")
        for name, kind in kinds.items()
    }
    found = missing.assign(new=[_words(new[str(name)]) for name in missing.index])
    told = ((found["after"] - found["before"]).abs() >= POINTS) | (found["new"] != "")
    return found[told].reset_index()


def _words(new: pd.Series[float]) -> str:
    named = [f"{str(n)[:LONGEST_NAME]} ({share:.2%})" for n, share in new.head(MOST_NAMED).items()]
    more = [f"and {len(new) - MOST_NAMED} more"] if len(new) > MOST_NAMED else []
    return ", ".join(named + more)


def html(found: Judged, weighed: pd.DataFrame, quality: pd.DataFrame, shown: Shown) -> str:
    """The page; every text that comes from data is escaped."""
    near = weighed[weighed["effect"] > found.threshold / 3]
    rows = [
        {
            **row[["effect", "moved", "weight"]].to_dict(),
            "feature": name,
            "width": min(100.0, 100 * row["effect"] / (3 * found.threshold)),
            "matters": _care(row),
            "sentence": sentence(str(name), row),
        }
        for name, row in near.iterrows()
    ]
    loader = jinja2.PackageLoader("spanishgas.monitoring")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True)
    template = environment.get_template("drift.html.jinja")
    return template.render(found=found, shown=shown, rows=rows, quality=quality.to_dict("records"))


def _care(row: pd.Series) -> str:
    """A word for the product of share moved and weight: 1 % of all attributions on moved customers is much."""
    return "much" if row["matters"] >= 0.01 else "some" if row["matters"] >= 0.001 else "hardly"

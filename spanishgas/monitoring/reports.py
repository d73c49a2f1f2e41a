"""The pages of a drift report; the first says whether it rang, what moved, by how much, and whether the model cares.

Behind it are Evidently's reports on the two tables: data drift by effect size, and a summary of the data's quality.

Evidently holds a few copies of what it reads, so above MOST_ROWS a table is sampled by a hash of its row labels: the
same customers each time, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import pandas as pd

from spanishgas.errors import DataError
from spanishgas.monitoring.alarm import MISSING, AlarmJudgement, new_values, sentence
from spanishgas.training.matrix import is_text

if TYPE_CHECKING:
    from evidently import Dataset
    from evidently.core.container import MetricContainer
    from evidently.core.report import Snapshot as Evaluated

MOST_ROWS = 50_000


def compare(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str], min_effect: float
) -> Evaluated:
    """The drift report over the columns of `kinds`: effect sizes, not p-values, decide.

    Numbers: Wasserstein distance in standard deviations of the reference; categories: Jensen-Shannon distance.
    """
    from evidently.presets import DataDriftPreset

    preset = DataDriftPreset(
        num_method="wasserstein",
        num_threshold=min_effect,
        cat_method="jensenshannon",
        cat_threshold=min_effect,
    )
    return _evaluated(preset, reference, current, kinds)


def summarise(reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]) -> Evaluated:
    """The data summary of the columns of `kinds`: counts, ranges, missing values, the commonest values."""
    from evidently.presets import DataSummaryPreset

    return _evaluated(DataSummaryPreset(), reference, current, kinds)


def _evaluated(
    preset: MetricContainer, reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> Evaluated:
    from evidently import Report

    before, now = _datasets(reference, current, kinds)
    with np.errstate(divide="ignore", invalid="ignore"):  # a constant column is correlated with nothing
        return Report([preset]).run(current_data=now, reference_data=before)


def sampled(frame: pd.DataFrame, most: int = MOST_ROWS) -> pd.DataFrame:
    """`frame`, or the `most` rows of it whose labels hash lowest."""
    if len(frame) <= most:
        return frame
    hashed = pd.util.hash_array(frame.index.to_numpy())
    return frame.iloc[hashed.argsort(kind="stable")[:most]]


def _datasets(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> tuple[Dataset, Dataset]:
    from evidently import DataDefinition, Dataset

    texts = [c for c, kind in kinds.items() if is_text(kind)]
    numbers = [c for c in kinds if c not in texts and reference[c].notna().any() and current[c].notna().any()]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)

    def typed(frame: pd.DataFrame) -> Dataset:
        rows = sampled(frame)
        columns = (
            rows[numbers].astype("float64").join(rows[texts].astype(object).fillna("missing").map(_harmless))
        )
        return Dataset.from_pandas(columns.reset_index(drop=True), data_definition=definition)

    return typed(reference), typed(current)


def _harmless(category: object) -> str:
    """The category with `<` in full width: Evidently writes it into a script, which `</script>` would end."""
    return str(category).replace("<", "\uff1c")


def effects(report: Evaluated) -> dict[str, float]:
    """Effect size per column, read from a drift report."""
    by_column = {}
    for metric in report.dict()["metrics"]:
        column = metric.get("config", {}).get("column")
        if column is not None:
            by_column[str(column)] = float(metric["value"])
    if not by_column:
        raise DataError(
            "the drift report names no column: its format changed, or no column could be compared"
        )
    return by_column


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
    """`AlarmJudgement.effects` with weight (share of attributions) and matters (share moved x weight), its order."""
    total = float(attribution.sum())
    weight = (attribution / total if total > 0 else attribution).reindex(effects.index).fillna(0.0)
    weighted = effects.assign(weight=weight, matters=effects["moved"] * weight)
    return weighted.sort_values(["matters", "effect"], ascending=False, kind="stable")


def quality(
    shares: pd.DataFrame, reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> pd.DataFrame:
    """Columns feature, before, after (shares missing) and new (categories in words), where any of it moved."""
    missing = shares.xs(MISSING, level="bin")[["before", "after"]]
    new = {
        name: new_values(reference[name], current[name]) if is_text(kind) else pd.Series(dtype="float64")
        for name, kind in kinds.items()
    }
    described = missing.assign(new=[_words(new[str(name)]) for name in missing.index])
    told = ((described["after"] - described["before"]).abs() >= POINTS) | (described["new"] != "")
    return described[told].reset_index()


def _words(new: pd.Series[float]) -> str:
    named = [f"{str(n)[:LONGEST_NAME]} ({share:.2%})" for n, share in new.head(MOST_NAMED).items()]
    more = [f"and {len(new) - MOST_NAMED} more"] if len(new) > MOST_NAMED else []
    return ", ".join(named + more)


def html(judgement: AlarmJudgement, weighed: pd.DataFrame, quality: pd.DataFrame, shown: Shown) -> str:
    """The page; every text that comes from data is escaped."""
    near = weighed[weighed["effect"] > judgement.threshold / 3]
    rows = [
        {
            **row[["effect", "moved", "weight"]].to_dict(),
            "feature": name,
            "width": min(100.0, 100 * row["effect"] / (3 * judgement.threshold)),
            "matters": _care(row),
            "sentence": sentence(str(name), row),
        }
        for name, row in near.iterrows()
    ]
    loader = jinja2.PackageLoader("spanishgas.monitoring")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, autoescape=True)
    template = environment.get_template("drift.html.jinja")
    return template.render(found=judgement, shown=shown, rows=rows, quality=quality.to_dict("records"))


def _care(row: pd.Series) -> str:
    """A word for the product of share moved and weight: 1 % of all attributions on moved customers is much."""
    return "much" if row["matters"] >= 0.01 else "some" if row["matters"] >= 0.001 else "hardly"

"""Evidently's reports on two tables: data drift by effect size, and a summary of the data's quality.

Evidently holds a few copies of what it reads, so above MOST_ROWS a table is sampled by a hash of its row labels: the
same customers each time, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spanishgas.errors import DataError
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
    found = {}
    for metric in report.dict()["metrics"]:
        column = metric.get("config", {}).get("column")
        if column is not None:
            found[str(column)] = float(metric["value"])
    if not found:
        raise DataError(
            "the drift report names no column: its format changed, or no column could be compared"
        )
    return found

"""The pages of a drift report; the first says whether it rang, what moved, by how much, and whether the model cares.

Behind it are Evidently's reports on the two tables: data drift by effect size, and a summary of the data's quality.

Evidently holds a few copies of what it reads, so above MOST_ROWS a table is sampled by a hash of its row labels: the
same customers each time, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spanishgas.errors import DataError
from spanishgas.monitoring.alarm import AlarmJudgement, sentence
from spanishgas.monitoring.parts import MISSING, new_values
from spanishgas.rendering import filled
from spanishgas.training.matrix import is_text

if TYPE_CHECKING:
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

    methods = {"num_method": "wasserstein", "cat_method": "jensenshannon"}
    preset = DataDriftPreset(**methods, num_threshold=min_effect, cat_threshold=min_effect)
    return _evaluated(preset, reference, current, kinds)


def summarise(reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]) -> Evaluated:
    """The data summary of the columns of `kinds`: counts, ranges, missing values, the commonest values."""
    from evidently.presets import DataSummaryPreset

    return _evaluated(DataSummaryPreset(), reference, current, kinds)


def _evaluated(
    preset: MetricContainer, reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> Evaluated:
    from evidently import DataDefinition, Dataset, Report

    texts, numbers = _columns(reference, current, kinds)
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)

    def typed(frame: pd.DataFrame) -> Dataset:
        rows = sampled(frame)
        named = rows[texts].astype(object).fillna("missing").map(_harmless)
        columns = rows[numbers].astype("float64").join(named).reset_index(drop=True)
        return Dataset.from_pandas(columns, data_definition=definition)

    with np.errstate(divide="ignore", invalid="ignore"):  # a constant column is correlated with nothing
        return Report([preset]).run(current_data=typed(current), reference_data=typed(reference))


def _columns(
    reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Texts, and numbers of which both tables have some."""
    texts = [c for c, kind in kinds.items() if is_text(kind)]
    return texts, [
        c for c in kinds if c not in texts and reference[c].notna().any() and current[c].notna().any()
    ]


def _harmless(category: object) -> str:
    """The category with `<` in full width: Evidently writes it into a script, which `</script>` would end."""
    return str(category).replace("<", "\uff1c")


def sampled(frame: pd.DataFrame, most: int = MOST_ROWS) -> pd.DataFrame:
    """`frame`, or the `most` rows of it whose labels hash lowest."""
    if len(frame) <= most:
        return frame
    hashed = pd.util.hash_array(frame.index.to_numpy())
    return frame.iloc[hashed.argsort(kind="stable")[:most]]


def sizes(reference: pd.DataFrame, current: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, float]:
    """Effect size per column, as `compare` has them; its pages take a hundred times longer."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import wasserstein_distance

    by_column, (texts, numbers) = dict[str, float](), _columns(reference, current, kinds)
    for name in (*numbers, *texts):
        before, after = sampled(reference)[name], sampled(current)[name]
        if name in texts:
            counts = [side.astype(object).fillna("missing").value_counts() for side in (before, after)]
            shares = pd.concat(counts, axis=1).fillna(0.0)
            by_column[name] = float(jensenshannon(shares.iloc[:, 0], shares.iloc[:, 1]))
        else:
            before, after = (side.astype("float64").dropna() for side in (before, after))
            by_column[name] = float(wasserstein_distance(before, after) / max(before.std(ddof=0), 0.001))
    if not by_column:
        raise DataError("no column of the two tables could be compared")
    return by_column


LONGEST_NAME, MOST_NAMED = 60, 8
POINTS = 0.005
"""Half a point: smaller changes of the missing values are left out of the page."""


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


def html(
    judgement: AlarmJudgement, weighed: pd.DataFrame, quality: pd.DataFrame, shown: Mapping[str, object]
) -> str:
    """The page; every text that comes from data is escaped.

    `shown` is what it tells beside the verdict: version, dates and customers (of both tables), source (of baseline
    variation), rate (of false alarms), prediction, and the full reports as files by what they are about, with the rows
    that they are made of where those are not all.
    """
    near = weighed[weighed["effect"] > judgement.threshold / 3]
    rows = near.rename_axis("feature").assign(
        width=(100 * near["effect"] / (3 * judgement.threshold)).clip(upper=100.0),
        matters=near["matters"].map(_care),
        sentence=[sentence(str(name), row) for name, row in near.iterrows()],
    )
    tables = {"rows": rows.reset_index().to_dict("records"), "quality": quality.to_dict("records")}
    return filled("spanishgas.monitoring", "drift.html.jinja", found=judgement, shown=shown, **tables)


def _care(matters: float) -> str:
    """A word for the product of share moved and weight: 1 % of all attributions on moved customers is much."""
    return "much" if matters >= 0.01 else "some" if matters >= 0.001 else "hardly"

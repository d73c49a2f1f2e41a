"""What drives a model's predictions: mean attributions, and the average precision that it loses without a column.

A column's drop is measured on rows that its fit did not see, by shuffling it there. Columns that say the same stand in
for each other, so each of them may lose little: whole tiers are shuffled as well, row by row together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from spanishgas.config.reading import Value
from spanishgas.evaluation.metrics import fold_interval
from spanishgas.features import Tiers
from spanishgas.training.fitting import Training
from spanishgas.training.folds import FRESH
from spanishgas.training.matrix import encoded_sources
from spanishgas.training.model import ChurnModel

FOLDS, MOST_ROWS = 3, 2_000


@dataclass(frozen=True)
class Importance:
    """What counts, most important first.

    - features: feature, drop, low, high, attribution (mean absolute, log odds)
    - tiers: tier, drop, low, high, features (how many)
    """

    features: pd.DataFrame
    tiers: pd.DataFrame


def importance(
    model: ChurnModel, rows: pd.DataFrame, training: Training, params: Mapping[str, Value], tiers: Tiers
) -> Importance:
    """Attributions of `model` on `rows`, and drops of each feature and of each tier of the data dictionary."""
    of_tier: dict[str, list[str]] = {}
    for feature in training.features:
        of_tier.setdefault(tiers.tier_of(feature), []).append(feature)
    groups = {f"feature {f}": [f] for f in training.features} | {f"tier {t}": f for t, f in of_tier.items()}
    drops = permutation(training, params, groups)
    drops.index = drops.index.str.split(" ", n=1, expand=True)
    single, whole = drops.loc["feature"], drops.loc["tier"]
    attribution = contributions(model, rows).abs().mean().rename("attribution")
    both = single.join(attribution).sort_values(["drop", "attribution"], ascending=False)
    counted = whole.assign(features=[len(of_tier[str(t)]) for t in whole.index])
    return Importance(
        both.rename_axis("feature").reset_index(),
        counted.sort_values("drop", ascending=False).rename_axis("tier").reset_index(),
    )


def permutation(
    training: Training, params: Mapping[str, Value], groups: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Average precision lost on held-out folds when the columns of a group are shuffled; with a 95 % interval."""
    lost: dict[str, list[float]] = {name: [] for name in groups}
    rng = np.random.default_rng(training.seed)
    for fold in replace(training, folds=FOLDS, seed=training.seed + FRESH).search_folds():
        weighed = training.weighed(fold.train, "model__")
        fitted = training.unfitted(params).fit(training.X.iloc[fold.train], training.y[fold.train], **weighed)
        rows = rng.permutation(fold.valid)[:MOST_ROWS]
        X, y = training.X.iloc[rows], training.y[rows]
        whole = average_precision_score(y, fitted.decision_function(X))
        order = rng.permutation(len(rows))
        for name, columns in groups.items():
            shuffled = X.assign(**{c: X[c].to_numpy()[order] for c in columns})
            lost[name].append(float(whole - average_precision_score(y, fitted.decision_function(shuffled))))
    intervals = {name: (float(np.mean(drops)), *fold_interval(drops)) for name, drops in lost.items()}
    return pd.DataFrame.from_dict(intervals, orient="index", columns=["drop", "low", "high"])


def contributions(model: ChurnModel, frame: pd.DataFrame) -> pd.DataFrame:
    """What each feature adds to each customer's risk: rows like `frame`, a column per feature, positive = riskier."""
    if len(frame) == 0:
        return pd.DataFrame(columns=list(model.features), index=frame.index, dtype="float64")
    prepare, fitted = model.pipeline[0], model.pipeline[-1]
    X = np.asarray(prepare.transform(model.prepared(frame)), dtype="float64")
    encoded = pd.DataFrame(fitted.contributions(X).T, index=encoded_sources(prepare))
    summed: pd.DataFrame = encoded.groupby(level=0).sum().T
    return summed.reindex(columns=list(model.features)).set_index(frame.index)

"""`tune` beside FLAML, LightGBM, CatBoost and HistGradientBoosting on tables of your own, by what they deliver.

    SPANISHGAS_BOARD=folder python -m benchmarks board

The folder holds a CSV or Parquet file per table and beside each a YAML file of the same name:

    target: Attrition_Flag
    positive: Attrited Customer     # the label that is predicted
    drop: [CLIENTNUM]               # ids, and what nobody knows beforehand
    costs: {contact: 10, loss: 200, saved: 0.3}   # optional: for savings (Bahnsen et al. 2015)

Five folds, three seeds (`--quick`: three folds, one seed). FLAML gets the seconds that `tune` took on the same fold.
The out-of-fold predictions of all are kept in board/<table>.parquet, so that every figure can be checked. Savings are
the share of the costs of contacting nobody that contacting where it is expected to pay saves.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from benchmarks.tabular import OURS, PEERS, WITHIN, _spelt
from spanishgas.errors import UsageError
from spanishgas.evaluation.metrics import fold_interval, ranking
from spanishgas.training import tune
from spanishgas.training.folds import folds

TRIALS, OUTER, SEEDS = 25, 5, (0, 1, 2)
FIGURES = ("average_precision", "log_loss", "brier", "ece")
LOWER_IS_BETTER = FIGURES[1:]
Labels = NDArray[np.int64]


def tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame, Labels, dict[str, float]]]:
    """Name, features, labels and costs of each table that a YAML file describes."""
    for described in sorted(folder.glob("*.yaml")):
        terms = yaml.safe_load(described.read_text(encoding="utf-8"))
        file = next(f for end in (".csv", ".parquet") if (f := described.with_suffix(end)).exists())
        rows = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
        y = (rows[terms["target"]] == terms["positive"]).to_numpy(dtype="int64")
        X = rows.drop(columns=[terms["target"], *terms.get("drop", [])])
        texts = list(X.select_dtypes(exclude="number").columns)
        yield described.stem, X.astype(dict.fromkeys(texts, "category")), y, terms.get("costs", {})


def figures(y: Labels, p: NDArray[np.float64], costs: dict[str, float]) -> dict[str, float]:
    """What the probabilities are worth."""
    told = {name: ranking(y, np.clip(p, 1e-6, 1 - 1e-6))[name] for name in FIGURES}
    if costs:
        gain = costs["saved"] * costs["loss"] * y - costs["contact"]
        contacted = p * costs["saved"] * costs["loss"] > costs["contact"]
        told["savings"] = float(gain[contacted].sum() / (costs["loss"] * y.sum()))
    return told


def measure(
    X: pd.DataFrame, y: Labels, costs: dict[str, float], quick: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row of figures per seed, fold and contender; and the out-of-fold predictions, a row per seed and row."""
    rows, kept = [], []
    for seed in SEEDS[:1] if quick else SEEDS:
        out = pd.DataFrame({"seed": seed, "row": np.arange(len(y)), "y": y})
        for number, fold in enumerate(folds(y, 3 if quick else OUTER, seed)):
            X_in, X_out = X.iloc[fold.train].reset_index(drop=True), X.iloc[fold.valid]
            took = 0.0
            for name in (OURS, *PEERS):
                began = time.perf_counter()
                fitted = _fitted(name, X_in, y[fold.train], took, seed, quick)
                p = fitted.predict_proba(_spelt(X_out) if name == "CatBoost" else X_out)[:, 1]
                seconds = time.perf_counter() - began
                took = seconds if name == OURS else took
                told = figures(y[fold.valid], p, costs) | {"seconds": seconds}
                rows.append({"seed": seed, "fold": number, "contender": name, **told})
                out.loc[fold.valid, name] = p
        kept.append(out)
    return pd.DataFrame(rows), pd.concat(kept)


def _fitted(name: str, X: pd.DataFrame, y: Labels, seconds: float, seed: int, quick: bool) -> Any:
    if name == OURS:
        return tune(X, y, trials=2 if quick else TRIALS, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own, about versions and names of columns
        return PEERS[name](X, y, seconds)


def run(quick: bool) -> None:
    """Print a table per data set, and the paired interval of our difference to the best contender by each figure."""
    folder = Path(os.environ.get("SPANISHGAS_BOARD", ""))
    if not folder.name or not folder.is_dir():
        raise UsageError(
            "SPANISHGAS_BOARD must name a folder of tables: benchmarks/board.py says what it holds"
        )
    Path("board").mkdir(exist_ok=True)
    for name, X, y, costs in tables(folder):
        rows, kept = measure(X, y, costs, quick)
        kept.to_parquet(f"board/{name}.parquet", index=False)
        seeds = rows["seed"].nunique()
        shown = [c for c in rows.columns if c not in ("seed", "fold", "contender")]
        means = rows.groupby("contender", sort=False)[shown].mean()
        print(f"{name}: {len(y):,} rows, {X.shape[1]} columns, {y.mean():.3f} positive")
        print(f"{len(rows) // len(means)} folds\n{means.to_string(float_format='%.4f')}")
        for figure in shown[:-1]:
            sign = -1 if figure in LOWER_IS_BETTER else 1
            wide = rows.pivot(index=["seed", "fold"], columns="contender", values=figure) * sign
            best = wide[list(PEERS)].mean().idxmax()
            gain = wide[OURS] - wide[best]
            low, high = fold_interval(gain.tolist(), seeds)
            held = "kept" if gain.mean() > 0 and low > WITHIN else "MISSED"
            verdict = f"; {held}, above 0 and from {WITHIN}" if figure == "average_precision" else ""
            interval = f"{gain.mean():+.4f} ({low:+.4f} to {high:+.4f})"
            print(f"  {figure}: better than {best} by {interval}{verdict}", flush=True)

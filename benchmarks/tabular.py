"""`tune` beside FLAML, LightGBM, CatBoost and HistGradientBoosting at their defaults, by nested cross-validation.

Outer folds measure, everything else happens inside them. FLAML gets the seconds that `tune` took on the same fold; the
others are fitted once, which takes them less. Needs the dependency group `bench`: `uv sync --group bench`.

Noise: the half width of the paired interval is that of five outer folds, by Student's t of four degrees of freedom and
the corrected error, 0.007 to 0.015; where `tune` is as good as the best of four, the interval's lower end lies above
-0.01 about every second time, and clearly above only where `tune` is better. The best is picked after the fact,
against us.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.metrics import average_precision_score

from benchmarks.utility import PUBLISHED_SIZE, e5
from spanishgas.evaluation.metrics import fold_interval
from spanishgas.training import tune
from spanishgas.training.folds import folds

OURS, TRIALS, OUTER, SEED, WITHIN = "tune", 15, 5, 11, -0.01
Table = tuple[pd.DataFrame, NDArray[np.int64]]
Fit = Callable[[pd.DataFrame, NDArray[np.int64], float], Any]


def _flaml(X: pd.DataFrame, y: NDArray[np.int64], seconds: float) -> Any:
    from flaml import AutoML

    found = AutoML()
    found.fit(X, y, task="classification", metric="ap", time_budget=seconds, seed=SEED, verbose=0)
    return found


def _lightgbm(X: pd.DataFrame, y: NDArray[np.int64], seconds: float) -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(random_state=SEED, verbose=-1).fit(X, y)


def _catboost(X: pd.DataFrame, y: NDArray[np.int64], seconds: float) -> Any:
    from catboost import CatBoostClassifier

    texts = list(X.select_dtypes("category").columns)
    return CatBoostClassifier(
        random_state=SEED, verbose=0, cat_features=texts, allow_writing_files=False
    ).fit(_spelt(X), y)


def _histogram(X: pd.DataFrame, y: NDArray[np.int64], seconds: float) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=SEED, categorical_features="from_dtype").fit(X, y)


PEERS: dict[str, Fit] = {
    "FLAML": _flaml,
    "LightGBM": _lightgbm,
    "CatBoost": _catboost,
    "HistGradientBoosting": _histogram,
}


def _spelt(X: pd.DataFrame) -> pd.DataFrame:
    """CatBoost takes no missing categories."""
    return X.assign(**{c: X[c].astype(object).fillna("missing") for c in X.select_dtypes("category").columns})


def tables(quick: bool) -> Iterator[tuple[str, Table]]:
    """One that scikit-learn brings, a generated one with noise, categories and holes, and the simulated E5."""
    cancer = load_breast_cancer(as_frame=True)
    yield "breast cancer", (cancer.data, 1 - cancer.target.to_numpy(dtype="int64"))
    rows = 600 if quick else 8_000
    numbers, y = make_classification(
        rows, n_features=20, n_informative=8, weights=[0.88], flip_y=0.05, random_state=SEED
    )
    generated = pd.DataFrame(numbers).add_prefix("x")
    generated["x0"] = pd.Categorical(pd.qcut(generated["x0"], 6, labels=list("abcdef")).astype(str))
    holes = np.random.default_rng(SEED).random((rows, 5)) < 0.1
    generated.iloc[:, 5:10] = generated.iloc[:, 5:10].mask(holes)
    yield "generated", (generated, y.astype("int64"))
    utility = e5(1_500 if quick else PUBLISHED_SIZE, SEED)
    texts = utility.X.select_dtypes(exclude="number").columns
    yield "simulated E5", (utility.X.astype(dict.fromkeys(texts, "category")), utility.y)


def measure(
    X: pd.DataFrame, y: NDArray[np.int64], quick: bool
) -> tuple[pd.DataFrame, pd.DataFrame, list[float]]:
    """Average precision and seconds, a row per outer fold and a column per contender; the blend weights."""
    scores, seconds, weights = [], [], []
    for fold in folds(y, 3 if quick else OUTER, SEED):
        X_in, X_out = X.iloc[fold.train].reset_index(drop=True), X.iloc[fold.valid]
        began = time.perf_counter()
        found = tune(X_in, y[fold.train], trials=2 if quick else TRIALS, seed=SEED)
        took = {OURS: time.perf_counter() - began}
        weights.append(found.blend_weight_)
        score = {OURS: average_precision_score(y[fold.valid], found.predict_proba(X_out)[:, 1])}
        for name, fit in PEERS.items():
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the peers' own, about versions and names of columns
                peer = fit(X_in, y[fold.train], took[OURS])
                rows = _spelt(X_out) if name == "CatBoost" else X_out
                score[name] = average_precision_score(y[fold.valid], peer.predict_proba(rows)[:, 1])
            took[name] = time.perf_counter() - began
        scores.append(score)
        seconds.append(took)
    return pd.DataFrame(scores), pd.DataFrame(seconds), weights


def run(quick: bool) -> None:
    """Print a table per data set, and the paired interval of our difference to its best contender."""
    for name, (X, y) in tables(quick):
        scores, seconds, weights = measure(X, y, quick)
        print(
            f"{name}: {len(y)} rows, {X.shape[1]} columns, {y.mean():.3f} positive, {len(scores)} outer folds"
        )
        for contender in scores:
            print(
                f"  {contender:21} average precision {scores[contender].mean():.4f}  "
                f"{seconds[contender].mean():.1f} s a fold"
                + (f", blend weight by fold {weights}" if contender == OURS else "")
            )
        best = scores[list(PEERS)].mean().idxmax()
        low, high = fold_interval((scores[OURS] - scores[best]).tolist())
        print(
            f"  {OURS} less {best}: {(scores[OURS] - scores[best]).mean():+.4f} ({low:+.4f} to {high:+.4f}); "
            f"{'kept' if low > WITHIN else 'MISSED'}, above {WITHIN}",
            flush=True,
        )

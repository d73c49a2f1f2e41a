"""The search beside the replaced system's: its grid of 108 candidates on 5 folds, in one run, side by side.

Both see the training side of the same simulated E5. The grid's best score is the best of 108 on the folds that chose
it; ours is the winner's on fresh repeated folds, which is the harder measure. The grid runs a process per core, each
with one thread; ours one process with a thread per core. Time is taken by the clock and as CPU seconds, which other
jobs on the machine disturb less: both must keep the limit.

Noise: the score's bar lies one standard error of the grid's folds (about 0.005) below it. The search's first trial is
the grid's published winner, so that a correct build falls below only where ten fresh folds are harder than the grid's
five by more than that; of 20 seeds, 19 ought to pass. The shares of time, of one run each, move by a tenth of
themselves.
"""

from __future__ import annotations

import numpy as np
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks.clock import Clock
from benchmarks.utility import PUBLISHED_SIZE, e5
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.evaluation.metrics import fold_interval
from spanishgas.training.fitting import Training
from spanishgas.training.search import search

GRID: dict[str, list[float]] = {
    "max_depth": [2, 3, 4],
    "learning_rate": [0.01, 0.02, 0.03],
    "n_estimators": [400, 600, 800],
    "subsample": [0.7, 0.8],
    "colsample_bytree": [0.7, 0.8],
}
QUICK: dict[str, list[float]] = {"max_depth": [2, 3], "learning_rate": [0.03], "n_estimators": [100]}
TRIALS, SEED, SHARE_OF_TIME = 8, 7, 0.1


def theirs(training: Training, grid: dict[str, list[float]]) -> tuple[float, float]:
    """Best mean average precision, and its standard error over the folds."""
    pipeline = training.unfitted({"class_weight": "balanced", "tree_method": "hist"}).set_params(
        model__n_jobs=1
    )
    folds = StratifiedKFold(training.folds, shuffle=True, random_state=SEED)
    tried = GridSearchCV(
        pipeline,
        {f"model__{name}": values for name, values in grid.items()},
        scoring="average_precision",
        cv=folds,
        n_jobs=-1,
        refit=False,
    )
    tried.fit(training.X, training.y)
    get_reusable_executor().shutdown()  # CPU seconds count once a process has ended
    spread = tried.cv_results_["std_test_score"][tried.best_index_]
    return tried.best_score_, spread / np.sqrt(training.folds - 1)


def run(quick: bool) -> None:
    """Print both, and whether ours reaches theirs less one standard error in a tenth of the time."""
    training = e5(1_500 if quick else PUBLISHED_SIZE, SEED)
    clock = Clock()
    found = search(training, load_search().of(XGBOOST), 2 if quick else TRIALS)
    took = clock.read()
    low, high = fold_interval(found.fold_scores, training.repeats)
    ours = float(np.mean(found.fold_scores))
    print(
        f"{len(training.y)} customers. Ours, {len(found.trials)} trials and {len(found.fold_scores)} fresh folds: "
        f"average precision {ours:.4f} ({low:.4f} to {high:.4f}) in {took[0]:.0f} s, {took[1]:.0f} CPU s",
        flush=True,
    )
    clock = Clock()
    score, error = theirs(training, QUICK if quick else GRID)
    grid = clock.read()
    print(f"GridSearchCV: {score:.4f}, standard error {error:.4f}, in {grid[0]:.0f} s, {grid[1]:.0f} CPU s")
    print(f"average precision: {'kept' if ours >= score - error else 'MISSED'}, at least {score - error:.4f}")
    for what, a, b in zip(("time", "CPU time"), took, grid, strict=True):
        verdict = "kept" if a / b <= SHARE_OF_TIME else "MISSED"
        print(f"{what}: {verdict}, {a / b:.3f} of theirs, limit {SHARE_OF_TIME}")

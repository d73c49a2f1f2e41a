"""How long the ladder takes, with tracking, searches and refits: XGBoost and logistic regression, then the forest."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import mlflow

from benchmarks.utility import AS_OF, PUBLISHED_SIZE, drawn
from spanishgas.lake import Lake
from spanishgas.lifecycle.experiments import ladder_table, markdown, run_ladder
from spanishgas.training.experiment import experiment_ids

SEED, TRIALS = 7, 8
LIMITS = {("xgboost", "logistic"): 20 * 60, ("xgboost", "logistic", "forest"): 45 * 60}


def run(quick: bool) -> None:
    """Print the ladder and its seconds against the limits."""
    gold = drawn(1_500 if quick else PUBLISHED_SIZE, SEED).gold
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # the tracking store and the studies
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        lake = Lake(Path(folder) / "lake")
        lake.publish(
            "gold_master",
            AS_OF,
            lambda to: gold.to_parquet(to / "part-0.parquet", index=False),
            built_from={},
            fingerprint="benchmark",
            code={},
        )
        ids, trials = (["E0", "E5"], 2) if quick else (experiment_ids(), TRIALS)
        began = time.perf_counter()
        try:
            for models, limit in LIMITS.items():
                compared = run_ladder(ids, models, trials=trials, lake=lake, seed=SEED, reuse=True)
                seconds = time.perf_counter() - began
                print(
                    f"{', '.join(models)} on {len(gold)} customers, {trials} trials: {seconds:.0f} s; "
                    f"{'kept' if seconds <= limit else 'MISSED'}, at most {limit} s",
                    flush=True,
                )
            print(markdown(ladder_table(compared)))
        finally:
            os.chdir(here)

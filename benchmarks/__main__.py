"""`python -m benchmarks [NAME ...] [--quick]`: the named benchmarks in turn, or every one."""

from __future__ import annotations

import argparse
import importlib
import os

BENCHMARKS = {
    "bayes": (
        "benchmarks.bayes",
        "average precision on the holdout beside the true probabilities', five seeds",
    ),
    "calibration": ("benchmarks.calibration", "the drawn ladder beside the published one, five seeds"),
    "dashboard": ("benchmarks.dashboard", "pages by number of customers (extra dashboard)"),
    "data": ("benchmarks.data", "the roll-up beside its peers, raw to gold, drawing: time and memory"),
    "estimate": ("benchmarks.estimate", "average precision before labels, beside what labels then show"),
    "drift": ("benchmarks.drift", "false alarms and power of the drift alarm, Evidently's and a KS test"),
    "fit-churn": (
        "benchmarks.fit_churn",
        "the simulator's coefficients of churn, fitted to the published tables",
    ),
    "gate-curve": ("benchmarks.gate_curve", "how often the gate passes equal and worse challengers"),
    "intervals": ("benchmarks.intervals", "how often intervals hold the truth, and the calibration error"),
    "ladder": ("benchmarks.ladder", "how long the ladder takes on 20,099 customers"),
    "search": (
        "benchmarks.grid_search",
        "the search beside the replaced system's GridSearchCV: score and time",
    ),
    "year": ("benchmarks.year", "a year of drift, alarms, retrains and labels, and its picture"),
    "tabular": ("benchmarks.tabular", "`tune` beside FLAML, LightGBM, CatBoost and others (group bench)"),
    "gate": ("benchmarks.gate_seeds", "how often the gate passes, over seeds"),
    "serving": ("benchmarks.serving", "scoring in-process, by the serving process and by MLflow's server"),
    "spark": ("benchmarks.spark_roll_up", "the roll-up on Spark beside DuckDB (extra spark)"),
}
"""Name -> module with a function `run(quick)`, and what it measures. Imported only when it is run."""


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    words = "; ".join(f"{name}: {what}" for name, (_, what) in BENCHMARKS.items())
    parser.add_argument("names", nargs="*", metavar="NAME", help=words)
    parser.add_argument("--quick", action="store_true", help="a small fraction, to try the command")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark '{unknown[0]}': there are {', '.join(BENCHMARKS)}")
    # As the command line does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in chosen.names or BENCHMARKS:
        importlib.import_module(BENCHMARKS[name][0]).run(chosen.quick)


if __name__ == "__main__":
    main()

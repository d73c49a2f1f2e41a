"""`python -m benchmarks [NAME ...] [--quick]`: the named benchmarks in turn, or every one.

What each measures against its limits is repeated in one table at the end; one that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TextIO

VERDICT = re.compile(r"\b(kept|MISSED)\b")

BENCHMARKS = {
    "bayes": (
        "benchmarks.bayes",
        "average precision on the holdout beside the true probabilities', five seeds",
    ),
    "calibration": ("benchmarks.calibration", "the drawn ladder beside the published one, five seeds"),
    "dashboard": ("benchmarks.dashboard", "pages by number of customers (extra dashboard)"),
    "data": ("benchmarks.data", "the roll-up beside its peers, raw to gold, drawing: time and memory"),
    "worlds": (
        "benchmarks.worlds",
        "false alarms where shocks are common to all customers, by own months seen",
    ),
    "estimate": ("benchmarks.estimate", "average precision before labels, beside what labels then show"),
    "reasons": (
        "benchmarks.reasons",
        "level, slope, rest and reasons where time passed, and where customers leave for others",
    ),
    "drift": ("benchmarks.drift", "false alarms and power of the drift alarm, Evidently's and a KS test"),
    "fidelity": ("benchmarks.fidelity", "a drawn extract beside the published figures"),
    "fit-churn": (
        "benchmarks.fit_churn",
        "the simulator's coefficients of churn, fitted to the published tables",
    ),
    "gate-curve": ("benchmarks.gate_curve", "how often the gate passes equal and worse challengers"),
    "intervals": ("benchmarks.intervals", "how often intervals hold the truth, and the calibration error"),
    "ladder": ("benchmarks.ladder", "how long the ladder takes on 20,099 customers"),
    "offers": (
        "benchmarks.offers",
        "whether intervals of what offers do hold it, and how many campaigns show it",
    ),
    "loop": ("benchmarks.loop", "what learned offers bring beside the risk rule and the oracle"),
    "openings": ("benchmarks.openings", "optimism of a holdout that is opened twenty times"),
    "search": (
        "benchmarks.grid_search",
        "the search beside the replaced system's GridSearchCV: score and time",
    ),
    "when": ("benchmarks.when", "when customers leave: curves beside the true hazards, and what time does"),
    "optimism": ("benchmarks.optimism", "what holdouts by customer and by time promise, beside use later on"),
    "year": (
        "benchmarks.year",
        "a backtest of a year of drift, alarms, retrains and labels, and its picture",
    ),
    "board": ("benchmarks.board", "`tune` beside its peers on tables of your own (group bench)"),
    "tabular": ("benchmarks.tabular", "`tune` beside FLAML, LightGBM, CatBoost and others (group bench)"),
    "uplift": (
        "benchmarks.uplift",
        "`tune_uplift` beside causalml and econml, and its intervals (group bench)",
    ),
    "gate": ("benchmarks.gate_seeds", "how often the gate passes, over seeds"),
    "serving": ("benchmarks.serving", "scoring in-process, by the serving process and by MLflow's server"),
    "startup": ("benchmarks.startup", "CPU seconds of every verb that trains nothing, and of every --help"),
    "small": ("benchmarks.small", "raw to gold of 3 and of 300 customers: CPU seconds"),
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
    names, said, failed = chosen.names or list(BENCHMARKS), dict[str, list[str]](), list[str]()
    for name in names:
        with redirect_stdout(Heard(sys.stdout)) as heard:
            try:
                importlib.import_module(BENCHMARKS[name][0]).run(chosen.quick)
            except Exception:
                traceback.print_exc()
                failed.append(name)
        said[name] = heard.verdicts()
    print(verdicts(said, failed))
    sys.exit(1 if failed else 0)


class Heard(io.TextIOBase):
    """Hands on what is printed, and remembers it."""

    def __init__(self, to: TextIO) -> None:
        self._to, self._text = to, io.StringIO()

    def write(self, text: str) -> int:
        """Print and remember."""
        self._text.write(text)
        return self._to.write(text)

    def flush(self) -> None:
        """Print at once."""
        self._to.flush()

    def verdicts(self) -> list[str]:
        """The lines that hold a figure against its limit."""
        lines = self._text.getvalue().splitlines()
        return [line.strip() for line in lines if VERDICT.search(line)]


def verdicts(said: Mapping[str, Sequence[str]], failed: Sequence[str]) -> str:
    """A table with a row per figure that has a limit, and one per benchmark that failed."""
    rows = [
        f"| {name} | {line.strip('| ').replace('|', ',')} |" for name, lines in said.items() for line in lines
    ]
    rows += [f"| {name} | FAILED, see above |" for name in failed]
    return "\n".join(["", "| benchmark | figure, and whether its limit was kept |", "|---|---|", *rows])


if __name__ == "__main__":
    main()

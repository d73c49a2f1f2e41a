"""What a verb that trains nothing costs in CPU seconds, user and system, of a whole process on a tiny lake.

Repeats are interleaved, so that a busy moment falls on all. `import mlflow` and an opened tracking store stand beside
the verbs: one that talks to MLflow cannot cost less.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from benchmarks.clock import Clock
from spanishgas.cli import app
from spanishgas.lake import Lake
from spanishgas.simulate import write_extract
from tests.gold_frames import gold_frame, publish_gold

LIMIT, REPEATS, CUSTOMERS = 2.0, 5, 5
DAY = date(2024, 12, 31)
STORE = "from mlflow.tracking import MlflowClient; MlflowClient().search_registered_models()"
WITHOUT_MLFLOW = (
    *("where gold_master", "where price_history", f"validate --raw lake/raw/{DAY}", "template mine-{repeat}"),
    *(
        "--help",
        *(f"{command.callback.__name__} --help" for command in app.registered_commands if command.callback),
    ),
)
WITH_MLFLOW = (
    *("history", "monitor", "lineage gold", "prune", "erase C00001", "doctor"),
    *("promote --reason r", "approve --reason r", "rollback --reason r"),
)


def run(quick: bool) -> None:
    """Print what each verb costs beside the limit."""
    peers = {"import mlflow": ["-c", "import mlflow"], "an opened tracking store": ["-c", STORE]}
    verbs = {words: ["-m", "spanishgas", *words.split()] for words in (*WITHOUT_MLFLOW, *WITH_MLFLOW)}
    spent: dict[str, list[float]] = {words: [] for words in (*peers, *verbs)}
    with tempfile.TemporaryDirectory() as work:
        publish_gold(Lake(Path(work, "lake")), gold_frame(50), DAY)
        raw, truth = Path(work, "lake", "raw", str(DAY)), Path(work, "lake", "truth", str(DAY))
        write_extract(raw, customers=CUSTOMERS, seed=1, as_of=DAY, labelled=True, truth=truth)
        _cpu(["-c", STORE], work)
        for repeat in range(1 if quick else REPEATS):
            for words, command in (peers | verbs).items():
                spent[words].append(_cpu([word.format(repeat=repeat) for word in command], work))
    print("| verb | CPU s: least / median / most | limit | |\n|---|---|---|---|")
    for words, seconds in spent.items():
        median = statistics.median(seconds)
        limit = (
            " | " if words in peers else f"at most {LIMIT:.0f} | {'kept' if median <= LIMIT else 'MISSED'}"
        )
        name = words.format(repeat=0)
        print(f"| {name} | {min(seconds):.2f} / {median:.2f} / {max(seconds):.2f} | {limit} |")


def _cpu(command: list[str], work: str) -> float:
    clock = Clock()
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{work}/mlflow.db"}
    # A verb may refuse, as `promote` does without a version: that is what it costs.
    subprocess.run([sys.executable, *command], cwd=work, env=environment, capture_output=True)
    return clock.read()[1]

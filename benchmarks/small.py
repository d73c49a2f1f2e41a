"""The ETL of small tables, raw to gold published, in CPU seconds: the first build of a process, and a later one.

300 drawn customers with every hour of a year are what a first trial has; three customers with three hours a month are
what unit tests build, many times in a process. Imports count neither for the first build nor for the later one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

AS_OF = date(2024, 12, 31)
REPEATS = 5
LIMITS = {("300 customers", "first"): 3.0, ("3 customers", "later"): 1.0}


def run(quick: bool) -> None:
    """Print what either build costs, of both sizes, beside the limits."""
    from spanishgas.simulate import write_extract
    from tests.raw_builder import write_raw

    spent: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="spanishgas-bench-") as scratch:
        folders = {"3 customers": Path(scratch, "three"), "300 customers": Path(scratch, "drawn")}
        write_raw(folders["3 customers"])
        write_extract(folders["300 customers"], customers=300, seed=5, as_of=AS_OF, labelled=True)
        for _ in range(1 if quick else REPEATS):
            for name, folder in folders.items():
                done = subprocess.run(
                    [sys.executable, "-m", __name__, str(folder)], check=True, capture_output=True
                )
                for which, seconds in json.loads(done.stdout).items():
                    spent.setdefault((name, which), []).append(seconds)
    print("| table | build of a process | CPU s: least / median / most | limit | |\n|---|---|---|---|---|")
    for (name, which), seconds in spent.items():
        median, limit = statistics.median(seconds), LIMITS.get((name, which))
        held = f"at most {limit:.0f} | {'kept' if median <= limit else 'MISSED'}" if limit else " | "
        print(f"| {name} | {which} | {min(seconds):.2f} / {median:.2f} / {max(seconds):.2f} | {held} |")


def main(raw: str) -> None:
    """Build twice in new lakes; print the CPU seconds of the first and of the second as JSON."""
    from spanishgas.etl.build import build
    from spanishgas.lake import Lake

    spent = {}
    for which in ("first", "later"):
        with tempfile.TemporaryDirectory() as lake:
            began = time.process_time()
            build(raw, Lake(Path(lake)), AS_OF, progress=lambda line: None)
            spent[which] = time.process_time() - began
    print(json.dumps(spent))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Plant each fault in a copy of the package and run its tests: one of them has to fail.

    python -m tests.mutants --jobs 2 --only blend

Each test run is a process of its own, forked from one that has imported the libraries already. First the tests run
without any fault, and have to pass. Ends with 1 if a fault survives or cannot be judged.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from tests.mutants import ROOT, Fault, faults
from tests.mutants.trial import OFFSET, OUTPUT, run

LIBRARIES = (
    "mlflow",
    "ibis",
    "duckdb",
    "sklearn.ensemble",
    "scipy.stats",
    "xgboost",
    "optuna",
    "pyarrow.dataset",
)
LIMIT = 600
"""Seconds for the tests of one fault: it may make them run for ever, which proves nothing."""
KILLED = "killed"
TOLD = {OFFSET: "SURVIVED", OFFSET + 1: KILLED}
fork = mp.get_context("forkserver")


@contextmanager
def copies(count: int) -> Iterator[SimpleQueue[Path]]:
    """Copies of the package, each in a folder that has all else of the repository beside it."""
    free: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            copy = Path(folder).resolve() / str(number)
            shutil.copytree(ROOT / "spanishgas", copy / "spanishgas")
            for beside in (p for p in ROOT.iterdir() if p.name != "spanishgas"):
                (copy / beside.name).symlink_to(beside)
            free.put(copy)
        yield free


def outcome(free: SimpleQueue[Path], fault: Fault | None, tests: Sequence[str]) -> tuple[str, str]:
    """What became of the tests, in a word, and what pytest said."""
    copy = free.get()
    file = copy / "spanishgas" / fault.file if fault else None
    sound = file.read_text("utf-8") if file else ""
    if file and fault:
        file.write_text(fault.apply(sound), "utf-8")
    try:
        process = fork.Process(target=run, args=(copy, tests))
        process.start()
        process.join(LIMIT)
        code = process.exitcode
        process.kill()
        return TOLD.get(code, f"NO RESULT (exit code {code})"), (copy / OUTPUT).read_text("utf-8")
    finally:
        if file:
            file.write_text(sound, "utf-8")
        free.put(copy)


def sound(pool: ThreadPoolExecutor, free: SimpleQueue[Path], chosen: Sequence[Fault]) -> bool:
    """Whether every test passes without a fault; prints what fails."""
    by_file: dict[str, list[str]] = {}
    for test in sorted({test for fault in chosen for test in fault.tests}):
        by_file.setdefault(test.partition("::")[0], []).append(test)
    ends = list(pool.map(lambda tests: outcome(free, None, tests), by_file.values()))
    bad = [said for end, said in ends if end != TOLD[OFFSET]]
    print(
        *bad,
        f"{sum(map(len, by_file.values()))} tests without a fault: {'FAILED' if bad else 'passed'}",
        sep="\n",
    )
    return not bad


def main() -> int:
    """Judge the faults that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", help="faults whose name, file or tests hold this text")
    asked = parser.parse_args()
    chosen = [f for f in faults() if any(asked.only in text for text in (f.name, f.file, *f.tests))]
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    fork.set_forkserver_preload(list(LIBRARIES))
    began = time.monotonic()
    with copies(asked.jobs) as free, ThreadPoolExecutor(asked.jobs) as pool:
        if not sound(pool, free, chosen):
            return 1
        alive = 0
        ends = pool.map(lambda fault: outcome(free, fault, fault.tests), chosen)
        for fault, (end, said) in zip(chosen, ends, strict=True):
            print(f"{end:10} {fault.file:28} {fault.name}", flush=True)
            if end != KILLED:
                alive += 1
                print(fault.wrong, said, sep="\n", flush=True)
    took = time.monotonic() - began
    print(f"{len(chosen) - alive} of {len(chosen)} faults killed, {alive} not, in {took:.0f} s")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Speed and memory of the data's way: the hourly roll-up beside its peers, raw to gold, and drawing.

Each step runs in a process of its own, repeats interleaved, so that a busy machine is busy for all alike. This module
imports nothing heavy, so that it takes no memory from what it measures.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CUSTOMERS = 20_099
HOURS_OF_YEAR = 8_784
REPEATS = 3
STEPS = ("decode", "by_hand", "roll_up")
Taken = dict[str, float]
Runs = list[Taken]


def take(step: str, folder: Path, customers: int = 0) -> Taken:
    """One run of a step of `benchmarks.steps`: seconds, cpu, peak_mb, total."""
    command = [sys.executable, "-m", "benchmarks.steps", step, str(folder), str(customers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    taken: Taken = json.loads(done.stdout.splitlines()[-1])
    print(f"{step} {folder.name}: {taken}", file=sys.stderr, flush=True)
    return taken


def run(quick: bool) -> None:
    """Draw, measure and print the table."""
    full = CUSTOMERS // 20 if quick else CUSTOMERS
    repeats = 1 if quick else REPEATS
    sizes = {"tenth": full // 10, "half": full // 2, "full": full}
    with tempfile.TemporaryDirectory(prefix="spanishgas-bench-") as scratch:
        folders = {name: Path(scratch) / name for name in sizes}
        for folder in folders.values():
            folder.mkdir()
        drawn = {name: [take("draw", folders[name], sizes[name])] for name in sizes}
        runs: dict[str, Runs] = {step: [] for step in (*STEPS, "pandas", *(f"gold {n}" for n in sizes))}
        for _ in range(repeats):
            for step in STEPS:
                runs[step].append(take(step, folders["full"]))
            runs["pandas"].append(take("pandas", folders["tenth"]))
            for name in sizes:
                runs[f"gold {name}"].append(take("gold", folders[name]))
        tenth = take("roll_up", folders["tenth"])
    _agree(runs["by_hand"] + runs["roll_up"])
    _agree([*runs["pandas"], tenth])
    print(report(drawn["full"], runs, sizes))


def _agree(runs: Runs) -> None:
    totals = [taken["total"] for taken in runs]
    if not all(math.isclose(total, totals[0], rel_tol=1e-9) for total in totals):
        raise SystemExit(f"the ways to sum the hours do not agree: {totals}")


def report(drawn: Runs, runs: dict[str, Runs], sizes: dict[str, int]) -> str:
    """The two tables as Markdown: what each step took, and each figure beside its limit."""
    rows = sizes["full"] * HOURS_OF_YEAR
    scale = sizes["full"] / sizes["tenth"]
    words = {
        "decode": (f"DuckDB decodes {rows:,} hours", runs["decode"]),
        "by_hand": ("DuckDB SQL by hand, copies handled", runs["by_hand"]),
        "roll_up": ("the roll-up", runs["roll_up"]),
        "pandas": ("pandas, 2,000,000 rows at a time, on a tenth", runs["pandas"]),
        **{f"gold {n}": (f"raw to gold, {size:,} customers", runs[f"gold {n}"]) for n, size in sizes.items()},
        "draw": (f"drawing {sizes['full']:,} customers", drawn),
    }
    lines = ["| step | seconds: least / median / most | CPU s, median | peak MB |", "|---|---|---|---|"]
    lines += [_row(text, taken) for text, taken in words.values()]
    lines += ["", "| figure | measured: least / median / most | limit | |", "|---|---|---|---|"]
    half, whole = (sizes["half"] / sizes["tenth"], sizes["full"] / sizes["half"])
    ours, decode, hand = (_of(runs[step], "seconds") for step in ("roll_up", "decode", "by_hand"))
    slower = [taken * scale for taken in _of(runs["pandas"], "seconds")]
    golds = [_of(runs[f"gold {name}"], "seconds") for name in sizes]
    lines += [
        _limit("roll-up / decoding, times", _ratio(ours, decode), most=3),
        _limit("roll-up / SQL by hand, times", _ratio(ours, hand), most=1.75),
        _limit(f"pandas (x {scale:.1f}) / roll-up, times", _ratio(slower, ours), least=12),
        _limit("roll-up, peak MB", _of(runs["roll_up"], "peak_mb"), most=600),
        _limit("raw to gold, seconds", golds[2], most=90),
        _limit("raw to gold, peak MB", _of(runs["gold full"], "peak_mb"), most=2048),
        _limit("raw to gold, time per row: half / tenth", _ratio(golds[1], golds[0], half), most=1.1),
        _limit("raw to gold, time per row: full / half", _ratio(golds[2], golds[1], whole), most=1.1),
        _limit("drawing, seconds", _of(drawn, "seconds"), most=360),
        _limit("drawing, peak MB", _of(drawn, "peak_mb"), most=2048),
    ]  # fmt: skip
    return "\n".join(lines)


def _of(runs: Runs, name: str) -> list[float]:
    return [taken[name] for taken in runs]


def _ratio(over: list[float], under: list[float], rows: float = 1.0) -> list[float]:
    """Repeat by repeat: what ran side by side is compared."""
    return [a / b / rows for a, b in zip(over, under, strict=True)]


def _spread(values: list[float]) -> str:
    return " / ".join(f"{v:.2f}" for v in (min(values), statistics.median(values), max(values)))


def _row(text: str, runs: Runs) -> str:
    cpu = statistics.median(_of(runs, "cpu"))
    return f"| {text} | {_spread(_of(runs, 'seconds'))} | {cpu:.1f} | {max(_of(runs, 'peak_mb')):.0f} |"


def _limit(text: str, values: list[float], least: float = 0.0, most: float = math.inf) -> str:
    """A figure is judged by its median."""
    words = f"at least {least:g}" if least else f"at most {most:g}"
    kept = least <= statistics.median(values) <= most
    return f"| {text} | {_spread(values)} | {words} | {'kept' if kept else 'MISSED'} |"

"""A year of a made-up utility, watched as policy.yaml says: what rings, what retrains, what labels show.

    January to March      nothing changes but time
    April to August       prices have risen
    September to December they stay where they are, but customers no longer mind: labels can tell

A use of `spanishgas backtest`: each month the utility's extract is taken to gold, scored and watched, and the labels of
two months ago come in, for outcomes and for a retrain to train on. Whatever passes its gate is promoted; only the first
champion is, whether it passes or not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import period_sums
from benchmarks.clock import Clock
from spanishgas.backtest.report import Replayed
from spanishgas.backtest.run import backtest
from spanishgas.lake import Lake
from spanishgas.monitoring.history import Window, as_markdown, windows
from spanishgas.monitoring.loop import STARTED
from spanishgas.settings import PROJECT
from spanishgas.simulate import write_extract
from tests.tracked import own_store

BASE = date(2024, 12, 31)
QUIET, PRICES, CONCEPT = "none", "prices", "prices+concept:0.5"
SHIFTS = (QUIET,) * 3 + (PRICES,) * 5 + (CONCEPT,) * 4
LATE = 2
"""Months until a month's labels are known."""
CUSTOMERS, SEED, TRIALS = 6_000, 7, 4
MOST = 1_200
"""CPU seconds that a year of steps may take: ten minutes on two cores."""
PICTURE = PROJECT / "docs" / "images" / "monitoring-year.png"
NAMES = {QUIET: "nothing but time", PRICES: "dearer prices", CONCEPT: "nobody minds them any more"}


def month_end(number: int) -> date:
    """Last day of the month `number` (0 to 12) months after December 2024."""
    return date(2025 + number // 12, number % 12 + 1, 1) - timedelta(days=1)


class Utility:
    """A lake of extracts whose labels say when they were known."""

    def __init__(self, root: Path, customers: int, seed: int) -> None:
        self.lake = Lake(root / "source")
        self._customers, self._seed = customers, seed

    def extract(self, as_of: date, shift: str, known_at: date) -> None:
        """Draw an extract."""
        raw = Path(str(self.lake.raw(as_of)))
        with period_sums.drawn(as_of):
            write_extract(
                raw, customers=self._customers, seed=self._seed, as_of=as_of, labelled=True, shift=shift
            )
        labels = pd.read_csv(raw / "churn_label.csv", dtype="str")
        labels.assign(known_at=known_at).to_csv(raw / "churn_label.csv", index=False)


def draw(root: Path, customers: int = CUSTOMERS, seed: int = SEED, months: int = len(SHIFTS)) -> Lake:
    """The extracts of the base date, labelled at once, and of so many months after it; gives their lake."""
    utility = Utility(root, customers, seed)
    utility.extract(BASE, QUIET, BASE)
    for number, shift in enumerate(SHIFTS[:months], start=1):
        utility.extract(month_end(number), shift, month_end(number + LATE))
    return utility.lake


def play(lake: Lake, out: Path, say: Callable[[str], None] = print) -> Replayed:
    """Play the year by a backtest in `out` and the tracking store that is set."""
    why = "the year is about watching it, whatever its gate says"
    how: Any = {"trials": TRIALS, "seed": SEED, "override": why, "say": say}
    [replayed] = backtest(BASE, month_end(len(SHIFTS)), "1M", lake=lake, out=out, **how)
    return replayed


def watched(replayed: Replayed) -> list[Window]:
    """The windows of the year, oldest first; that of the base date is the training table itself."""
    with replayed.replay.installed():
        return [window for window in windows() if window.as_of > BASE]


def picture(found: list[Window]) -> Figure:
    """Drift, its alarms and retrains, and average precision estimated and measured, month by month.

    A retrain is marked at the window that set it off, a promotion before the first window of the new champion.
    """
    figure = Figure(figsize=(9, 8), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    months = [f"{w.as_of:%b}" for w in found]
    _line(top, months, [_over(w) for w in found], "inputs: statistic over threshold")
    top.axhline(1, color="grey", linestyle=":")
    rang = [(m, _over(w)) for m, w in zip(months, found, strict=True) if w.alarm]
    top.plot([m for m, _ in rang], [v for _, v in rang], "o", color="tab:red", label="alarm")
    top.set_yscale("log")
    _line(middle, months, [w.prediction for w in found], "predictions: moved by (sd)")
    _line(bottom, months, [w.measured for w in found], "average precision, measured")
    bottom.plot(
        months, [_or_nan(w.estimated) for w in found], "s--", color="tab:orange", label="estimated, no labels"
    )
    told = [(m, _or_nan(w.measured)) for m, w in zip(months, found, strict=True) if w.concept]
    bottom.plot(
        [m for m, _ in told], [v for _, v in told], "o", color="tab:red", label="concept drift, by labels"
    )
    for axis in (top, middle, bottom):
        _phases(axis)
        _marks(axis, [i for i, w in enumerate(found) if w.retrain in STARTED], "tab:green", "retrain")
        new = [i - 0.5 for i in range(1, len(found)) if found[i].version != found[i - 1].version]
        _marks(axis, new, "tab:brown", "new champion")
        axis.legend(loc="best", fontsize="small")
    return figure


def _over(w: Window) -> float:
    return _or_nan(w.statistic) / _or_nan(w.threshold)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _line(axis: Axes, months: list[str], values: list[float | None], name: str) -> None:
    axis.plot(months, [_or_nan(v) for v in values], "o-", color="tab:blue", label=name)


def _marks(axis: Axes, places: list[float], color: str, name: str) -> None:
    for number, place in enumerate(places):
        axis.axvline(place, color=color, linestyle="--", label="_" * bool(number) + name)


def _phases(axis: Axes) -> None:
    begin = 0
    for (shift, months), shade in zip(groupby(SHIFTS), ("white", "tab:orange", "tab:purple"), strict=True):
        end = begin + len(list(months))
        axis.axvspan(begin - 0.5, end - 0.5, color=shade, alpha=0.08)
        axis.text(begin - 0.4, 0.02, NAMES[shift], transform=axis.get_xaxis_transform(), fontsize="small")
        begin = end


def run(quick: bool) -> None:
    """Play the year, print its history and draw the picture; a quick one leaves the documentation's as it is."""
    customers = 1_500 if quick else CUSTOMERS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with own_store(root):
            lake, clock = draw(root, customers), Clock()
            seen = watched(play(lake, root / "backtest"))
            seconds, cpu = clock.read()
    place = Path(tempfile.gettempdir()) / PICTURE.name if quick else PICTURE
    picture(seen).savefig(place, dpi=80)
    print(as_markdown(seen))
    print(
        f"{len(SHIFTS)} monthly steps at {customers:,} customers, {seconds:.0f} s by the clock; drawn to {place}"
    )
    print(f"{cpu:.0f} CPU seconds, at most {MOST}: {'kept' if cpu <= MOST else 'MISSED'}")

"""A year of a made-up utility, watched as policy.yaml says: what rings, what retrains, what labels show.

    January to March      nothing changes but time
    April to August       prices have risen
    September to December they stay where they are, but customers no longer mind: labels can tell

Each month the utility's extract is taken to gold, scored and watched, and the labels of two months ago come in. Each
quarter's come as a labelled extract too, which a retrain can take. Whatever passes its gate is promoted; only the first
champion is, whether it passes or not.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import period_sums
from spanishgas import pipeline
from spanishgas.config.search import ModelKind
from spanishgas.lake import Lake
from spanishgas.lifecycle import promotion
from spanishgas.lifecycle.data import etl
from spanishgas.lifecycle.evaluation import evaluate
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment, silent
from spanishgas.lifecycle.registry import Alias
from spanishgas.monitoring.history import Window, as_markdown, windows
from spanishgas.monitoring.loop import STARTED
from spanishgas.monitoring.outcomes import estimate, outcomes
from spanishgas.scoring.score import score
from spanishgas.settings import PROJECT
from spanishgas.simulate import write_extract
from tests.tracked import own_store

BASE = date(2024, 12, 31)
QUIET, PRICES, CONCEPT = "none", "prices", "prices+concept:0.5"
SHIFTS = (QUIET,) * 3 + (PRICES,) * 5 + (CONCEPT,) * 4
LATE = 2
"""Months until a month's labels are known."""
CUSTOMERS, SEED, TRIALS = 6_000, 7, 4
PICTURE = PROJECT / "docs" / "images" / "monitoring-year.png"
NAMES = {QUIET: "nothing but time", PRICES: "dearer prices", CONCEPT: "nobody minds them any more"}


def month_end(number: int) -> date:
    """Last day of the month `number` (0 to 12) months after December 2024."""
    return date(2025 + number // 12, number % 12 + 1, 1) - timedelta(days=1)


class Utility:
    """Extracts, and labels that are held back until they are known."""

    def __init__(self, root: Path, customers: int, seed: int) -> None:
        self.lake, self._labels = Lake(root / "lake"), root / "labels"
        self._customers, self._seed = customers, seed
        self._labels.mkdir()

    def labels(self, as_of: date) -> Path:
        """The file of a month's labels."""
        return self._labels / f"{as_of}.csv"

    def extract(self, as_of: date, shift: str) -> None:
        """A month's extract without its labels, taken to gold."""
        with period_sums.drawn(as_of):
            write_extract(
                Path(self.lake.raw(as_of)),
                customers=self._customers,
                seed=self._seed,
                as_of=as_of,
                labelled=True,
                shift=shift,
            )
        shutil.move(Path(self.lake.raw(as_of)) / "churn_label.csv", self.labels(as_of))
        self.gold(as_of)

    def label(self, as_of: date) -> None:
        """The same extract again with its labels."""
        shutil.copy(self.labels(as_of), Path(self.lake.raw(as_of)) / "churn_label.csv")
        self.gold(as_of)

    def gold(self, as_of: date) -> None:
        """The tables of an extract."""
        etl(self.lake.raw(as_of), lake=self.lake, as_of=as_of)


def play(
    root: Path, customers: int = CUSTOMERS, seed: int = SEED, say: Callable[[str], None] = print
) -> list[Window]:
    """Play the year in a lake in `root` and the tracking store that is set; gives its windows, oldest first."""
    utility = Utility(root, customers, seed)
    utility.extract(BASE, "none")
    utility.label(BASE)
    inputs = experiment_inputs("E5", ModelKind.XGBOOST, trials=TRIALS, lake=utility.lake, seed=seed)
    run_id = run_experiment(inputs)
    evaluate(run_id, lake=utility.lake)
    promotion.promote(Alias.CHALLENGER, "the first", "the year is about watching it, whatever its gate says")
    for number, shift in enumerate(SHIFTS, start=1):
        _labels_come(utility, number - LATE)
        as_of = month_end(number)
        utility.extract(as_of, shift)
        score(Alias.CHAMPION, lake=utility.lake)
        estimate(as_of, lake=utility.lake)
        found = pipeline.watched(None, Alias.CHAMPION, lake=utility.lake, progress=silent, say=say)
        say(f"{as_of} {shift}: {found.statistic:.2f} of {found.threshold:.2f}, version {found.version}")
    for number in range(len(SHIFTS) - LATE + 1, len(SHIFTS) + 1):
        _labels_come(utility, number)
    return windows()


def _labels_come(utility: Utility, number: int) -> None:
    if number < 1:
        return
    as_of = month_end(number)
    outcomes(utility.labels(as_of), as_of, lake=utility.lake)
    if number % 3 == 0:
        utility.label(as_of)


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
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with own_store(root):
            found = play(root, customers)
    place = Path(tempfile.gettempdir()) / PICTURE.name if quick else PICTURE
    picture(found).savefig(place, dpi=80)
    print(as_markdown(found))
    print(f"{customers:,} customers, {time.perf_counter() - began:.0f} s; drawn to {place}")

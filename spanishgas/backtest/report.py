"""What came of replays: a row per step, one picture, and two policies beside each other in EUR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import product

import pandas as pd
from matplotlib.figure import Figure

from spanishgas.backtest.replay import Replay, Step
from spanishgas.evaluation.inference import Judged, performance, total
from spanishgas.evaluation.value import offer_value
from spanishgas.monitoring.campaigns import MARGIN
from spanishgas.monitoring.drift import yes
from spanishgas.monitoring.labels import ID
from spanishgas.monitoring.loop import STARTED
from spanishgas.rendering import as_markdown
from spanishgas.training.model import FLAG, PROBABILITY

SHOWN = {"average_precision": "{:.3f} ({:.3f} to {:.3f})", "value_eur": "{:,.0f} ({:,.0f} to {:,.0f})"}


@dataclass(frozen=True)
class Replayed:
    """A replay that is done: its steps, and what labels show of its cohorts."""

    replay: Replay
    steps: Sequence[Step]

    @cached_property
    def cohorts(self) -> dict[str, pd.DataFrame]:
        """Labelled customers whom the champion did not learn from, by as-of date, with `value`: EUR of what they got.

        An offer is worth what the label and the policy's own terms make of it.
        """
        return {str(day): self._cohort(day) for day in self.replay.view.lake.dates("outcomes")}

    def _cohort(self, as_of: date) -> pd.DataFrame:
        lake, offers = self.replay.view.lake, self.replay.policy.offers
        scored = lake.current("scores", as_of).manifest.built_from["gold_master"]
        rows = lake.current("outcomes", as_of).pandas([ID, "churn", PROBABILITY, FLAG, "in_training"])
        rows = rows.merge(lake.by_digest(scored, "gold_master").pandas([ID, MARGIN]), on=ID)
        rows = rows.merge(lake.current("recommendations", as_of).pandas([ID, "action"]), on=ID)
        rows = rows[~rows["in_training"]].set_index(ID).assign(value=0.0)
        left, margin = (rows[name].to_numpy(dtype="float64") for name in ("churn", MARGIN))
        for name, offer in offers.menu.items():
            worth = offer_value(left, margin, offer, offers.horizon_months)
            rows["value"] = rows["value"].mask(rows["action"].eq(name), worth)
        return rows

    @cached_property
    def figures(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Average precision, and EUR per 1,000 customers, with their intervals, by as-of date."""
        return {day: _figures(rows) for day, rows in self.cohorts.items()}

    def table(self) -> str:
        """A row per step, as Markdown."""
        return as_markdown(pd.DataFrame([self._row(step) for step in self.steps]))

    def _row(self, step: Step) -> dict[str, str]:
        scored = "offers" in step
        figures = self.figures.get(step["extract"], {}) if scored else {}
        ap, eur = (form.format(*figures[name]) if name in figures else "" for name, form in SHOWN.items())
        return {
            "step": step["day"],
            "extract": step["extract"],
            "champion": step["champion"],
            "judged": "; ".join(f"{n} {words.partition(':')[0]}" for n, words in step["judged"].items()),
            "alarm": yes(step["alarm"]) if scored else "",
            "retrain": step.get("retrain", ""),
            "measured AP": ap,
            "offers": f"{step['offers']:,}" if scored else "",
            "EUR per 1,000": eur,
        }


def _figures(rows: pd.DataFrame) -> dict[str, tuple[float, float, float]]:
    y, flag = (rows[name].to_numpy(dtype="int64") for name in ("churn", FLAG))
    points, ends = performance(
        Judged(y, rows[PROBABILITY].to_numpy(), flag, rows["value"].to_numpy() * 1000 / len(y))
    )
    return {name: (points[name], *ends[name]) for name in SHOWN if name in points}


def compared(ours: Replayed, theirs: Replayed) -> str:
    """What one policy's offers brought beside another's, on customers that neither champion learned from.

    A customer counts once: what the campaigns brought with them is summed before the interval is made.
    """
    names = f"{theirs.replay.place.name} less {ours.replay.place.name}"
    days = [day for day in ours.cohorts if day in theirs.cohorts]
    gains = [(theirs.cohorts[day]["value"] - ours.cohorts[day]["value"]).dropna() for day in days]
    if not days:
        return f"{names}: no cohort of both has labels."
    gain = pd.concat(gains).groupby(level=0).sum() / len(days)
    value, low, high = (1000 * v / len(gain) for v in (float(gain.sum()), *total(gain.to_numpy())))
    menus = [one.replay.policy.offers.menu for one in (ours, theirs)]
    unlike = [name for name in menus[0] if menus[0][name] != menus[1].get(name)]
    return (
        f"{names}: {value:,.0f} EUR per 1,000 customers and campaign ({low:,.0f} to {high:,.0f}), over {len(days)} "
        f"campaigns and {len(gain):,} customers whom neither learned from."
        + f" Each by its own terms of {', '.join(unlike)}: they are assumptions."
        * bool(unlike)
    )


def picture(replays: Sequence[Replayed]) -> Figure:
    """Drift, average precision by labels and EUR by as-of date; alarms are red, retrains dashed."""
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True)
    titles = ("drift: statistic over threshold", "average precision, by labels", "EUR per 1,000 customers")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, loc="left", fontsize="small")
    for number, one in enumerate(replays):
        color, steps = f"C{number}", pd.DataFrame([s for s in one.steps if "offers" in s])
        days, ratio = pd.to_datetime(steps["extract"]), steps["statistic"] / steps["threshold"]
        axes[0].plot(days, ratio, "o-", color=color, label=one.replay.place.name)
        axes[0].plot(days[steps["alarm"]], ratio[steps["alarm"]], "o", color="tab:red")
        for axis, name in zip(axes[1:], SHOWN, strict=True):
            points = {pd.Timestamp(day): of[name] for day, of in one.figures.items() if name in of}
            ends = pd.DataFrame.from_dict(points, orient="index", columns=["value", "low", "high"]).astype(
                "float64"
            )
            axis.plot(ends.index, ends["value"], "o-", color=color)
            axis.fill_between(ends.index, ends["low"], ends["high"], color=color, alpha=0.15)
        for axis, day in product(axes, days[steps["retrain"].isin(STARTED)]):
            axis.axvline(day, color=color, linestyle="--")
    axes[0].axhline(1, color="grey", linestyle=":")
    axes[0].legend(fontsize="small")
    return figure

"""Pictures for where people would rather look than read; Optuna's own of a study among them. Nothing is written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import optuna
import optuna.visualization
import optuna.visualization.matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from optuna.importance import get_param_importances
from optuna.trial import TrialState
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, precision_recall_curve

from spanishgas.evaluation.inference import Difference
from spanishgas.evaluation.metrics import LIFTS, ranking
from spanishgas.evaluation.selection import Compared

INK, ACCENT, PALE = "#33475b", "#c8553d", "#b9c6d2"
FEWEST = 3
"""Completed trials from which importances mean anything."""
SHOWN = 4
"""Parameters in a slice picture, most important first; the page has them all."""


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def ladder_chart(compared: Sequence[Compared]) -> Figure:
    """Average precision of every rung with its interval over folds; the chosen one is marked."""
    figure = _figure(8, 0.42 * len(compared) + 1.4)
    axes = figure.subplots()
    for height, item in enumerate(reversed(compared)):
        low, high = item.rung.interval
        colour = ACCENT if item.chosen else INK
        axes.plot([low, high], [height, height], color=colour, linewidth=2)
        axes.plot(item.rung.fold_scores, [height] * len(item.rung.fold_scores), "|", color=PALE, markersize=9)
        axes.plot(item.rung.score, height, "o", color=colour)
        axes.annotate(
            f"{item.rung.score:.3f}", (high, height), (6, -4), textcoords="offset points", color=colour
        )
    names = [f"{c.rung.experiment} {c.rung.model} ({c.rung.features})" for c in reversed(compared)]
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("average precision on fresh folds: mean, 95 % interval, folds")
    axes.set_title(
        "The ladder: what each group of features adds (features in brackets; chosen in red)", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def versions_chart(rows: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Each measure of every version (column `version`) with its interval (`.low`, `.high`); the champion in red."""
    figure = _figure(max(6, 1.5 + 0.4 * len(rows)), 2.1 * len(measures))
    champion = rows["role"].str.contains("champion")
    for axes, (name, title) in zip(
        figure.subplots(len(measures), sharex=True), measures.items(), strict=True
    ):
        for colour, part in ((INK, ~champion), (ACCENT, champion)):
            place = np.flatnonzero(part)
            axes.vlines(
                place, rows[f"{name}.low"][part], rows[f"{name}.high"][part], colors=colour, linewidth=2
            )
            axes.plot(place, rows[name][part], "o", color=colour)
        axes.set_title(title, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks(range(len(rows)), rows["version"])
    axes.set_xlabel("version")
    figure.suptitle("Versions on their holdouts, with 95 % intervals (champion in red)", fontsize=10)
    return figure


def curves_chart(
    y: NDArray[np.int64], probability: NDArray[np.float64], threshold: float, title: str, bins: int = 10
) -> Figure:
    """Precision against recall, calibration by groups of equal size, gains with lifts, and the flags at `threshold`."""
    figure = _figure(9, 7.5)
    (left, right), (below, last) = figure.subplots(2, 2)
    precision, recall, thresholds = precision_recall_curve(y, probability)
    at = int(np.clip(np.searchsorted(thresholds, threshold), 0, len(thresholds) - 1))
    left.plot(recall, precision, color=INK)
    left.plot(recall[at], precision[at], "o", color=ACCENT)
    left.annotate(
        f"threshold {threshold:.2f}", (recall[at], precision[at]), (8, 6), textcoords="offset points"
    )
    left.axhline(y.mean(), color=PALE, linestyle="--")
    left.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(0, 1), ylim=(0, 1.02))
    groups = np.array_split(np.argsort(probability, kind="stable"), bins)
    right.plot([0, 1], [0, 1], color=PALE, linestyle="--")
    right.plot([probability[g].mean() for g in groups], [y[g].mean() for g in groups], "o-", color=INK)
    right.set(xlabel="mean probability", ylabel="churn rate", title="Calibration (tenths of the customers)")
    _gains(below, y, probability)
    flags = confusion_matrix(y, probability >= threshold, labels=[0, 1])
    shown = ConfusionMatrixDisplay(flags, display_labels=["stayers", "churners"])
    shown.plot(cmap="Blues", values_format=",", ax=last, colorbar=False)
    last.set(xlabel="flagged as", ylabel="", title="At the threshold")
    figure.suptitle(title)
    return figure


def _gains(axes: Axes, y: NDArray[np.int64], probability: NDArray[np.float64]) -> None:
    gains = np.cumsum(y[np.argsort(-probability, kind="stable")]) / max(1, int(y.sum()))
    axes.plot([0, 1], [0, 1], color=PALE, linestyle="--")
    axes.plot(np.arange(1, len(y) + 1) / len(y), gains, color=INK)
    figures = ranking(y, probability)
    for share in LIFTS:
        at = max(1, round(share / 100 * len(y))) - 1
        axes.plot(share / 100, gains[at], "o", color=ACCENT)
        words = f"{share} %: {figures[f'lift_{share:02d}']:.1f} times"
        axes.annotate(words, (share / 100, gains[at]), (8, -4), textcoords="offset points")
    axes.set(
        xlabel="share of customers contacted, riskiest first",
        ylabel="share of churners reached",
        title="Gains, and lift over random contacts",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def importance_chart(importance: pd.DataFrame, title: str, most: int = 20) -> Figure:
    """Mean attribution of each feature beside what shuffling it costs, with its interval; strongest first."""
    rows = importance.head(most)[::-1]
    figure = _figure(9, 0.28 * len(rows) + 1.4)
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(rows["feature"], rows["attribution"], color=INK)
    left.set_title("mean absolute attribution (log odds)", fontsize=9)
    error = [rows["drop"] - rows["low"], rows["high"] - rows["drop"]]
    right.errorbar(rows["drop"], rows["feature"], xerr=error, fmt="o", color=ACCENT, ecolor=PALE)
    right.axvline(0, color=PALE, linestyle="--")
    right.set_title("average precision lost when shuffled", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.suptitle(title)
    return figure


def when_chart(curve: NDArray[np.float64], observed: NDArray[np.float64]) -> Figure:
    """Share that has left by month, as the curves say and as `observed` (weights of leavers), by probability."""
    figure = _figure(7, 4.5)
    axes, order = figure.subplots(), np.argsort(-curve[:, -1], kind="stable")
    tenth, months = max(1, len(order) // 10), np.arange(curve.shape[1] + 1)
    groups = {"riskiest tenth": order[:tenth], "second tenth": order[tenth : 2 * tenth], "all": order}
    for (name, rows), colour in zip(groups.items(), (ACCENT, INK, PALE), strict=True):
        axes.plot(months, [0, *curve[rows].mean(axis=0)], color=colour, label=f"{name}: expected")
        axes.plot(months[1:], observed[rows].mean(axis=0), "o", color=colour, label=f"{name}: observed")
    axes.set(xlabel="months after as-of", ylabel="share that has left", title="When customers left")
    axes.legend(fontsize=8)
    return figure


def search_page(study: optuna.Study, title: str) -> str:
    """Optuna's plots of a study as one HTML page that needs no network: plotly.js stands in it, once."""
    drawn, name = _drawn(optuna.visualization, study).values(), escape(title)
    parts = [figure.to_html(full_html=False, include_plotlyjs=not n) for n, figure in enumerate(drawn)]
    head = f'<!doctype html>\n<meta charset="utf-8"><title>{name}</title>\n<h1>{name}</h1>\n'
    return head + "\n".join(parts)


def search_pictures(study: optuna.Study) -> dict[str, Figure]:
    """The same as matplotlib figures, by name."""
    shown = list(importances(study))[:SHOWN] or sorted(study.best_trial.params)[:SHOWN]
    with plt.rc_context():  # Optuna changes the style of whatever is drawn after it
        drawn = _drawn(optuna.visualization.matplotlib, study, params=shown)
    figures: dict[str, Figure] = {name: np.ravel(axes)[0].figure for name, axes in drawn.items()}
    for figure in figures.values():
        plt.close(figure)  # pyplot would keep it for ever
    return figures


def _drawn(plots: ModuleType, study: optuna.Study, **shown: list[str]) -> dict[str, Any]:
    """The plots of one of Optuna's two modules, by name; importances where there are any."""
    with _of_few_trials():
        drawn = {"history": plots.plot_optimization_history(study)}
        if importances(study):
            drawn["importances"] = plots.plot_param_importances(study)
        drawn["slices"] = plots.plot_slice(study, **shown)
        drawn["parallel_coordinates"] = plots.plot_parallel_coordinate(study, **shown)
    return drawn


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter matters (PED-ANOVA, Watanabe et al. 2023), greatest first; empty for too few trials."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(ended) < FEWEST or len({trial.value for trial in ended}) < FEWEST:
        return {}
    with _of_few_trials():
        return get_param_importances(study)


@contextmanager
def _of_few_trials() -> Iterator[None]:
    """Optuna warns that its plots are experimental, and that few trials say little: the page's readers see both."""
    with warnings.catch_warnings():
        for category in (UserWarning, optuna.exceptions.ExperimentalWarning):
            warnings.simplefilter("ignore", category)
        yield


def uplift_chart(curves: Mapping[str, NDArray[np.float64]], values: Mapping[str, Difference]) -> Figure:
    """The uplift curve of each offer beside a random order, and what each rule is worth with its interval."""
    figure = _figure(10, 4)
    left, right = figure.subplots(1, 2)
    for name, curve in curves.items():
        (line,) = left.plot(curve[:, 0], curve[:, 1], label=name)
        left.plot([0, 1], [0, curve[-1, 1]], color=line.get_color(), linestyle="--", linewidth=0.8)
    left.set(xlabel="share of customers offered", ylabel="churn avoided, of all", title="Uplift")
    left.legend(frameon=False)
    names, shown = list(values), list(values.values())
    ends = [[d.value - d.low for d in shown], [d.high - d.value for d in shown]]
    right.errorbar([d.value for d in shown], names, xerr=ends, fmt="o", color=INK)
    right.axvline(0, color=PALE, linestyle="--")
    right.set(xlabel="EUR per customer beside no offers", title="Value of each rule")
    return figure


def as_png(figure: Figure) -> bytes:
    """The picture as a file, for a page that holds it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    return drawn.getvalue()

"""Optuna's own plots of a study: one interactive page that needs no network, and the same as pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

FEWEST = 3
"""Completed trials from which importances mean anything."""
SHOWN = 4
"""Parameters in a slice picture, most important first; the page has them all."""


def page(study: optuna.Study, title: str) -> str:
    """History, importances, slices and parallel coordinates as one HTML page (plotly.js stands in it once)."""
    import optuna.visualization as plots

    drawn, name = _drawn(plots, study).values(), escape(title)
    parts = [figure.to_html(full_html=False, include_plotlyjs=not n) for n, figure in enumerate(drawn)]
    head = f'<!doctype html>\n<meta charset="utf-8"><title>{name}</title>\n<h1>{name}</h1>\n'
    return head + "\n".join(parts)


def pictures(study: optuna.Study) -> dict[str, Figure]:
    """The same as matplotlib figures, by name."""
    import matplotlib.pyplot as plt
    import optuna.visualization.matplotlib as plots

    shown = list(importances(study))[:SHOWN] or sorted(study.best_trial.params)[:SHOWN]
    with plt.rc_context():  # Optuna changes the style of whatever is drawn after it
        drawn = _drawn(plots, study, params=shown)
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
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(ended) < FEWEST or len({trial.value for trial in ended}) < FEWEST:
        return {}
    with _of_few_trials():
        return get_param_importances(study)


@contextmanager
def _of_few_trials() -> Iterator[None]:
    """Optuna warns that its plots are experimental, and that few trials say little: the page's readers see both."""
    import optuna

    with warnings.catch_warnings():
        for category in (UserWarning, optuna.exceptions.ExperimentalWarning):
            warnings.simplefilter("ignore", category)
        yield

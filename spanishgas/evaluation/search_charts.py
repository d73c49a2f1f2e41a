"""Optuna's own plots of a study: one interactive page that needs no network, and the same as pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure
    from optuna.importance import PedAnovaImportanceEvaluator

FEWEST = 3
"""Completed trials from which importances mean anything."""
SHOWN = 4
"""Parameters in a slice picture, most important first; the page has them all."""


def page(study: optuna.Study, title: str) -> str:
    """History, importances, slices and parallel coordinates as one HTML page (plotly.js stands in it once)."""
    import optuna.visualization as plots

    with _of_few_trials():
        drawn = [plots.plot_optimization_history(study)]
        if importances(study):
            drawn.append(plots.plot_param_importances(study, evaluator=_evaluator()))
        drawn += [plots.plot_slice(study), plots.plot_parallel_coordinate(study)]
    parts = [figure.to_html(full_html=False, include_plotlyjs=not n) for n, figure in enumerate(drawn)]
    head = (
        f'<!doctype html>\n<meta charset="utf-8"><title>{escape(title)}</title>\n<h1>{escape(title)}</h1>\n'
    )
    return head + "\n".join(parts)


def pictures(study: optuna.Study) -> dict[str, Figure]:
    """The same as matplotlib figures, by name."""
    import matplotlib
    import optuna.visualization.matplotlib as plots

    known = importances(study)
    shown = list(known)[:SHOWN] or sorted(study.best_trial.params)[:SHOWN]
    with _of_few_trials(), matplotlib.rc_context():  # Optuna changes the style of whatever is drawn after it
        found = {"history": _figure(plots.plot_optimization_history(study))}
        if known:
            found["importances"] = _figure(plots.plot_param_importances(study, evaluator=_evaluator()))
        found["slices"] = _figure(plots.plot_slice(study, params=shown))
        found["parallel_coordinates"] = _figure(plots.plot_parallel_coordinate(study, params=shown))
    return found


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter matters (PED-ANOVA, Watanabe et al. 2023), greatest first; empty for too few trials."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(ended) < FEWEST or len({trial.value for trial in ended}) < FEWEST:
        return {}
    with _of_few_trials():
        return get_param_importances(study, evaluator=_evaluator())


def _evaluator() -> PedAnovaImportanceEvaluator:
    from optuna.importance import PedAnovaImportanceEvaluator

    return PedAnovaImportanceEvaluator()


def _figure(axes: Any) -> Figure:
    import matplotlib.pyplot as plt
    import numpy as np

    figure: Figure = np.ravel(axes)[0].figure
    plt.close(figure)  # pyplot would keep it for ever
    return figure


@contextmanager
def _of_few_trials() -> Iterator[None]:
    """Optuna warns that its plots are experimental, and that few trials say little: the page's readers see both."""
    import optuna

    with warnings.catch_warnings():
        for category in (UserWarning, optuna.exceptions.ExperimentalWarning):
            warnings.simplefilter("ignore", category)
        yield

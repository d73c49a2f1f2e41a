"""Optuna's plots of a study, however small: a page that needs no network, and pictures."""

from __future__ import annotations

import re

import optuna
import pytest
from optuna.study import Study
from optuna.trial import Trial

from spanishgas.evaluation import charts


def study(trials: int, *, pruned: int = 0, same: bool = False) -> Study:
    """Trials of a space with a condition and a category; the first `pruned` but one are pruned."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: Trial) -> float:
        rate = trial.suggest_float("learning_rate", 0.01, 1, log=True)
        if trial.suggest_categorical("grow", ["depth", "leaves"]) == "leaves":
            trial.suggest_int("max_leaves", 4, 64)
        trial.report(rate, 0)
        if 0 < trial.number <= pruned:
            raise optuna.TrialPruned
        return 0.5 if same else rate

    found = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    found.optimize(objective, n_trials=trials)
    return found


@pytest.mark.parametrize(("trials", "pruned"), [(1, 0), (2, 1), (3, 0), (8, 3)])
def test_a_study_of_any_size_has_its_page_and_pictures(trials: int, pruned: int) -> None:
    some = study(trials, pruned=pruned)
    assert {"history", "slices", "parallel_coordinates"} <= set(charts.search_pictures(some))
    assert charts.search_page(some, "t").count("plotly-graph-div") >= 3


def test_trials_that_are_all_equal_have_no_importances() -> None:
    assert charts.importances(study(6, same=True)) == {}
    assert "importances" not in charts.search_pictures(study(6, same=True))


def test_the_parameter_that_matters_is_named_first() -> None:
    some = study(30)
    assert next(iter(charts.importances(some))) == "learning_rate"
    assert "importances" in charts.search_pictures(some)


def test_the_page_holds_plotly_once_and_loads_nothing_from_elsewhere() -> None:
    page = charts.search_page(study(8), "E5 xgboost")
    assert page.count("plotly.js v") == 1
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", page) == []
    assert "<h1>E5 xgboost</h1>" in page


def test_pictures_leave_no_figure_open_and_no_style_behind() -> None:
    import matplotlib.pyplot as plt

    before = dict(plt.rcParams)
    charts.search_pictures(study(4))
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before

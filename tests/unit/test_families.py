"""What every model family keeps to: those of the project, and one that is added as a module and a block."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import annotated_types
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
import yaml
from pydantic import TypeAdapter
from scipy import stats
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score

from spanishgas import provenance
from spanishgas.config import search as reader
from spanishgas.config.policy import load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import FOREST, LOGISTIC, XGBOOST, Space, families, family, load_search
from spanishgas.errors import UsageError
from spanishgas.evaluation.importance import contributions
from spanishgas.lifecycle import registry
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Media
from spanishgas.scoring.recommend import reasons
from spanishgas.training import artefact
from spanishgas.training.calibration import fit_final
from spanishgas.training.families import estimator, family_of
from spanishgas.training.fitting import Folds, Training, fit_predict
from spanishgas.training.folds import folds
from spanishgas.training.matrix import matrix
from spanishgas.training.model import PROBABILITY, ChurnModel
from spanishgas.training.search import search
from spanishgas.training.sides import labelled
from tests.churn_models import score_body
from tests.gold_frames import gold_frame

MADE_UP = "bayes"
MODULE = '''
"""Naive Bayes on normal columns."""

import numpy as np
from sklearn.naive_bayes import GaussianNB

FAMILY = {
    "parameters": {"share": ["var_smoothing"]},
    "choices": {"class_weight": ["none"]},
    "linear": True,
    "trusted": ["spanishgas.training.families.bayes.Bayes"],
}


def build(options, **_):
    """The unfitted estimator."""
    return Bayes(var_smoothing=options.get("var_smoothing", 1e-9))


class Bayes(GaussianNB):
    """Naive Bayes with its margin."""

    def decision_function(self, X):
        """Log odds."""
        return self.contributions(X).sum(axis=1) + np.log(self.class_prior_[1] / self.class_prior_[0])

    def contributions(self, X):
        """Each column's log likelihood ratio."""
        of_class = [-np.log(v) - (X - m) ** 2 / v for m, v in zip(self.theta_, self.var_)]
        return (of_class[1] - of_class[0]) / 2
'''
BLOCK = """
bayes:
  start: {var_smoothing: 0.01}
  space:
    var_smoothing: {low: 0.0001, high: 1.0, log: true}
"""
TIMES = {
    "months_to_renewal": "numeric",
    "last_interaction_days_ago": "numeric",
    "months_since_last_change": "numeric",
    "segment": "category",
    "sentiment_label": "category",
    "customer_intent": "category",
}
FEATURES = list(TIMES)
ROWS = gold_frame(60, seed=8, labelled=False)
MODELS = pytest.mark.parametrize("name", [*families(), MADE_UP], indirect=True)


@pytest.fixture
def made_up(tmp_path: Path, experiments: Path) -> Iterator[None]:
    """A family more, for the time of a test: its module in a folder of its own, and its block."""
    (tmp_path / f"{MADE_UP}.py").write_text(MODULE)
    with (experiments / "search.yaml").open("a") as spaces:
        spaces.write(BLOCK)
    reader.PLACES.append(str(tmp_path))
    yield
    reader.PLACES.remove(str(tmp_path))
    sys.modules.pop(f"spanishgas.training.families.{MADE_UP}", None)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A family's name; the made-up one is there only where it is asked for."""
    if request.param == MADE_UP:
        request.getfixturevalue("made_up")
    return str(request.param)


def small(name: str) -> Space:
    """The family's own search space with few trees."""
    space = load_search().of(name)
    trees = {"n_estimators": 12} if "n_estimators" in space.fixed else {}
    few = {"most_trees": 20, "rounds": 10, "unmeasured": 12, "fewest": 5}
    stopping = space.early_stopping and space.early_stopping.model_copy(update=few)
    return space.model_copy(update={"fixed": space.fixed | trees, "early_stopping": stopping})


def params_of(name: str) -> dict[str, Value]:
    space = small(name)
    trees = {"n_estimators": 12} if space.early_stopping else {}
    return {**space.fixed, **space.start, **trees}


def training_of(name: str, rows: int = 400) -> Training:
    gold = labelled(gold_frame(rows, 1))
    y = gold["churn"].to_numpy(dtype="int64")
    return Training(matrix(gold, FEATURES, TIMES), y, FEATURES, TIMES, name, folds=3, seed=1)


@cache
def fitted(name: str) -> ChurnModel:
    return fit_final(training_of(name), params_of(name), 0.3, load_policy())


# --- what search.yaml may say of it

X, Y = make_classification(120, 8, random_state=0)
OURS = {"class_weight", "categories", "limit", "splits", "penalty"}


def edges(type_: Any) -> Iterator[Value]:
    """Values at the bounds of a parameter's type."""
    if get_origin(type_) is Annotated:
        whole, (info,) = get_args(type_)[0] is int, get_args(type_)[1:]
        for bound in info.metadata:
            if isinstance(bound, annotated_types.Ge):
                yield bound.ge  # type: ignore[misc]
            if isinstance(bound, annotated_types.Gt):
                yield 1e-3
            if isinstance(bound, annotated_types.Le):
                yield min(bound.le, 50) if whole else bound.le  # type: ignore[type-var,misc]
    else:
        for part in get_args(type_):
            yield from [part] if isinstance(part, str) else edges(part)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@MODELS
def test_its_estimator_takes_what_is_declared_of_it(name: str) -> None:
    about = family(name)
    few = {"n_estimators": 2} if "n_estimators" in about.types else {}
    tried = [(parameter, value) for parameter, type_ in about.types.items() for value in edges(type_)]
    assert len({parameter for parameter, _ in tried}) == len(about.types) > 0
    for parameter, value in tried:
        TypeAdapter(about.types[parameter]).validate_python(value, strict=True)
        needed = about.only_with.get(parameter, {})
        unfitted = estimator(name, {**few, **needed, parameter: value}, seed=1, types=["float"] * 8)
        assert parameter in OURS or unfitted.get_params()[parameter] == value
        assert np.isfinite(unfitted.fit(X, Y).decision_function(X)).all(), (parameter, value)


@MODELS
def test_it_searches_its_own_space(name: str) -> None:
    space = small(name)
    chosen = search(training_of(name, 150), space, 7)
    first = chosen.trials[0].params
    assert {k: first[k] for k in space.start} == space.start
    for trial in chosen.trials:
        drawn = space.names(trial.params)
        assert set(trial.params) - set(space.fixed) - {"n_estimators"} == set(drawn)
        assert space.admitted(trial.params) == {k: trial.params[k] for k in drawn}
    assert chosen.best.score > 0.2


@MODELS
def test_parameters_and_early_stopping_that_it_does_not_have_are_refused_by_name(
    name: str, experiments: Path
) -> None:
    content = yaml.safe_load((experiments / "search.yaml").read_text())
    block = content[name]
    stopping = {"most_trees": 9, "rounds": 1, "share": 0.1, "fewest": 1, "unmeasured": 2}
    faults = {f"unknown parameter of {name} 'sample_weight'": {"fixed": {"sample_weight": 3}}}
    if not family(name).early_stopping:
        faults[f"{name}.early_stopping: is for xgboost alone"] = {"fixed": {}, "early_stopping": stopping}
    for refusal, change in faults.items():
        content[name] = block | change
        (experiments / "search.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        with pytest.raises(UsageError, match=refusal):
            load_search()


# --- its estimator


@MODELS
def test_a_margin_is_log_odds_of_the_estimators_probability(name: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype("int64")
    model = estimator(name, params_of(name), 0).fit(X, y)
    margin, p = model.decision_function(X), model.predict_proba(X)[:, 1]
    assert margin.shape == (300,)
    assert np.isfinite(margin).all()
    inside = (p > 0.05) & (p < 0.95)
    assert margin[inside] == pytest.approx(np.log(p[inside] / (1 - p[inside])), abs=1e-4)


@MODELS
def test_rows_of_no_weight_teach_nothing(name: str) -> None:
    training = training_of(name)
    wrong = replace(
        training,
        X=pd.concat([training.X] * 2, ignore_index=True),
        y=np.concatenate([training.y, 1 - training.y]),
        weights=np.repeat([1.0, 0.0], len(training.y)),
    )
    model = wrong.unfitted(params_of(name)).fit(wrong.X, wrong.y, **wrong.weighed(step="model__"))
    assert average_precision_score(training.y, model.decision_function(training.X)) > 0.5


@MODELS
def test_early_stopping_keeps_a_number_of_trees_that_a_fit_can_be_told(name: str) -> None:
    training, space = training_of(name), small(name)
    assert (space.early_stopping is not None) <= family(name).early_stopping
    fold = Folds(training, folds(training.y, 3, 1)).encoded(0, space.start)
    params = {**space.fixed, **space.start}
    margins, trees = fit_predict(training, params, fold, space.early_stopping)
    again, same = fit_predict(training, params, fold, space.early_stopping)
    assert np.isfinite(margins).all()
    assert (margins == again).all()
    assert trees == same
    if space.early_stopping is None:
        assert trees is None
    else:
        assert trees is not None
        assert 0 < trees <= space.early_stopping.most_trees
        assert estimator(name, {**params, "n_estimators": trees}, 0).fit(fold.X, fold.y) is not None


# --- the model that is shipped


@MODELS
def test_calibration_keeps_the_order_of_the_margins(name: str) -> None:
    model, rows = fitted(name), gold_frame(200, seed=3)
    margin = model.pipeline.decision_function(model.prepared(rows))
    assert stats.spearmanr(margin, model.predict(rows)[PROBABILITY]).statistic == pytest.approx(1)


@MODELS
def test_it_ranks_new_customers_well_above_chance(name: str) -> None:
    rows = gold_frame(400, seed=5)
    y = rows["churn"].astype(int)
    assert average_precision_score(y, fitted(name).predict_proba(rows)[:, 1]) > 1.5 * y.mean()


@MODELS
def test_the_same_seed_fits_the_same_model(name: str) -> None:
    again = fit_final(training_of(name), params_of(name), 0.3, load_policy())
    assert (again.predict(ROWS)[PROBABILITY] == fitted(name).predict(ROWS)[PROBABILITY]).all()


@MODELS
def test_scoring_one_row_at_a_time_equals_scoring_the_table(name: str) -> None:
    rows = gold_frame(12, seed=9, labelled=False)
    rows.loc[0, "segment"] = "Martian"
    table = fitted(name).predict(rows)
    single = pd.concat([fitted(name).predict(rows.iloc[[i]]) for i in range(len(rows))])
    pd.testing.assert_frame_equal(table, single, rtol=1e-6)


@MODELS
def test_its_artefact_is_loaded_without_trusting_it_and_scores_the_same(name: str, tmp_path: Path) -> None:
    skops.io.dump(fitted(name), tmp_path / artefact.FILE)
    loaded = artefact.load(tmp_path, name)
    pd.testing.assert_frame_equal(loaded.predict(ROWS), fitted(name).predict(ROWS), check_exact=True)
    assert family_of(loaded.pipeline[-1]) == name


@MODELS
def test_a_loader_is_told_what_it_must_install(name: str) -> None:
    needed = {line.partition("==")[0] for line in registry.requirements(fitted(name))}
    assert {"scikit-learn", "skops"} <= needed
    others = {package.removesuffix("-cpu") for package in needed} - set(registry.PINNED)
    assert others == set(family(name).packages)
    assert (XGBOOST in others) == (name == XGBOOST)


@pytest.mark.parametrize("media", list(Media))
@MODELS
def test_the_serving_process_answers_with_its_own_numbers(name: str, media: Media) -> None:
    model = fitted(name)
    wanted = payload.inputs(model)
    table = pa.Table.from_pandas(ROWS, preserve_index=False).select(list(wanted))
    data = [list(row.values()) for row in table.to_pylist()]
    body = (
        json.dumps({"dataframe_split": {"columns": list(wanted), "data": data}}).encode()
        if media is Media.JSON
        else payload.write(table, media)
    )
    answered = score_body(model, body, media)
    assert answered == payload.write(payload.answer(ROWS["customer_id"], model.predict(ROWS)), media)


# --- its reasons


@MODELS
def test_reasons_are_the_source_features_in_order_on_the_frames_index(name: str) -> None:
    rows = ROWS.set_index("customer_id")
    added = contributions(fitted(name), rows)
    assert list(added.columns) == FEATURES
    assert list(added.index) == list(rows.index)
    assert np.isfinite(added.to_numpy()).all()
    assert contributions(fitted(name), rows.iloc[:0]).empty


@MODELS
def test_what_is_added_in_all_orders_customers_as_the_margin_does(name: str) -> None:
    margin = fitted(name).pipeline.decision_function(fitted(name).prepared(ROWS))
    total = contributions(fitted(name), ROWS).sum(axis=1)
    assert stats.spearmanr(margin, total).statistic > 0.99


@MODELS
def test_the_drivers_of_the_made_up_churn_lead_the_reasons(name: str) -> None:
    size = contributions(fitted(name), ROWS).abs().mean()
    assert set(size.nlargest(2).index) == {"months_to_renewal", "sentiment_label"}


@MODELS
def test_a_negative_mood_adds_risk_against_a_positive_one(name: str) -> None:
    bad = contributions(fitted(name), ROWS.assign(sentiment_label="negative"))["sentiment_label"]
    good = contributions(fitted(name), ROWS.assign(sentiment_label="positive"))["sentiment_label"]
    assert (bad > good).all()


@MODELS
def test_one_row_is_explained_as_in_the_table(name: str) -> None:
    table = contributions(fitted(name), ROWS)
    one = contributions(fitted(name), ROWS.iloc[[3]])
    pd.testing.assert_frame_equal(table.iloc[[3]], one, check_names=False, rtol=1e-5)


@MODELS
def test_every_customer_has_one_to_three_reasons_in_words(name: str) -> None:
    told = reasons(fitted(name), ROWS, {feature: feature for feature in FEATURES})
    assert all(1 <= len(why) <= 3 and all(why) for why in told)


# --- families as such


def test_the_projects_families_are_those_of_the_search_spaces() -> None:
    assert set(load_search().root) == set(families()) >= {FOREST, LOGISTIC, XGBOOST}


def test_a_family_of_nowhere_and_one_without_a_space_are_refused(
    tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'xgbost'.*Did you mean 'xgboost'"):
        family("xgbost")
    with pytest.raises(UsageError, match="unknown model 'bayes'"):
        estimator(MADE_UP, {}, 0)
    monkeypatch.setattr(reader, "PLACES", [*reader.PLACES, str(tmp_path)])
    (tmp_path / f"{MADE_UP}.py").write_text(MODULE)
    with pytest.raises(UsageError, match=r"search\.yaml is not valid:\n  - bayes: has no search space"):
        load_search()
    (tmp_path / f"{MADE_UP}.py").write_text("")
    with pytest.raises(UsageError, match=r"bayes\.py declares no FAMILY"):
        family(MADE_UP)


def test_an_artefact_of_an_earlier_version_names_its_estimators_by_their_earlier_module(
    tmp_path: Path,
) -> None:
    for name in (FOREST, LOGISTIC, XGBOOST):
        new, old = tmp_path / f"{name}.skops", tmp_path / name / artefact.FILE
        old.parent.mkdir()
        skops.io.dump(fitted(name), new)
        with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w") as target:
            for part in source.namelist():
                text = source.read(part)
                target.writestr(
                    part, text.replace(f"training.families.{name}".encode(), b"training.estimators")
                )
        loaded = artefact.load(old.parent, name).predict(ROWS)
        pd.testing.assert_frame_equal(loaded, fitted(name).predict(ROWS), check_exact=True)


def test_the_code_of_a_family_is_part_of_the_key_of_what_is_computed_with_it() -> None:
    files = provenance._sources(("spanishgas.training.search",))
    assert {f"{name}.py" for name in families()} <= {f.name for f in files if f.parent.name == "families"}


def test_search_spaces_are_read_without_importing_any_estimator() -> None:
    code = "import sys; from spanishgas.config.search import load_search; load_search(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"numpy", "pandas", "sklearn", "xgboost"} & set(ran.stdout.split()) == set()

"""A stage's key holds everything that its work is given, and its work is given everything that it reads."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from spanishgas import provenance, stages
from spanishgas.config import experiment, policy, search, tiers
from spanishgas.config.policy import DriftLimits, Policy, load_policy
from spanishgas.config.search import LOGISTIC, XGBOOST, families
from spanishgas.errors import UsageError
from spanishgas.etl.build import ETL, etl_inputs
from spanishgas.etl.source import open_source
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.evaluation import CANDIDATE, EVALUATE, evaluate_inputs
from spanishgas.lifecycle.experiments import EXPERIMENT, SEARCH, experiment_inputs, kinds_of
from spanishgas.lifecycle.ladder import LADDER, ladder_inputs
from spanishgas.lifecycle.records import CHOSEN, ExperimentRecord
from spanishgas.lifecycle.stage import through
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring import baseline
from spanishgas.monitoring.drift import DRIFT, drift_inputs
from spanishgas.monitoring.outcomes import ESTIMATE, OUTCOMES, EstimateInputs, outcomes_inputs
from spanishgas.scoring.recommend import RECOMMEND, recommend_inputs
from spanishgas.scoring.score import SCORE, score_inputs
from spanishgas.settings import PROJECT, settings
from spanishgas.stages import Stage, digest, keyed, unkeyed
from spanishgas.training.sides import in_holdout
from spanishgas.uplift import UPLIFT, uplift_inputs
from tests.churn_models import churn_model
from tests.raw_builder import write_raw
from tests.scored_cohorts import DAY, LATER, drawn, reference, score, version_of, write_labels
from tests.tracked import own_model, own_store


@dataclass(frozen=True)
class World:
    """A lake with a labelled table, a champion trained on it, and a later cohort that it scored."""

    lake: Lake
    raw: Path
    run_id: str
    labels: Path
    experiments: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    experiments = shutil.copytree(PROJECT / "experiments", root / "experiments")
    with own_store(root) as patch, own_model("stages"):
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(experiments))
        settings.cache_clear()
        lake, raw = Lake(root / "lake"), root / "extract"
        write_raw(raw)
        gold = reference(lake)
        with mlflow.start_run(experiment_id=runs.experiment_id()) as run:
            mlflow.log_dict(_chosen(gold).model_dump(mode="json"), CHOSEN)
        number = version_of(churn_model(LOGISTIC), gold, root / "model")
        MlflowClient().set_registered_model_alias(settings().registered_model, "champion", number)
        scored = score(lake, number)
        labels = write_labels(scored, drawn(scored["churn_probability"].to_numpy(), 11), root / "labels.csv")
        yield World(lake, raw, run.info.run_id, labels, experiments)
    settings.cache_clear()


def _chosen(gold: Snapshot) -> ExperimentRecord:
    return ExperimentRecord(
        experiment="E5",
        model=XGBOOST,
        params={"max_depth": 3},
        trial=0,
        kinds=kinds_of(experiment.load_experiment("E5"), XGBOOST),
        fold_scores=[0.7, 0.8],
        repeats=1,
        seed=7,
        gold=gold.manifest.digest,
        holdout=load_policy().holdout,
        as_of=gold.manifest.as_of,
    )


def _experiment(world: World) -> Any:
    return experiment_inputs("E5", "xgboost", trials=2, lake=world.lake, seed=1)


STAGES: Mapping[str, tuple[Stage[Any], Callable[[World], Any]]] = {
    "etl": (ETL, lambda w: etl_inputs(open_source(w.raw), DAY, "duckdb")),
    "search": (SEARCH, lambda w: _experiment(w).search),
    "experiment": (EXPERIMENT, _experiment),
    "ladder": (LADDER, lambda w: ladder_inputs(["E0", "E1"], ["xgboost"], trials=2, lake=w.lake, seed=1)),
    "candidate": (CANDIDATE, lambda w: evaluate_inputs(w.run_id, w.lake).candidate),
    "evaluate": (EVALUATE, lambda w: evaluate_inputs(w.run_id, w.lake)),
    "score": (SCORE, lambda w: score_inputs("1", w.lake, "local", lambda *_: None, lambda _: None)),
    "recommend": (RECOMMEND, lambda w: recommend_inputs(w.lake)),
    "drift": (DRIFT, lambda w: drift_inputs(None, "1", w.lake)),
    "outcomes": (OUTCOMES, lambda w: outcomes_inputs(w.labels, None, w.lake)),
    "estimate": (ESTIMATE, lambda w: EstimateInputs(w.lake.current("scores"), "1")),
    "uplift": (UPLIFT, lambda w: uplift_inputs(w.lake, 3, 1)),
}
each_stage = pytest.mark.parametrize("name", STAGES)


def inputs_of(name: str, world: World) -> Any:
    return STAGES[name][1](world)


def key_of(name: str, world: World) -> str:
    stage, edge = STAGES[name]
    return stage.key(edge(world))


# --- every input alone changes the key


@dataclass(frozen=True)
class Other:
    """Stands for an object that says by `identity` on what a result depends."""

    identity: object


def alterations(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Copies of a value with one thing in it changed, each with the path to that thing."""
    if isinstance(value, Snapshot):
        for name in ("digest", "table"):
            yield f"{path}.{name}", replace(value, manifest=value.manifest.model_copy(update={name: "other"}))
    elif isinstance(value, Version):
        entity = value.entity
        yield path, Version(ModelVersion(entity.name, "99", 0, run_id=entity.run_id))
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            for below, new in alterations(getattr(value, name), f"{path}.{name}"):
                yield below, value.model_copy(update={name: new})
    elif hasattr(value, "identity"):
        yield path, Other([value.identity, "more"])
    elif dataclasses.is_dataclass(value):
        for one in keyed(type(value)):
            for below, new in alterations(getattr(value, one.name), f"{path}.{one.name}"):
                yield below, replace(value, **{one.name: new})
    elif isinstance(value, Mapping):
        yield f"{path}.new", {**value, "new": 1}
        for name, one in value.items():
            for below, new in alterations(one, f"{path}.{name}"):
                yield below, {**value, name: new}
        if len(value) > 1:
            yield f"{path} in another order", dict(reversed(value.items()))
    elif isinstance(value, list | tuple):
        yield f"{path}.more", [*value, "more"]
        for at, one in enumerate(value):
            for below, new in alterations(one, f"{path}.{at}"):
                yield below, [*value[:at], new, *value[at + 1 :]]
    else:
        yield path, _other(value)


def _other(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return next((one for one in type(value) if one is not value), "other")
    if isinstance(value, bool) or value is None:
        return value is None or not value
    if isinstance(value, date):
        return value + timedelta(1)
    if isinstance(value, int):
        return value + 1
    return f"{value}x" if isinstance(value, str | Path) else value / 2 or 0.25


# A key need not care whether an altered model would still be valid.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@each_stage
def test_a_change_of_any_one_input_changes_the_key(name: str, world: World) -> None:
    stage, inputs = STAGES[name][0], inputs_of(name, world)
    key, keys = stage.key(inputs), dict[str, str]()
    for path, altered in alterations(inputs):
        keys[path] = stage.key(altered)
    assert {path for path, other in keys.items() if other == key} == set()
    assert {f.name for f in keyed(type(inputs))} <= {path.split(".")[1].split(" ")[0] for path in keys}


@each_stage
def test_what_is_marked_unkeyed_changes_no_key_and_says_why(name: str, world: World) -> None:
    stage, inputs = STAGES[name][0], inputs_of(name, world)
    for one in set(dataclasses.fields(inputs)) - set(keyed(type(inputs))):
        assert len(one.metadata[stages.UNKEYED].split()) >= 3
        assert stage.key(replace(inputs, **{one.name: "other"})) == stage.key(inputs)


# --- of policy.yaml the keys that a stage reads, and no others

OF_EXPERIMENTS = {"holdout", "folds", "repeats", "threshold"}
OF_JUDGEMENTS = OF_EXPERIMENTS | {"risk_tiers", "gate", "offers", "protected", "waivers"}
READS: Mapping[str, set[str]] = {
    "etl": set(),
    "search": {"holdout", "folds"},
    "experiment": OF_EXPERIMENTS,
    "ladder": OF_EXPERIMENTS,
    "candidate": OF_JUDGEMENTS,
    "evaluate": OF_JUDGEMENTS,
    "score": set(),
    "recommend": {"offers"},
    "drift": {"drift.false_alarm_rate", "drift.min_effect"},
    "outcomes": {"offers", "label_horizon_months", "drift.false_alarm_rate"},
    "estimate": set(),
    "uplift": {"offers", "holdout"},
}


def sections() -> list[str]:
    """Every key at the top of policy.yaml, those of drift by themselves."""
    of_drift = [f"drift.{name}" for name in DriftLimits.model_fields if name != "baseline"]
    return [name for name in Policy.model_fields if name != "drift"] + of_drift


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@each_stage
def test_a_stages_key_follows_the_part_of_policy_that_it_reads_and_no_other(
    name: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = key_of(name, world), load_policy()
    follows = set()
    for section in sections():
        first, _, second = section.partition(".")
        _, altered = next(
            alterations(getattr(getattr(real, first), second) if second else getattr(real, first))
        )
        new = getattr(real, first).model_copy(update={second: altered}) if second else altered
        changed = real.model_copy(update={first: new})
        monkeypatch.setattr(policy, "read", lambda path, model, changed=changed: changed)
        try:
            follows |= {section} if key_of(name, world) != before else set()
        except UsageError:
            # The run set other customers aside: refused, so it is no old result either.
            follows.add(section)
    assert follows == READS[name]


@each_stage
def test_words_of_a_feature_concern_recommendations_alone(
    name: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, text = key_of(name, world), yaml.safe_load((PROJECT / "experiments/tiers.yaml").read_text())
    text["1A"]["features"]["tenure_months"]["words"] = "months with us"
    changed = tiers.Tiers.model_validate(text)
    monkeypatch.setattr(tiers, "read", lambda path, model: changed)
    assert (key_of(name, world) != before) == (name == "recommend")


def test_reasons_are_told_in_the_words_that_the_dictionary_has_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = yaml.safe_load((PROJECT / "experiments/tiers.yaml").read_text())
    text["1A"]["features"]["tenure_months"]["words"] = "months with us"
    changed = tiers.Tiers.model_validate(text)
    monkeypatch.setattr(tiers, "read", lambda path, model: changed)
    assert recommend_inputs(world.lake).words["tenure_months"] == "months with us"


def test_a_feature_that_moves_to_another_tier_makes_another_rung(world: World) -> None:
    before = {name: key_of(name, world) for name in ("search", "experiment", "ladder", "etl")}
    file = world.experiments / "tiers.yaml"
    original = file.read_text()
    text = yaml.safe_load(original)
    moved = text["1A"]["features"].pop("is_digital_channel")
    text["MP_CORE"]["features"]["is_digital_channel"] = moved
    try:
        file.write_text(yaml.safe_dump(text, sort_keys=False))
        inputs = ladder_inputs(["E0", "E1"], ["xgboost"], trials=2, lake=world.lake, seed=1)
        assert [len(rung.kinds) for rung in inputs.rungs] == [14, 23]
        assert "is_digital_channel" not in inputs.rungs[0].kinds
        after = {name: key_of(name, world) for name in before}
    finally:
        file.write_text(original)
    # E5 has both tiers: the order of its columns is another.
    assert {name for name in before if after[name] != before[name]} == set(before)


@pytest.mark.parametrize("kind", families())
def test_a_search_space_concerns_its_own_model_alone(
    kind: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        model: EXPERIMENT.key(experiment_inputs("E5", model, trials=2, lake=world.lake, seed=1))
        for model in families()
    }
    real = search.load_search()
    changed = search.Search.model_construct(
        root=real.root | {kind: real.of(kind).model_copy(update={"fixed": {"other": 1}})}
    )
    monkeypatch.setattr(search, "read", lambda path, model: changed)
    for model in families():
        again = EXPERIMENT.key(experiment_inputs("E5", model, trials=2, lake=world.lake, seed=1))
        assert (again != keys[model]) == (model == kind)


def test_baseline_variation_written_anew_in_the_same_folder_makes_another_report(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = baseline.read(baseline.SHIPPED)
    record.write(tmp_path)
    real = load_policy()
    mine = real.model_copy(update={"drift": real.drift.model_copy(update={"baseline": tmp_path})})
    monkeypatch.setattr(policy, "read", lambda path, model: mine)
    before = key_of("drift", world)
    assert key_of("drift", world) == before
    replace(record, pairs=record.pairs * 1.5).write(tmp_path)
    assert key_of("drift", world) != before


# --- a version is its own record


def test_customers_that_a_version_learned_from_are_those_of_its_own_holdout_rule(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_policy()
    gold = world.lake.current("gold_master", DAY).pandas()
    learned = set(gold["customer_id"][~in_holdout(gold["customer_id"], real.holdout)])
    salted = real.model_copy(update={"holdout": real.holdout.model_copy(update={"salt": "another"})})
    monkeypatch.setattr(policy, "read", lambda path, model: salted)
    assert load_policy().holdout.salt == "another"
    for inputs in (inputs_of(name, world) for name in ("score", "recommend", "drift", "outcomes")):
        assert inputs.training.customers == learned
        assert not set(inputs.training.held_out()["customer_id"]) & learned
        assert len(inputs.training.held_out()) + len(learned) == len(gold)


def test_tiers_of_a_cohort_are_those_that_the_version_scored_by(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = load_policy()
    monkeypatch.setattr(
        policy, "read", lambda path, model: real.model_copy(update={"risk_tiers": {"All": 0.0}})
    )
    assert recommend_inputs(world.lake).risk_tiers == real.risk_tiers
    assert inputs_of("outcomes", world).version.record.policy.risk_tiers == real.risk_tiers


# --- code


def test_a_key_holds_the_source_of_the_work_its_imports_and_its_templates_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = shutil.copytree(
        provenance.PACKAGE, tmp_path / "spanishgas", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def sources() -> dict[str, str]:
        provenance.source_digest.cache_clear()
        provenance._imports.cache_clear()
        return {name: stage.source for name, (stage, _) in STAGES.items()}

    before = sources()
    touched = {
        "evaluation/templates/card.md.jinja": {"candidate", "evaluate"},
        "monitoring/templates/drift.html.jinja": {"drift", "outcomes", "estimate"},
        "scoring/serving.py": {"score"},
        "etl/rollup.py": {"etl"},
        "training/folds.py": set(STAGES) - {"etl"},
        "dashboard/frame.py": set(),
        "cli/data.py": set(),
    }
    try:
        for file, stages_of in touched.items():
            original = (package / file).read_bytes()
            (package / file).write_bytes(original + b"\n")
            changed = {name for name, source in sources().items() if source != before[name]}
            (package / file).write_bytes(original)
            assert stages_of <= changed, file
            assert stages_of or not changed, file
            assert "etl" not in changed or "etl" in stages_of, file
    finally:
        monkeypatch.undo()
        provenance.source_digest.cache_clear()
        provenance._imports.cache_clear()


# --- what was not passed is not there


@dataclass(frozen=True)
class Given:
    """The inputs of a made-up stage."""

    number: int
    lake: Lake | None = unkeyed("where nothing goes")


MADE_UP = Stage[Given]("made up", (__name__,))


READERS: Mapping[str, Callable[[], object]] = {
    "policy": load_policy,
    "experiment": lambda: experiment.load_experiment("E0"),
    "tiers": tiers.read_tiers,
    "search": search.load_search,
    "newest table": lambda: Lake("nowhere").current("scores"),
    "table by digest": lambda: Lake("nowhere").by_digest("0" * 64, "gold_master"),
    "version": lambda: registry.resolve("champion"),
    "aliases": registry.aliases,
    "versions": registry.versions,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_stage_at_work_reads_nothing_by_name(read: Callable[[], object]) -> None:
    with MADE_UP.working(), pytest.raises(RuntimeError, match=r"the stage made up reads .*: pass it"):
        read()


def test_work_that_brings_values_of_its_own_along_is_refused() -> None:
    secret = 3
    with pytest.raises(TypeError, match="is a closure"):
        through(MADE_UP, Given(1, None), lambda run, given: secret + given.number, title="made up")


def test_an_object_that_does_not_say_on_what_it_depends_is_no_input() -> None:
    with pytest.raises(TypeError, match="a DataFrame cannot be an input of a stage"):
        digest(pd.DataFrame({"a": [1]}))
    with pytest.raises(TypeError, match="ndarray"):
        MADE_UP.key(Given(np.zeros(1), None))  # type: ignore[arg-type]


def test_the_order_of_a_mapping_counts_as_that_of_features_does() -> None:
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})


def test_later_scores_of_the_same_version_are_another_cohort(world: World) -> None:
    estimate = inputs_of("estimate", world)
    assert estimate.scores.manifest.as_of == LATER
    (_, other), *_ = alterations(estimate)
    assert ESTIMATE.key(other) != ESTIMATE.key(estimate)

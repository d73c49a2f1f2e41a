"""What the drift report is held against, and what it looks at: a champion on four inputs, tables scored one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from mlflow.tracking import MlflowClient

from spanishgas.cli import chain
from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.features import load_tiers
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import registry, runs
from spanishgas.lifecycle.registry import Alias
from spanishgas.monitoring.drift import Drift, drift
from spanishgas.training.artefact import FILE
from spanishgas.training.calibration import fit_final
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import PROBABILITY, ChurnModel
from spanishgas.training.sides import labelled
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import own_model, own_store
from tests.versions import add_version, made_up_record

FEATURES = ["months_to_renewal", "sentiment_label", "is_dual_fuel", "std_margin"]
OUTPUTS = {PROBABILITY, "churn", "churn_flag", "expected_monthly_loss", "avg_monthly_margin"}
BASE, FIRST, SECOND = date(2024, 12, 31), date(2025, 3, 31), date(2025, 6, 30)


def small_model() -> ChurnModel:
    tiers = load_tiers()
    kinds = {f: tiers.kind(f) for f in FEATURES}
    gold = labelled(gold_frame(400, seed=3))
    y = gold["churn"].to_numpy(dtype="int64")
    training = Training(matrix(gold, FEATURES, kinds), y, FEATURES, kinds, XGBOOST, folds=3, seed=1)
    params = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3}
    return fit_final(training, params, 0.3, load_policy())


@dataclass
class World:
    """A lake, and a registered model whose versions all are the same small one."""

    root: Path
    lake: Lake
    model: ChurnModel

    def champion(self, trained_on: Snapshot) -> None:
        """A new version that was trained on that table, as champion."""
        record = made_up_record(trained_on.manifest.digest, trained_on.manifest.as_of)
        registry.point(Alias.CHAMPION, add_version(source=str(self.root / "model"), record=record))

    def scored(self, frame: pd.DataFrame, as_of: date) -> Snapshot:
        """A gold table whose customers the champion scored."""
        gold = publish_gold(self.lake, frame, as_of)
        scores = frame[["customer_id"]].join(self.model.predict(frame))

        def write(folder: Path) -> None:
            scores.to_parquet(folder / "part-0.parquet", index=False)

        built_from = {"gold_master": gold.manifest.digest}
        self.lake.publish("scores", as_of, write, built_from=built_from, fingerprint=str(as_of), code={})
        return gold


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    model = small_model()
    (tmp_path / "model").mkdir()
    skops.io.dump(model, tmp_path / "model" / FILE)
    with own_store(tmp_path), own_model("drift"):
        yield World(tmp_path, Lake(tmp_path / "lake"), model)


def moved(seed: int) -> pd.DataFrame:
    """Another utility in every input."""
    frame = gold_frame(400, seed=seed)
    return frame.assign(
        months_to_renewal=frame["months_to_renewal"] + 9,
        sentiment_label="negative",
        is_dual_fuel=1,
        std_margin=frame["std_margin"] * 5,
    )


def reference(found: Drift) -> str:
    """Digest of what the report was held against."""
    inputs = MlflowClient().get_run(found.run_id).inputs.dataset_inputs
    held = {next(t.value for t in i.tags if t.key == "mlflow.data.context"): i for i in inputs}
    return next(t.value for t in held["reference"].tags if t.key == "digest")


@pytest.mark.slow
def test_the_reference_is_the_training_table_and_moves_with_the_alias_alone(world: World) -> None:
    """The replaced system took the first batch that it scored: here that one had drifted, and the later matches it."""
    training = publish_gold(world.lake, gold_frame(400, seed=1), BASE)
    world.champion(training)
    first = world.scored(moved(2), FIRST)
    assert drift(None, lake=world.lake).alarm
    world.scored(moved(3), SECOND)
    second = drift(None, lake=world.lake)
    assert (second.alarm, second.share) == (True, 1.0)
    assert reference(second) == training.manifest.digest
    world.champion(first)
    third = drift(None, lake=world.lake)
    assert third.share == 0.0
    assert reference(third) == first.manifest.digest


def test_every_input_of_the_model_is_watched_and_none_of_its_outputs(world: World) -> None:
    """The replaced system watched probabilities, flags, margins and the label, and no input."""
    world.champion(publish_gold(world.lake, gold_frame(400, seed=1), BASE))
    same = gold_frame(400, seed=1)
    world.scored(same.assign(std_margin=np.where(same.index < 200, 99.0, same["std_margin"])), FIRST)
    found = drift(None, lake=world.lake)
    assert found.alarm
    assert list(found.drifted) == ["std_margin"]
    metrics = MlflowClient().get_run(found.run_id).data.metrics
    for prefix in ("drift.feature.", "drift.standardised."):
        assert {m.removeprefix(prefix) for m in metrics if m.startswith(prefix)} == set(FEATURES)
    rows = runs.artifact(found.run_id, "drift-features.json")
    assert {row[rows["columns"].index("feature")] for row in rows["data"]} == set(FEATURES)
    assert not OUTPUTS & set(FEATURES)


def test_a_report_goes_by_the_months_before_it_and_the_verb_shows_what_they_teach(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.champion(publish_gold(world.lake, gold_frame(400, seed=1), BASE))
    for at, day in enumerate((FIRST, SECOND)):
        world.scored(
            gold_frame(400, seed=1).assign(std_margin=lambda x, at=at: x["std_margin"] * (1.1 + at)), day
        )
    early, late = drift(FIRST, lake=world.lake), drift(SECOND, lake=world.lake)
    assert [(r.months, r.calibrated) for r in (early, late)] == [(1, False), (2, False)]
    assert late.reasons[0].startswith("Not calibrated for this utility yet: 2 of 12 months seen.")
    assert MlflowClient().get_run(late.run_id).data.tags["calibrated"] == "no"
    publish_gold(world.lake, gold_frame(400, seed=1), date(2024, 9, 30))
    again = drift(SECOND, lake=world.lake)
    assert (again.months, again.run_id == late.run_id) == (3, False)
    chain.baseline(lake=world.lake, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["months"] == ["2024-09-30", "2024-12-31", "2025-03-31"]
    assert {row["input"] for row in shown["inputs"]} == set(FEATURES)
    chain.baseline(lake=world.lake)
    assert "3 of 12 own months seen" in capsys.readouterr().out

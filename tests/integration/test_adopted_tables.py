"""A table from elsewhere goes through the verbs: adopted, searched, judged, promoted, scored, and looked at later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.errors import LakeError, TooEarly
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.recalibration import recalibrate
from spanishgas.settings import settings
from tests.tracked import own_model, own_store
from tests.unit.test_adopt import declare, shop


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, f"{words}: {result.output} {result.exception!r}"
    return result.stdout


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder with a tracking store, whose table is adopted under the model name and lake that the words tell."""
    with own_store(tmp_path) as patch, own_model("shop-churn"):
        patch.setenv("SPANISHGAS_LAKE", "lake")
        patch.setenv("SPANISHGAS_STUDY_STORAGE", f"sqlite:///{tmp_path}/optuna.db")
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()


def adopted(table: pd.DataFrame, *words: str, as_of: str = "2024-12-31") -> str:
    table.to_csv("shop.csv", index=False)
    at = ("--as-of", as_of, "--lake", "lake")
    return run("adopt", "shop.csv", "--id", "Customer No", "--target", "Left", *at, *words)


def decide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the folder the one that verbs read, its waiver declared, with room in its gate for the noise of so few."""
    declare(folder)
    policy = folder / "policy.yaml"
    policy.write_text(policy.read_text().replace("max_calibration_error: 0.05", "max_calibration_error: 0.5"))
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))
    settings.cache_clear()


def test_a_small_table_goes_from_a_file_to_scores(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adopted(shop(700), "--without", "Postcode", "--value", "Margin")
    decide(home / "experiments-shop", monkeypatch)
    run("experiment", "--id", "E0", "--model", "logistic", "--trials", "1", "--lake", "lake")
    verdict = json.loads(run("evaluate", "--lake", "lake", "--json"))
    assert verdict["passed"], [c for c in verdict["checks"] if not c["passed"]]
    checks = {c["name"]: c for c in verdict["checks"]}
    rate = shop(700)["Left"].eq("yes").mean()
    assert checks["first champion"]["limit"] == pytest.approx(rate + 0.05 * (1 - rate), abs=0.05)
    assert checks["baseline.average_precision.difference"]["value"] == pytest.approx(0, abs=0.02)
    run("promote", "--reason", "first")
    run("score", "--lake", "lake")
    lake = Lake("lake")
    scores, told = (lake.current(name).pandas() for name in ("scores", "recommendations"))
    assert sorted(scores["customer_id"]) == sorted(shop(700)["Customer No"])
    assert len(set(scores["churn_probability"])) > 450
    assert told["segment"].isna().all()
    assert (told["action"] != "no_offer").any()
    assert "every link is there" in run("lineage", "champion", "--lake", "lake")
    assert "build again: spanishgas adopt TABLE --as-of 2024-12-31" in run("erase", "00007", "--lake", "lake")
    (cut,) = lake.current("gold_master").folder.glob("*.parquet")
    whole = cut.read_bytes()
    cut.write_bytes(whole[:-9])
    with pytest.raises(
        LakeError, match="build gold_master again \\(spanishgas adopt TABLE --as-of 2024-12-31"
    ):
        _ = lake.current("gold_master").folder
    cut.write_bytes(whole)
    with pytest.raises(TooEarly, match="bring a later table with its target \\(spanishgas adopt\\)"):
        recalibrate(lake=lake)
    reported = run("drift", "--lake", "lake")
    assert "Not calibrated for this utility yet: 0 of 12 months seen." in reported
    assert "alarm: no" in reported


@pytest.mark.slow
def test_a_larger_table_goes_through_the_later_verbs_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, later = shop(6_000), shop(3_000, seed=4)
    later["Customer No"] = [f"L{n:05d}" for n in range(len(later))]
    adopted(table)
    decide(home / "experiments-shop", monkeypatch)
    run("ladder", "--models", "xgboost,logistic", "--trials", "2", "--lake", "lake")
    assert "gate passed" in run("evaluate", "--lake", "lake")
    run("promote", "--reason", "first")
    words = adopted(later.drop(columns="Left"), as_of="2025-03-31")
    assert "nobody is labelled" in words
    run("score", "--lake", "lake")
    assert "judged by own months alone" in run("drift", "--lake", "lake")
    labels = pd.DataFrame(
        {"customer_id": later["Customer No"], "churn": np.where(later["Left"] == "yes", 1, 0)}
    )
    labels.to_csv(home / "labels.csv", index=False)
    assert "average precision" in run("outcomes", "labels.csv", "--lake", "lake")
    assert "reproduced to the last digit" in run("reproduce", "champion", "--lake", "lake")
    assert "every link is there" in run("lineage", "L00007", "--lake", "lake")
    run("erase", "L00007", "--yes", "--lake", "lake")
    assert "L00007" not in set(Lake("lake").current("gold_master").pandas()["customer_id"])
    adopted(later, as_of="2025-06-30")
    run("retrain", "--trials", "2", "--lake", "lake")
    assert len(registry.versions()) == 2

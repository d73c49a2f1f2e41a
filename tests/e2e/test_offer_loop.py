"""The loop of offers by the commands that people type: score, offer by design, label, learn, judge, offer again.

Labels are drawn by the simulator under the offers that were made, so what is learned is what it knows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date

import pytest
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.lake import Lake
from spanishgas.lifecycle import promotion, registry, runs
from spanishgas.scoring.campaign import EFFECT
from spanishgas.settings import PROJECT, of_offers, settings
from tests.tracked import own_store

pytestmark = pytest.mark.slow
CUSTOMERS, LABELS = "1500", "labels"
DAYS = ("2025-01-31", "2025-02-28")


def said(words: str, *rest: str, code: int = 0) -> str:
    """What a command prints; the test fails where it ends with another `code`."""
    done = CliRunner().invoke(app, [*words.split(), *rest])
    assert done.exit_code == code, f"{words}: {done.output} {done.exception!r}"
    return done.stdout


def campaign(day: str) -> None:
    """One month: the customers of the day are scored and offered, and what became of them is told."""
    drawn = f"simulate --customers {CUSTOMERS} --as_of {day}"
    said(f"{drawn} --labelled false --out lake/raw/{day}")
    said(f"etl --as_of {day}")
    said("score")
    said(f"{drawn} --treatments lake --effect 2 --out {LABELS}/{day}")
    said(f"outcomes {LABELS}/{day}/churn_label.csv --as_of {day}")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A small utility after two campaigns, its offers learned."""
    folder = tmp_path_factory.mktemp("loop")
    shutil.copytree(PROJECT / "experiments", folder / "experiments")
    policy = folder / "experiments" / "policy.yaml"
    policy.write_text(policy.read_text().replace("explore: 0.0 ", "explore: 0.4 "))
    with pytest.MonkeyPatch.context() as patch, own_store(folder):
        patch.chdir(folder)
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(folder / "experiments"))
        settings.cache_clear()
        said(f"simulate --customers {CUSTOMERS}")
        said("etl")
        said("experiment --id E2 --model logistic --trials 1")
        said("evaluate")
        said("promote --override small --reason", "first of all")
        for day in DAYS:
            campaign(day)
        yield Lake("lake")
    settings.cache_clear()


def test_the_loop_closes(lake: Lake) -> None:
    before = lake.current("recommendations").pandas()
    assert not {*EFFECT} & {*before}
    told = said("uplift --trials 3")
    assert "held-out rows of 2 campaigns" in told
    assert said("uplift --trials 3") == told  # the version that there is
    with of_offers():
        assert [v.number for v in registry.versions()] == ["1"]
        passed = registry.resolve("1").verdict.passed
    way = [] if passed else ["--override", "to see it at work"]
    said("promote --offers --reason", "learned", *way)
    said("score")

    made = lake.current("recommendations")
    assert made.manifest.built_from["spanishgas-churn-offers"] == "1"
    rows = made.pandas()
    page = runs.content(made.manifest.run_id or "", "campaign.html").decode()
    assert all(
        words in page for words in ("learned effects", "risk rule", "everyone", "data:image/png;base64,")
    )
    offered = rows["action"].ne("no_offer")
    assert rows["expected_effect"][offered].notna().all()
    assert (rows["effect_low"][offered] <= rows["effect_high"][offered]).all()
    assert rows["better_left_alone"].notna().all()
    log = lake.current("treatments").pandas()
    chances = log.filter(like="propensity_").sum(axis=1)
    assert chances.to_numpy() == pytest.approx(1.0)  # the next campaign can be learned from as well
    assert "spanishgas-churn-offers" in json.dumps(made.manifest.model_dump(mode="json"))
    # versions that were let in by hand are faults of a lineage
    assert "offers of 2 campaigns" in said(f"lineage {made.uri}", code=1)
    assert "is reproduced to the last digit" in said("reproduce 1 --offers")
    assert "promoted" in said("history --offers")


def test_a_campaign_by_learned_effects_is_learned_from_and_rolled_back(lake: Lake) -> None:
    campaign("2025-03-31")
    assert "held-out rows of 3 campaigns" in said("uplift --trials 3")
    told = said("rollback --offers --reason", "complaints")
    assert "champion: none, the risk rule decides" in told
    assert promotion.scorable_offers() is None
    assert registry.champion() is not None  # of the churn model nothing moved
    said("score")
    assert not {*EFFECT} & {*lake.current("recommendations", date(2025, 3, 31)).manifest.columns}
    again = said("rollback --offers --reason", "complaints")
    assert "champion: none" in again  # run again, it makes no second move

"""A tracking store as the stages leave it, without the work: runs with their tags, metrics and artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.evaluation.charts import ladder_chart
from spanishgas.evaluation.selection import Rung, choose, ladder_table
from spanishgas.lifecycle import history, overview, registry, runs
from spanishgas.lifecycle.history import How, Move, MoveState
from spanishgas.lifecycle.registry import Alias
from spanishgas.settings import settings
from tests.versions import add_version

FAILURE = "the file was cut short"


def filled(root: Path, lake: Path | None = None) -> None:
    """One run or more of each stage that pages ask for, a champion with its verdict, and its history."""
    etl(lake or root / "lake")
    for number, name in enumerate(("E4", "E5")):
        experiment(name, 0.70 + number / 10)
    ladder(lake or root / "lake")
    champion()
    drift(root, 0.1, "2024-12-31")
    drift(root, 0.6, "2025-03-31")


def etl(lake: Path) -> None:
    """A finished build with its report, a failed one after it, and then one of another lake."""
    here, elsewhere = ({runs.LAKE: str(place)} for place in (lake, lake.parent / "other"))
    with runs.stage("etl", "etl as of 2024-12-31", tags=here) as run:
        run.text("# Data quality\n\n| raw table | rows in |\n|---|---|\n| churn_label | 40 |\n", "quality.md")
    with pytest.raises(OSError, match=FAILURE), runs.stage("etl", "etl as of 2025-03-31", tags=here):
        raise OSError(FAILURE)
    with runs.stage("etl", "etl as of 2020-01-31", tags=elsewhere):
        pass


def experiment(name: str, score: float) -> None:
    """A finished rung, one trial of it, and an older run on another table, which is no longer compared."""
    name_of = {"experiment": name, "model": "xgboost"}
    with runs.stage("experiment", f"{name} before", tags={**name_of, "gold": "old"}, params={"features": 1}):
        pass
    with runs.stage("experiment", name, tags={**name_of, "gold": "new"}, params={"features": 50}) as run:
        ends = {".low": score - 0.05, "": score, ".high": score + 0.05}
        run.log(metrics={f"cv.average_precision{end}": value for end, value in ends.items()})
        with runs.stage("trial", "a trial"):
            pass


def ladder(lake: Path) -> None:
    """A ladder of both rungs, as the selection rule compared them."""
    rungs = [Rung(name, "xgboost", name, 50, (0.7, 0.8, score)) for name, score in (("E4", 0.7), ("E5", 0.9))]
    compared = choose(rungs)
    with runs.stage("ladder", "ladder E4 to E5", tags={runs.LAKE: str(lake)}) as run:
        run.tables({"ladder_table.json": ladder_table(compared)})
        run.figure(ladder_chart(compared), "ladder.png")


def champion() -> None:
    """A champion whose run holds curves and slices."""
    MlflowClient().create_registered_model(settings().registered_model)
    number = add_version(0.75)
    registry.point(Alias.CHAMPION, number)
    run = runs.StageRun(registry.resolve(Alias.CHAMPION).run_id or "", "")
    figure, _ = plt.subplots()
    client = MlflowClient()
    client.log_figure(run.run_id, figure, "holdout.png")
    plt.close(figure)
    slices = {"columns": ["dimension", "value", "verdict"], "data": [["segment", "SME", "ranks worse"]]}
    client.log_text(run.run_id, json.dumps(slices), "slices.json")
    ends = {".low": 0.688, "": 0.75, ".high": 0.828}
    measured = {f"holdout.average_precision{end}": value for end, value in ends.items()}
    run.log(metrics=measured, tags={"stage": "evaluate"})
    move = Move(
        number=1,
        how=How.PROMOTED,
        version=number,
        replaced=None,
        reason="passed",
        by="tester",
        at=history.now(),
    )
    history.write(move.model_copy(update={"state": MoveState.DONE}))
    overview.refresh()


def drift(root: Path, share: float, as_of: str) -> None:
    """A drift report; beyond half of the inputs it is an alarm."""
    page = root / "drift-inputs.html"
    page.write_text(f"<p>Evidently on {share}</p>")
    with runs.stage("drift", f"drift of {share}", tags={"version": "1", "as_of": as_of}) as run:
        metrics = {"drift.share": share, "prediction_drift": share / 2}
        metrics |= {"drift.statistic": 10 * share, "drift.threshold": 5.0}
        run.log(metrics={**metrics, "drift.feature.margin": share, "drift.feature.tenure": 0.01})
        run.log(tags={"alarm": "yes" if share > 0.5 else "no"})
        run.file(page)
    assert mlflow.active_run() is None

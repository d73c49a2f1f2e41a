"""The verbs that train, judge and report, killed at their writes: run again, they end where they end undisturbed.

A search is long and made of like steps, so of its kill points every few are walked, and all of the shorter verbs'.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.lake import Lake
from spanishgas.lifecycle import evaluation, promotion, registry, retention
from spanishgas.lifecycle.experiments import experiment_inputs, run_experiment
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from spanishgas.monitoring.drift import drift
from spanishgas.scoring import score as scoring
from spanishgas.settings import settings
from tests.cheap_experiments import cheap_search, lenient, two_rungs
from tests.gold_frames import gold_frame, publish_gold
from tests.integration.test_kill_points import InProcess, Place, dead_process, killed_after, lies, void
from tests.tracked import forget, own_model, own_store
from tests.versions import add_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
CUSTOMERS, TRIALS, SEED = 400, 2, 7


def labelled() -> pd.DataFrame:
    """Customers who leave for one plain reason: the sentiment of their contact."""
    frame = gold_frame(CUSTOMERS)
    chance = np.where(frame["sentiment_label"] == "negative", 0.95, 0.03)
    frame["churn"] = pd.array(np.random.default_rng(1).random(CUSTOMERS) < chance, dtype="Int64")
    return frame


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A lake with a labelled and a later gold table, and nothing tracked yet."""
    root = tmp_path_factory.mktemp("kills")
    with own_store(root) as patch, own_model("kills-of-training"):
        patch.setattr(scoring, "LocalTransform", InProcess)
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(two_rungs(lenient(cheap_search(root / "experiments")))))
        # Searches where they are set back with all else.
        (root / "raw").mkdir()
        patch.setenv("SPANISHGAS_STUDY_STORAGE", f"sqlite:///{root}/raw/optuna.db")
        forget()
        it = Place(root, root.parent / f"{root.name}-kept")
        publish_gold(it.lake, labelled(), DAY)
        publish_gold(it.lake, gold_frame(CUSTOMERS, seed=2, labelled=False), LATER)
        it.keep()
        yield it
    forget()


def experiment(name: str, lake: Lake) -> str:
    inputs = experiment_inputs(name, "logistic", trials=TRIALS, lake=lake, seed=SEED)
    return run_experiment(inputs, reuse=True)


def ladder(lake: Lake) -> object:
    return run_ladder(ladder_inputs(["E0", "E5"], ["logistic"], trials=1, lake=lake, seed=SEED))


def judged(lake: Lake) -> None:
    experiment("E5", lake)


def scored(lake: Lake) -> None:
    judged(lake)
    evaluation.evaluate(None, lake=lake)
    promotion.promote("challenger", "first")
    scoring.score("champion", lake=lake)


def unreferenced(lake: Lake) -> None:
    """Two tables that newer ones have replaced, and a version that was trained on neither."""
    add_version()
    for seed in (3, 4):
        publish_gold(lake, gold_frame(CUSTOMERS, seed=seed, labelled=False), LATER)


def prune(lake: Lake) -> None:
    retention.left_over(lake, dry=False)
    for snapshot in retention.prunable(lake, keep=1, days=0):
        lake.remove(snapshot)


def nothing(lake: Lake) -> None:
    """The template is what the verb begins with."""


@dataclass(frozen=True)
class Verb:
    """What happens before, what is killed, and of how many kill points one is walked."""

    before: Callable[[Lake], None]
    act: Callable[[Lake], object]
    fewest: int
    stride: int = 1


VERBS = {
    "experiment": Verb(nothing, lambda lake: experiment("E5", lake), 30, 3),
    "ladder": Verb(nothing, ladder, 40, 5),
    "evaluate": Verb(judged, lambda lake: evaluation.evaluate(None, lake=lake), 20, 2),
    "drift": Verb(scored, lambda lake: drift(None, lake=lake), 8, 4),
    "prune": Verb(unreferenced, prune, 2),
}


def told(run: Run) -> str:
    """What a finished run says, without times, ids, processes and keys of code."""
    numbers = {k: round(v, 9) for k, v in run.data.metrics.items() if "seconds" not in k}
    names = {k: run.data.tags.get(k) for k in ("stage", "experiment", "model", "study", "version", "gate")}
    params = {k: v for k, v in run.data.params.items() if not k.startswith("resolved")}
    params.pop("of_run", None)
    return json.dumps([names, params, numbers], sort_keys=True)


def state(place: Place) -> dict[str, object]:
    """Finished runs, versions and aliases by what they say; what is open; the lake's bytes."""
    client, name = MlflowClient(), settings().registered_model
    everywhere = [one.experiment_id for one in client.search_experiments()]
    runs = list(client.search_runs(everywhere, "", max_results=5000))
    models = client.search_registered_models(f"name = '{name}'")
    finished = Counter(told(run) for run in runs if run.info.status == "FINISHED")
    return {
        # A child that was finished before its parent was killed is there beside the one of the next run.
        "finished runs": set(finished),
        "parents": {text: n for text, n in finished.items() if json.loads(text)[0]["stage"] != "trial"},
        "open": [run.info.run_name for run in runs if run.info.status == "RUNNING"],
        "aliases": registry.aliases() if models else {},
        "versions": {v.number: v.tags.get("gate") for v in registry.versions()} if models else {},
        "tags": sorted(key for model in models for key, value in model.tags.items() if not void(key, value)),
        "lake": lies(place.root / "lake"),
    }


# The thread of a search's heartbeat dies with its process, by a write that raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_killed_at_its_writes_and_run_again_ends_where_it_ends_undisturbed(
    place: Place, verb: str
) -> None:
    it, process = VERBS[verb], dead_process()
    place.restore()
    it.before(place.lake)
    begins = Place(place.root, place.kept.parent / f"{place.kept.name}-{verb}")
    begins.keep()
    whole = killed_after(10**6, lambda: it.act(place.lake), provenance.process())
    wanted = state(place)
    assert whole.written >= it.fewest
    points = [*range(0, whole.written, it.stride), whole.written]
    for writes in points:
        begins.restore()
        disk = killed_after(writes, lambda: it.act(place.lake), process)
        # A search writes as often as time lets it, MLflow a batch in one commit or two.
        assert disk.dead or writes > 0.9 * whole.written
        it.act(place.lake)
        after = state(place)
        differing = {key: (after[key], wanted[key]) for key in wanted if after[key] != wanted[key]}
        assert not differing, f"{verb}, killed after {writes} of {whole.written} writes"
    assert mlflow.active_run() is None
    print(f"{verb}: {len(points)} of {whole.written + 1} kill points")

"""A study on a real database: killed, shared and continued, with the result of one that was left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from spanishgas import provenance
from spanishgas.config.search import XGBOOST
from spanishgas.errors import UsageError
from spanishgas.training import study as studies
from spanishgas.training.search import SearchResult, StudyOptions, Trial, search
from tests.unit.test_training import SPACE, training_of

TOTAL = 6
SEARCH = """
import sys, time
import tests.unit.test_study as here
from spanishgas.training import search as module
scored = module._score
def slowly(*words):
    time.sleep(float(sys.argv[2]))  # long enough to be killed within
    return scored(*words)
module._score = slowly
here.searched(sys.argv[1])
"""


def searched(url: str | None, **shared: int) -> SearchResult:
    return search(training_of(XGBOOST, 150), SPACE, TOTAL, shared=StudyOptions(url, "s", "me", **shared))


def result(chosen: SearchResult) -> object:
    trials = [(t.number, t.params, t.scores, t.pruned) for t in chosen.trials]
    return trials, chosen.best.number, chosen.fold_scores, chosen.margins.tolist()


def begun(url: str, pause: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SEARCH, url, str(pause)], cwd=Path(__file__).parents[2])


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture(scope="module")
def undisturbed() -> object:
    return result(searched(None))


def states(url: str) -> list[TrialState]:
    return [t.state for t in studies.open_study(url, "s", 1, []).get_trials()]


def wait_for(url: str, count: int, *wanted: TrialState) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if path.exists() and sum(s in wanted for s in states(url)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"never {count} trials {wanted}: {states(url)}")


@pytest.fixture
def killed(url: str) -> str:
    """The database of a search that was killed with a trial running."""
    process = begun(url, 0.6)
    try:
        wait_for(url, 2, *studies.ENDED)
        wait_for(url, 1, TrialState.RUNNING)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return url


@pytest.mark.slow
def test_a_killed_search_continues_to_the_result_of_an_undisturbed_one(
    killed: str, undisturbed: object
) -> None:
    assert TrialState.RUNNING in states(killed)
    assert result(searched(killed)) == undisturbed
    after = states(killed)
    assert len([s for s in after if s in studies.ENDED]) == TOTAL
    assert TrialState.RUNNING not in after


def test_a_finished_search_tries_nothing_more_and_finds_the_same(url: str, undisturbed: object) -> None:
    first = searched(url)
    count = len(states(url))
    assert result(searched(url)) == result(first) == undisturbed
    assert len(states(url)) == count


@pytest.mark.slow  # two commands on PostgreSQL share one in tests/integration
def test_two_searches_at_once_share_one_total(url: str) -> None:
    both = [begun(url, 0.1) for _ in range(2)]
    assert [p.wait(timeout=120) for p in both] == [0, 0]
    ended = [t for t in studies.open_study(url, "s", 1, []).get_trials() if t.state in studies.ENDED]
    assert len(ended) == TOTAL
    assert len({t.user_attrs[studies.WORKER] for t in ended}) == 2


def test_workers_share_one_total_and_each_trial_is_heard_once(url: str) -> None:
    heard: list[Trial] = []
    training = training_of(XGBOOST, 150)
    chosen = search(training, SPACE, TOTAL, heard.append, StudyOptions(url, "s", "me", workers=2))
    assert sorted(t.key for t in heard) == sorted(t.key for t in chosen.trials)
    assert len(heard) == TOTAL
    assert states(url).count(TrialState.RUNNING) == 0


def trial_of(url: str, **attrs: object) -> optuna.Study:
    study = studies.open_study(url, "s", 1, [])
    study.add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=attrs))
    return study


def number_of_nobody() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_dead_processs_trial_is_queued_again_with_its_rank(url: str) -> None:
    host = provenance.process().rpartition(":")[0]
    study = trial_of(url, worker=f"{host}:{number_of_nobody()}", rank=4)
    studies.reclaim(study)
    failed, queued = study.get_trials()
    assert (failed.state, queued.state) == (TrialState.FAIL, TrialState.WAITING)
    assert queued.user_attrs == {studies.RANK: 4}


@pytest.mark.parametrize("worker", [provenance.process(), "elsewhere:1"], ids=["here", "elsewhere"])
def test_a_trial_of_a_living_process_or_another_machine_is_left_alone(url: str, worker: str) -> None:
    study = trial_of(url, worker=worker, rank=0)
    studies.reclaim(study)
    assert [t.state for t in study.get_trials()] == [TrialState.RUNNING]


def test_a_trial_that_was_killed_before_it_had_a_name_is_failed_after_a_while(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = trial_of(url)
    assert studies.reclaim(study)
    assert [t.state for t in study.get_trials()] == [TrialState.RUNNING]
    monkeypatch.setattr(studies, "NAMELESS_SECONDS", -1)
    studies.reclaim(study)
    assert [t.state for t in study.get_trials()] == [TrialState.FAIL]
    assert not studies.reclaim(study)


def quadratic(trial: optuna.Trial) -> float:
    return -((trial.suggest_float("x", -1, 1) - 0.3) ** 2)


def tried(seed: int, total: int, starts: Sequence[dict[str, float]] = ()) -> list[float]:
    study = studies.open_study(None, "s", seed, starts)
    studies.work(study, quadratic, total)
    return [t.params["x"] for t in study.get_trials()]


def test_draws_follow_from_the_seed_and_another_seed_draws_others() -> None:
    assert tried(1, 15) == tried(1, 15)
    assert not set(tried(1, 15)) & set(tried(2, 15))
    assert len(set(tried(1, 15))) == 15


def test_the_first_ranks_take_the_given_starts() -> None:
    assert tried(1, 3, [{"x": 0.5}, {"x": -0.25}])[:2] == [0.5, -0.25]


def test_patience_ends_a_search_that_brings_nothing_better() -> None:
    study = studies.open_study(None, "s", 1, [{"x": 0.3}])
    studies.work(study, quadratic, 30, patience=4)
    assert len(study.get_trials()) == 5


def test_a_fault_in_a_trial_is_raised_and_not_tried_for_ever() -> None:
    def broken(trial: optuna.Trial) -> float:
        raise ValueError("no such depth")

    with pytest.raises(ValueError, match="no such depth"):
        studies.work(studies.open_study(None, "s", 1, []), broken, 3)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.db"])
def test_a_storage_that_cannot_be_opened_is_named_with_the_way_out(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "POLL_SECONDS", 0)
    with pytest.raises(UsageError, match=r"study storage .* cannot be opened .*SPANISHGAS_STUDY_STORAGE"):
        studies.open_study(url, "s", 1, [])


def test_a_password_in_the_storages_url_is_not_shown() -> None:
    shown = str(studies._cannot_open("postgresql://me:secret@host/db", OSError("refused")))
    assert "secret" not in shown
    assert "me:***@host" in shown


def test_what_fails_in_one_of_several_workers_ends_the_search_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> float:
        raise ValueError("no such column")

    monkeypatch.setattr("spanishgas.training.search._score", broken)
    with pytest.raises(ValueError, match="no such column"):
        searched(None, workers=2)
    with pytest.raises(UsageError, match="workers must be at least 1, but got 0"):
        StudyOptions(None, workers=0)


def test_a_patience_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="patience must be at least 1, but got 0"):
        StudyOptions(patience=0)


def test_a_process_is_gone_only_once_it_has_ended() -> None:
    assert not provenance.is_gone(provenance.process())
    assert provenance.is_gone(f"{provenance.process().rpartition(':')[0]}:{number_of_nobody()}")
    assert not provenance.is_gone(f"elsewhere:{os.getpid()}")
    assert not provenance.is_gone("")


def test_a_trial_below_the_median_on_the_same_folds_is_pruned_though_its_first_fold_was_lucky() -> None:
    study = studies.open_study(None, "s", 1, [])

    def pruned_at(*means: float) -> int | None:
        trial = study.ask()
        for step, mean in enumerate(means):
            trial.report(mean, step)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                return step
        study.tell(trial, means[-1])
        return None

    assert pruned_at(0.5, 0.3, 0.4) is None  # nothing to be held against
    assert pruned_at(0.2, 0.6, 0.6) is None  # one fold is too few to judge by
    assert pruned_at(0.9, 0.44, 0.7) == 1  # the others' median there is 0.45
    assert pruned_at(0.1, 0.46, 0.45) == 2  # and 0.5 here

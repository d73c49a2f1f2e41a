"""Moving the champion on a real tracking store: rules, lock, kills between any two calls, and moves made elsewhere."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, UNAUTHENTICATED
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from spanishgas import pipeline, provenance
from spanishgas.cli import app
from spanishgas.config.policy import Policy, Promotion, load_policy
from spanishgas.errors import TrackingError, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import history, lineage, promotion, promotion_lock, registry, runs
from spanishgas.lifecycle.history import How, MoveState
from spanishgas.lifecycle.promotion import scorable
from spanishgas.lifecycle.version import DIGEST, OVERRIDE, ROLLED_BACK, WORDS
from spanishgas.settings import of_offers, settings
from tests.tracked import own_model, own_store
from tests.versions import add_version, logged_version

DAY = date(2024, 12, 31)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("store")
    with own_store(root):
        yield root


@pytest.fixture
def model(store: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    with own_model(request.node.name) as name:
        yield name


def chain() -> list[tuple[str, str | None, str | None]]:
    """What the history says: how, to which version, from which."""
    return [(m.how, m.version, m.replaced) for m in history.read().done]


def point_by_hand(model: str, version: str) -> None:
    """What the UI does: nothing of it goes through this project."""
    MlflowClient().set_registered_model_alias(model, "champion", version)


# Promotion


def test_a_version_is_added_without_a_word_of_mlflows(
    model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "spanishgas")
    for number in ("1", "2"):
        (tmp_path / "weights").write_text(number)
        assert logged_version(tmp_path) == number
    assert model not in capfd.readouterr().err
    assert f"'{model}' already exists" in caplog.text


def test_what_is_missing_of_either_model_names_the_verb_that_makes_it(model: str) -> None:
    verbs = {False: ("evaluate", "promote"), True: ("uplift", "promote --offers")}
    for offers, (judge, promote) in verbs.items():
        with of_offers(offers):
            for which, verb in (("challenger", judge), ("champion", promote)):
                with pytest.raises(TrackingError, match=f"run `spanishgas {verb}` first"):
                    registry.resolve(which)


def test_a_promotion_moves_champion_keeps_the_previous_and_says_who_when_why_from_what_and_by_which_verdict(
    model: str,
) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    promotion.promote(second, "better")
    assert registry.aliases() == {"champion": second, "previous": first}
    move = history.read().moves[-1]
    tags = registry.resolve(second).tags
    assert (move.version, move.replaced, move.reason, move.by) == (second, first, "better", promotion.who())
    assert move.verdict == tags[DIGEST]
    assert move.at.endswith("+00:00")
    assert (tags["champion.reason"], tags["champion.replaced"]) == ("better", first)
    run = MlflowClient().get_run(str(move.run_id))
    assert (run.data.tags["stage"], run.data.params["version"]) == ("promote", second)


def test_a_refused_version_is_not_promoted_and_the_message_holds_the_verdict_and_the_way_out(
    model: str,
) -> None:
    version = add_version(0.65)
    with pytest.raises(TrackingError, match=r"is 0\.650, the limit is at least 0\.70.*--override"):
        promotion.promote(version, "please")
    assert registry.aliases() == {}
    assert history.read().moves == []


def test_a_version_without_a_verdict_is_not_promoted(model: str) -> None:
    version = MlflowClient().create_model_version(model, "nowhere").version
    with pytest.raises(TrackingError, match="missing"):
        promotion.promote(str(version), "please")


@pytest.mark.parametrize("code", [UNAUTHENTICATED, INTERNAL_ERROR])
def test_a_server_that_refuses_is_not_taken_for_one_without_the_version(
    model: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise MlflowException("said the server", error_code=code)

    add_version()
    for name in ("get_model_version", "get_model_version_by_alias"):
        monkeypatch.setattr(MlflowClient, name, refuse)
    for which in ("1", "champion"):
        with pytest.raises(MlflowException, match="said the server"):
            registry.resolve(which)


@pytest.mark.parametrize("forged", [{"gate": "passed"}, {"gate": "passed", DIGEST: "0" * 32}])
def test_a_passed_tag_without_its_verdict_is_not_believed(model: str, forged: dict[str, str]) -> None:
    version = add_version(0.65)
    for key, value in forged.items():
        MlflowClient().set_model_version_tag(model, version, key, value)
    if DIGEST not in forged:
        MlflowClient().delete_model_version_tag(model, version, DIGEST)
    with pytest.raises(TrackingError, match="has another digest"):
        promotion.promote(version, "please")


def test_an_override_lets_a_refused_version_pass_and_is_shown_from_then_on(model: str) -> None:
    version = add_version(0.65)
    promotion.promote(version, "no other", override="the board knows")
    assert registry.aliases()["champion"] == version
    assert "the board knows" in registry.resolve(version).tags[OVERRIDE]
    assert "[override: the board knows]" in history.as_markdown(history.read())
    assert scorable("champion").number == version


def test_an_override_that_was_not_needed_is_not_recorded(model: str) -> None:
    version = add_version()
    promotion.promote(version, "good", override="just in case")
    assert history.read().moves[-1].override is None
    assert OVERRIDE not in registry.resolve(version).tags


def test_promoting_the_champion_again_changes_nothing(model: str) -> None:
    version = add_version()
    promotion.promote(version, "first")
    before = history.read()
    promotion.promote(version, "again")
    assert history.read() == before


def test_a_reason_of_blanks_is_refused(model: str) -> None:
    with pytest.raises(UsageError, match="--reason"):
        promotion.promote(add_version(), "  ")


def asks_for(approvers: list[str]) -> Callable[[], Policy]:
    policy = load_policy().model_copy(update={"promotion": Promotion(approvers=approvers)})
    return lambda: policy


def test_where_the_policy_names_approvers_one_of_them_must_have_approved_of_this_very_verdict(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add_version()
    monkeypatch.setattr(promotion, "load_policy", asks_for(["ana", "luis"]))
    with pytest.raises(TrackingError, match=r"approval of one of ana, luis.*spanishgas approve"):
        promotion.promote(version, "good")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eva")
    with pytest.raises(TrackingError, match="eva is no approver"):
        promotion.approve(version, "I wish")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    promotion.approve(version, "seen")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eva")
    promotion.promote(version, "good")
    assert (history.read().moves[-1].approved_by, history.read().moves[-1].by) == ("ana", "eva")

    other = add_version(0.8)
    stale = history.read().approvals(version, registry.resolve(version).digest)[0]
    MlflowClient().set_model_version_tag(model, other, "approved", stale.model_dump_json())
    with pytest.raises(TrackingError, match="there is none for its verdict"):
        promotion.promote(other, "good")


def test_the_command_approves_and_says_of_what_and_by_whom(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = add_version()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ana")
    done = CliRunner().invoke(app, ["approve", version, "--reason", "seen"])
    assert (done.exit_code, done.stdout) == (0, f"approved: version {version}, by ana\n")
    (given,) = history.read().moves
    assert (given.how, given.version, given.by, given.reason) == (How.APPROVED, version, "ana", "seen")
    assert given.verdict == registry.resolve(version).tags[DIGEST]
    assert history.read().champion is None


# What a machine may promote


def test_a_machine_promotes_what_passed(model: str) -> None:
    version = add_version()
    pipeline.promote_if_passed(registry.resolve(version), "passed")
    assert registry.aliases() == {"champion": version}


@pytest.mark.parametrize(
    ("value", "policy", "regretted"),
    [
        (0.65, Promotion(), False),
        (0.75, Promotion(approvers=["ana"]), False),
        (0.75, Promotion(), True),
    ],
    ids=["refused", "needs approval", "rolled back"],
)
def test_a_machine_never_touches_the_champion_where_gate_or_policy_refuse(
    model: str, value: float, policy: Promotion, regretted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, version = add_version(), add_version(value)
    promotion.promote(champion, "first")
    if regretted:
        promotion.promote(version, "better")
        promotion.rollback("it was bad")
    before = history.read()
    changed = load_policy().model_copy(update={"promotion": policy})
    monkeypatch.setattr(pipeline, "load_policy", lambda: changed)
    pipeline.promote_if_passed(registry.resolve(version), "retrained")
    assert history.read() == before


# Rollback


def test_a_rollback_goes_to_the_champion_before_and_marks_the_bad_version(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    promotion.promote(second, "better")
    promotion.rollback("worse after all")
    assert registry.aliases() == {"champion": first}
    assert registry.resolve(second).tags[ROLLED_BACK] == "worse after all"
    assert registry.resolve(first).tags["champion.how"] == "rolled back"


def test_a_second_rollback_goes_one_further_back_not_to_the_bad_version(model: str) -> None:
    first, second, third = (add_version() for _ in range(3))
    for version in (first, second, third):
        promotion.promote(version, "next")
    promotion.rollback("bad")
    assert registry.aliases() == {"champion": second, "previous": first}
    promotion.rollback("bad too")
    assert registry.aliases() == {"champion": first}
    with pytest.raises(TrackingError, match="no previous champion"):
        promotion.rollback("and now?")


def test_a_rollback_asked_for_twice_for_one_reason_is_made_once(model: str) -> None:
    first, second, third = (add_version() for _ in range(3))
    for version in (first, second, third):
        promotion.promote(version, "next")
    made = promotion.rollback("worse")
    assert promotion.rollback("worse").number == made.number
    assert registry.aliases() == {"champion": second, "previous": first}
    assert chain()[-1] == (How.ROLLED_BACK, second, third)


def test_a_rollback_follows_the_record_and_not_the_alias_previous(model: str) -> None:
    first, second, stranger = (add_version() for _ in range(3))
    promotion.promote(first, "first")
    promotion.promote(second, "better")
    MlflowClient().set_registered_model_alias(model, "previous", stranger)
    assert promotion.rollback("worse").version == first


def test_a_rollback_passes_over_a_version_that_was_deleted(model: str) -> None:
    first, second, third = (add_version() for _ in range(3))
    for version in (first, second, third):
        promotion.promote(version, "next")
    MlflowClient().delete_model_version(model, second)
    assert promotion.rollback("worse").version == first


def test_a_rollback_without_a_previous_champion_says_so(model: str) -> None:
    promotion.promote(add_version(), "first")
    with pytest.raises(TrackingError, match="no previous champion"):
        promotion.rollback("why not")


def test_a_version_that_was_rolled_back_needs_an_override_each_time(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    for _ in range(2):
        promotion.promote(second, "again", override="mended upstream")
        promotion.rollback("still bad")
        with pytest.raises(TrackingError, match=r"was rolled back \(still bad\)"):
            promotion.promote(second, "again")
    assert registry.aliases()["champion"] == first


def test_the_snapshots_of_a_version_are_its_scores_and_what_was_made_of_them(
    model: str, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "lake")
    digests = {}
    for version in ("1", "2"):
        made = publish(lake, "scores", {model: version, "gold_master": "g"}, float(version))
        publish(lake, "recommendations", {"scores": made}, float(version))
        digests[version] = made
    found = lineage.produced("1", lake)
    expected = {"scores": False, "recommendations": False}
    assert {s.manifest.table: current for s, current in found} == expected
    assert digests["1"] in {s.manifest.digest for s, _ in found}


def publish(lake: Lake, table: str, built_from: dict[str, str], value: float) -> str:
    import pandas as pd

    frame = pd.DataFrame({"customer_id": ["a"], "value": [value]})
    snapshot = lake.publish(
        table,
        DAY,
        lambda folder: frame.to_parquet(folder / "part-0.parquet", index=False),
        built_from=built_from,
        fingerprint=f"{table} {value}",
        code={},
    )
    return snapshot.manifest.digest


# Moves made elsewhere


def test_a_champion_set_in_the_ui_without_a_verdict_is_not_scored_with(model: str) -> None:
    good, bad = add_version(), add_version(0.6)
    promotion.promote(good, "first")
    point_by_hand(model, bad)
    with pytest.raises(
        TrackingError, match=r"0\.600, the limit is at least 0\.70.*rollback --reason.*--override"
    ):
        scorable("champion")
    assert chain()[-1] == (How.ELSEWHERE, bad, good)
    promotion.rollback("nobody judged it")
    assert scorable("champion").number == good


def test_a_good_champion_set_in_the_ui_is_recorded_once_and_scored_with(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    point_by_hand(model, second)
    for _ in range(3):
        assert scorable("champion").number == second
    assert chain() == [(How.PROMOTED, first, None), (How.ELSEWHERE, second, first)]
    assert registry.aliases() == {"champion": second, "previous": first}


def test_a_foreign_move_between_two_promotions_stands_in_the_history_between_them(model: str) -> None:
    first, foreign, second = (add_version() for _ in range(3))
    promotion.promote(first, "first")
    point_by_hand(model, foreign)
    promotion.promote(second, "better")
    expected = [
        (How.PROMOTED, first, None),
        (How.ELSEWHERE, foreign, first),
        (How.PROMOTED, second, foreign),
    ]
    assert chain() == expected


def test_an_alias_that_was_taken_away_is_recorded_and_a_promotion_brings_it_back(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    MlflowClient().delete_registered_model_alias(model, "champion")
    assert promotion.seen().champion is None
    promotion.promote(second, "next")
    assert chain() == [
        (How.PROMOTED, first, None),
        (How.ELSEWHERE, None, first),
        (How.PROMOTED, second, None),
    ]


def test_the_history_shows_a_move_that_nobody_has_written_down_and_writes_nothing(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    point_by_hand(model, second)
    shown = json.loads(history.as_json(history.read()))
    assert [(m["version"], m["how"]) for m in shown] == [(first, "promoted"), (second, "moved elsewhere")]
    assert "moved elsewhere (begun)" in history.as_markdown(history.read())
    assert len(history.read().moves) == 1


# The lock


@pytest.mark.slow
def test_twenty_promotions_at_once_leave_one_champion_and_a_whole_history(model: str) -> None:
    versions = [add_version() for _ in range(20)]
    faults: list[BaseException] = []

    def work(version: str) -> None:
        try:
            promotion.promote(version, f"of {version}")
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    record = history.read()
    assert [m.number for m in record.done] == list(range(1, 21))
    assert {m.version for m in record.done} == set(versions)
    assert [m.replaced for m in record.done] == [None, *(m.version for m in record.done[:-1])]
    assert record.champion == record.done[-1].version
    assert record.aliases["previous"] == record.done[-2].version
    assert promotion_lock.claims(model) == []


def dead_process() -> str:
    """A process of this machine that is no more."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return f"{provenance.process().rpartition(':')[0]}:{ended.pid}"


def test_a_claim_of_a_dead_process_is_void_at_once(model: str) -> None:
    MlflowClient().set_registered_model_tag(model, "turn.left", f"1 {dead_process()}")
    promotion.promote(add_version(), "first")
    assert promotion_lock.claims(model) == []


def test_a_claim_of_another_machine_is_waited_for_and_void_after_the_lease(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MlflowClient().set_registered_model_tag(model, "turn.left", "1 elsewhere:17")
    monkeypatch.setattr(promotion_lock, "PATIENCE_SECONDS", 0.5)
    with pytest.raises(TrackingError, match=r"busy with a promotion of elsewhere:17"):
        promotion.promote(add_version(), "first")
    monkeypatch.setattr(promotion_lock, "LEASE_SECONDS", 0.2)
    monkeypatch.setattr(promotion_lock, "PATIENCE_SECONDS", 60)
    promotion.promote(add_version(), "first")
    assert promotion_lock.claims(model) == []


def test_who_overslept_the_lease_changes_nothing(model: str) -> None:
    with promotion_lock.promotion_lock(model) as lock:
        MlflowClient().delete_registered_model_tag(model, lock.key)
        with pytest.raises(TrackingError, match="nothing was changed: run it again"):
            lock.check()


def test_two_that_open_the_holdout_at_once_count_twice(model: str) -> None:
    at_once = threading.Barrier(3)

    def count(_: int) -> int:
        at_once.wait()
        return registry.count_opening()

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(count, range(3))) == [1, 2, 3]


# Kills


class Killed(BaseException):
    """The process is no more: nothing that it would still do reaches the store."""


WRITES = (
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "delete_model_version_tag",
    "set_terminated",
    "set_tag",
    "log_batch",
    "create_run",
)


def killed_after(writes: int, act: Callable[[], object]) -> bool:
    """Run `act` in a process that dies after so many writes to the store; whether it died."""
    left, dead = writes, dead_process()

    def limited(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            nonlocal left
            if left <= 0:
                raise Killed
            left -= 1
            return real(*args, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "process", lambda: dead)
        for name in WRITES:
            patch.setattr(MlflowClient, name, limited(getattr(MlflowClient, name)))
        try:
            act()
        except Killed:
            return True
        finally:
            mlflow.tracking.fluent._active_run_stack.get().clear()
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        "promote",
        "override",
        "rollback",
    ],
)
def test_killed_between_any_two_calls_the_next_command_completes_it_or_nothing_had_begun(
    model: str, verb: str
) -> None:
    first, second = add_version(), add_version(0.65 if verb == "override" else 0.75)
    acts: dict[str, Callable[[], object]] = {
        "promote": lambda: promotion.promote(second, "better"),
        "override": lambda: promotion.promote(second, "better", override="known"),
        "rollback": lambda: promotion.rollback("worse"),
    }
    completed = untouched = 0
    for writes in range(100):
        promotion.promote(first, "before", override="tried before")
        if verb == "rollback":
            promotion.promote(second, "to be regretted", override="tried before")
        before = history.read()
        if not killed_after(writes, acts[verb]):
            break
        begun = history.read().pending is not None or len(history.read().done) > len(before.done)
        record = promotion.seen()
        wanted = before.champion if not begun else (first if verb == "rollback" else second)
        assert record.settled
        assert record.champion == wanted
        assert len(record.done) == len(before.done) + begun
        completed, untouched = completed + begun, untouched + (not begun)
        if begun:
            assert registry.resolve(str(wanted)).tags["champion.at"] == record.done[-1].at
            assert (
                record.aliases.get("previous") == (second if wanted == first else first) or verb == "rollback"
            )
            assert (ROLLED_BACK in registry.resolve(second).tags) == (verb == "rollback")
            assert (OVERRIDE in registry.resolve(second).tags) == (verb == "override")
            scorable("champion")
    else:
        pytest.fail("it never came to its end")
    assert completed >= 8
    assert untouched >= 2


def cut_short(act: Callable[[], object]) -> None:
    """Run `act` and stop it when the move is written down and nothing is moved."""

    def die(move: history.Move) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "complete", die)
        with pytest.raises(Killed):
            act()


def test_a_move_cut_short_is_given_up_if_another_client_moved_the_champion_since(model: str) -> None:
    first, second, foreign = (add_version() for _ in range(3))
    promotion.promote(first, "first")
    cut_short(lambda: promotion.promote(second, "better"))
    point_by_hand(model, foreign)
    record = promotion.seen()
    assert record.champion == foreign
    assert [m.state for m in record.moves] == [MoveState.DONE, MoveState.ABANDONED, MoveState.DONE]
    assert chain() == [(How.PROMOTED, first, None), (How.ELSEWHERE, foreign, first)]


def test_a_completed_move_ends_its_run_as_finished(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    cut_short(lambda: promotion.promote(second, "better"))
    runs.end_killed()
    record = promotion.seen()
    assert runs.status(str(record.done[-1].run_id)) == "FINISHED"
    assert WORDS in registry.resolve(second).tags


# What a move names and is no longer there


def lose_version(number: str) -> None:
    MlflowClient().delete_model_version(settings().registered_model, number)


def lose_run(number: str) -> None:
    MlflowClient().delete_run(registry.resolve(number).run_id)


def lose_verdict(number: str) -> None:
    run = MlflowClient().get_run(registry.resolve(number).run_id)
    shutil.rmtree(urlsplit(run.info.artifact_uri).path)


def lose_alias(number: str) -> None:
    MlflowClient().delete_registered_model_alias(settings().registered_model, "champion")


ACTS = ("promote", "rollback", "approve", "elsewhere", "nothing")
QUICK = {(act, ("later", "earlier")[n % 2], lose_version) for n, act in enumerate(ACTS)}
"""Every act, and the loss of either version; all of them with all are for `make test-all`."""


@pytest.mark.parametrize(
    ("act", "lost", "lose"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in product(ACTS, ("earlier", "later"), (lose_version, lose_run, lose_verdict, lose_alias))
    ],
)
def test_a_move_whose_things_are_gone_ends_settled_and_the_next_version_becomes_champion(
    model: str, act: str, lost: str, lose: Callable[[str], None]
) -> None:
    earlier, later, good = (add_version() for _ in range(3))
    promotion.promote(earlier, "first")
    if act != "promote":
        promotion.promote(later, "second")
    begun = {
        "promote": lambda: promotion.promote(later, "second"),
        "rollback": lambda: promotion.rollback("bad"),
        "approve": lambda: promotion.approve(later, "read it"),
    }
    if act in begun:
        cut_short(begun[act])
    elif act == "elsewhere":
        point_by_hand(model, earlier)
    lose(earlier if lost == "earlier" else later)
    assert promotion.seen().settled
    assert promotion.seen() == promotion.seen()
    if "previous" in registry.aliases():
        assert registry.aliases()["previous"] in registry.numbers()
    promotion.promote(good, "whole")
    assert scorable("champion").number == good
    if (back := promotion.way_back(history.read())) is not None:
        assert back in registry.numbers()


def test_a_champion_that_was_deleted_is_named_and_the_one_before_it_is_the_way_back(model: str) -> None:
    first, second = add_version(), add_version()
    promotion.promote(first, "first")
    promotion.promote(second, "second")
    lose_version(second)
    with pytest.raises(TrackingError, match="no version 'champion'"):
        scorable("champion")
    assert registry.aliases() == {"previous": first}
    assert chain()[-1] == (How.ELSEWHERE, None, second)

"""What was judged is what scores: swapped models, verdicts, records and tags, on a store where anybody may write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from spanishgas import pipeline
from spanishgas.config.search import LOGISTIC
from spanishgas.dashboard import tracking
from spanishgas.errors import DataError, SpanishGasError, TrackingError, UsageError
from spanishgas.lake import Lake, Snapshot, local_path
from spanishgas.lifecycle import history, lineage, promotion, promotion_lock, registry, seal
from spanishgas.lifecycle.compare import compare, reproduce
from spanishgas.lifecycle.history import How
from spanishgas.lifecycle.promotion import scorable
from spanishgas.lifecycle.version import DIGEST, JUDGED
from spanishgas.monitoring.drift import drift_inputs
from spanishgas.monitoring.outcomes import outcomes_inputs
from spanishgas.scoring.recommend import recommend_inputs
from spanishgas.scoring.score import score, score_inputs, score_table
from spanishgas.settings import settings
from spanishgas.training import artefact
from tests.churn_models import churn_model
from tests.gold_frames import gold_frame
from tests.scored_cohorts import drawn, poor_model, reference, version_of, write_labels
from tests.scored_cohorts import score as publish_scores
from tests.tracked import own_model, own_store
from tests.versions import add_version

KEYS = ["a1" * 32, "b2" * 32]


@dataclass(frozen=True)
class World:
    """A lake with a labelled table and a later cohort, which version 1 scored; 2 is another model of that table."""

    root: Path
    lake: Lake
    gold: Snapshot
    labels: Path

    def version(self, name: str, poor: bool = False) -> str:
        model = poor_model() if poor else churn_model(LOGISTIC)
        return version_of(model, self.gold, self.root / settings().registered_model / name)

    def swap(self, name: str, other: str) -> None:
        """Another model in the place of a version's own: what issue 18 saw."""
        home = self.root / settings().registered_model
        shutil.copy(home / other / artefact.FILE, home / name / artefact.FILE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("seal")
    with own_store(root) as patch:
        patch.setenv("SPANISHGAS_ALERT_FILE", str(root / "alerts.jsonl"))
        lake = Lake(root / "lake")
        gold = reference(lake)
        scored = publish_scores(lake, "1")
        labels = write_labels(scored, drawn(scored["churn_probability"].to_numpy(), 11), root / "labels.csv")
        yield World(root, lake, gold, labels)


@pytest.fixture
def world(store: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """Version 1 is champion, 2 another model, on a registered model of the test's own."""
    with own_model(request.node.name):
        store.version("first")
        store.version("second", poor=True)
        promotion.promote("1", "first")
        yield store


def tagged(version: str, **tags: str) -> None:
    for key, value in tags.items():
        MlflowClient().set_model_version_tag(
            settings().registered_model, version, key.replace("__", "."), value
        )


def rewritten(version: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """verdict.json of a version's run written anew, as whoever can reach the store may."""
    run = MlflowClient().get_run(registry.resolve(version).run_id)
    place = local_path(run.info.artifact_uri) / JUDGED
    judged: dict[str, Any] = json.loads(place.read_text())
    change(judged)
    place.write_text(json.dumps(judged))
    return judged


# Bytes

LOADERS: dict[str, Callable[[World], object]] = {
    "score": lambda w: score_inputs("champion", w.lake, "local", lambda *_: None, lambda _: None),
    "score --alias": lambda w: score_inputs("1", w.lake, "local", lambda *_: None, lambda _: None),
    "recommend": lambda w: recommend_inputs(w.lake),
    "compare before": lambda w: compare("1", "2", w.lake),
    "compare after": lambda w: compare("2", "1", w.lake),
    "reproduce": lambda w: reproduce("1", w.lake),
    "drift": lambda w: drift_inputs(None, "champion", w.lake),
    "outcomes": lambda w: outcomes_inputs(w.labels, None, w.lake),
    "dashboard": lambda w: tracking.model("1"),
    "plain API": lambda w: score_table(gold_frame(5), "1"),
    "promote": lambda w: promotion.promote("1", "again"),
    "override": lambda w: promotion.promote("1", "again", override="I know better"),
    "approve": lambda w: promotion.approve("1", "seen"),
    "reconcile": lambda w: pipeline.reconcile(lake=w.lake),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_whoever_loads_a_version_refuses_by_name_one_whose_model_was_swapped(
    world: World, loader: str
) -> None:
    world.swap("first", "second")
    tracking.model.cache_clear()
    name = settings().registered_model
    with pytest.raises(
        DataError, match=rf"version 1 of {name} is not what was judged: model\.skops .*rollback"
    ):
        LOADERS[loader](world)


@pytest.mark.slow
def test_scores_that_are_there_do_not_hide_a_swap(world: World) -> None:
    scored = score("champion", lake=world.lake)
    assert score("champion", lake=world.lake).uri == scored.uri
    world.swap("first", "second")
    with pytest.raises(DataError, match="not what was judged"):
        score("champion", lake=world.lake)


@pytest.mark.parametrize("name", ["model.skops", "other.py", "MLmodel"])
def test_a_file_that_is_gone_or_too_many_is_a_difference_too(world: World, name: str) -> None:
    file = world.root / settings().registered_model / "first" / name
    file.unlink() if file.exists() else file.write_text("import os")
    with pytest.raises(DataError, match=rf"not what was judged: {name}"):
        scorable("champion")


def test_no_way_back_leads_to_a_version_whose_bytes_differ(world: World) -> None:
    promotion.promote("2", "better")
    world.swap("first", "second")
    with pytest.raises(DataError, match=r"version 1 of .* is not what was judged"):
        promotion.rollback("worse")
    assert registry.aliases()["champion"] == "2"


def test_a_champion_that_was_swapped_can_be_left(world: World) -> None:
    promotion.promote("2", "better")
    world.swap("second", "first")
    promotion.rollback("swapped")
    assert scorable("champion").number == "1"


def test_lineage_names_the_file(world: World) -> None:
    world.swap("first", "second")
    found = lineage.lineage("1", world.lake)
    assert any("not what was judged: model.skops" in fault for fault in found.broken)


def test_the_copy_that_was_checked_is_used_and_goes_with_the_version(world: World) -> None:
    version = scorable("champion")
    folder = version.folder
    world.swap("first", "second")
    assert (folder / artefact.FILE).exists()
    theirs, ours = version.model.threshold, churn_model(LOGISTIC).threshold
    assert theirs == ours
    del version
    assert not folder.exists()


def test_the_serving_process_takes_the_file_that_was_judged_and_no_other(world: World) -> None:
    folder = world.root / settings().registered_model / "first"
    judged = registry.resolve("1").record.manifest.files[artefact.FILE]
    artefact.load(folder, "it", judged)
    world.swap("first", "second")
    with pytest.raises(DataError, match=r"model\.skops of it is not the file that was judged"):
        artefact.load(folder, "it", judged)


# The verdict and the record beside it


def test_a_verdict_rewritten_together_with_its_tag_is_held_against_the_move(world: World) -> None:
    """Model, manifest, verdict.json and tag all fit each other; the promoter's record does not."""
    world.swap("first", "second")
    folder = world.root / settings().registered_model / "first"

    def forge(judged: dict[str, Any]) -> None:
        judged["record"]["manifest"]["files"] = seal.files(folder)

    judged = rewritten("1", forge)
    tagged("1", gate__digest=seal.digest(judged))
    with pytest.raises(TrackingError, match=r"the verdict of version 1 .* has another digest"):
        scorable("champion")
    # Away and back in the UI: a move that nobody promoted by blesses nothing.
    for version in ("2", "1"):
        MlflowClient().set_registered_model_alias(settings().registered_model, "champion", version)
        promotion.seen()
    assert history.read().moves[-1].how is How.ELSEWHERE
    with pytest.raises(TrackingError, match="another digest"):
        scorable("champion")


@pytest.mark.parametrize("part", ["verdict", "metrics", "record"])
def test_every_part_of_what_was_judged_is_sealed(world: World, part: str) -> None:
    def forge(judged: dict[str, Any]) -> None:
        judged[part] = {**judged[part], "more": 1}

    rewritten("1", forge)
    for read in (lambda v: v.verdict, lambda v: v.metrics, lambda v: v.record, lambda v: v.model):
        with pytest.raises(DataError, match="another digest"):
            read(registry.resolve("1"))


def test_the_record_names_what_the_version_consists_of_and_was_made_from(world: World) -> None:
    manifest = registry.resolve("1").record.manifest
    assert set(seal.SealManifest.model_fields) == {
        *("files", "signature", "policy", "code", "gold", "customers", "holdout")
    }
    assert set(manifest.files) == {artefact.FILE}


# Keys


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(key: str) -> None:
        monkeypatch.setenv("SPANISHGAS_SEALING_KEY", key)
        settings.cache_clear()

    yield use
    monkeypatch.delenv("SPANISHGAS_SEALING_KEY", raising=False)
    settings.cache_clear()


def test_with_a_key_an_unsigned_version_scores_no_more_and_a_signed_one_does(
    world: World, keyed: Callable[[str], None]
) -> None:
    keyed(KEYS[0])
    with pytest.raises(TrackingError, match=r"not signed with a key of SPANISHGAS_SEALING_KEY: evaluate"):
        scorable("champion")
    promotion.promote(world.version("signed"), "signed")
    assert scorable("champion").number == "3"
    keyed(KEYS[1])
    with pytest.raises(TrackingError, match="not signed"):
        scorable("champion")


def test_a_file_holds_the_keys_the_first_signs_and_all_are_taken(
    world: World, keyed: Callable[[str], None], tmp_path: Path
) -> None:
    keyed(KEYS[0])
    old = world.version("old")
    file = tmp_path / "keys"
    file.write_text(f"{KEYS[1]}\n{KEYS[0]}\n")
    keyed(str(file))
    new = world.version("new")
    for version in (old, new):
        assert registry.resolve(version).verdict.passed
    keyed(KEYS[1])
    assert registry.resolve(new).verdict.passed
    with pytest.raises(DataError, match="not signed"):
        _ = registry.resolve(old).verdict


def test_a_signature_stands_for_one_registered_model(world: World, keyed: Callable[[str], None]) -> None:
    keyed(KEYS[0])
    judged = {"verdict": {}, "metrics": {}, "record": {}}
    signed = seal.signed(judged, "ours")
    seal.check(signed, seal.digest(judged), "ours", "it")
    with pytest.raises(DataError, match="not signed"):
        seal.check(signed, seal.digest(judged), "theirs", "it")


@pytest.mark.parametrize("key", ["secret", "/nowhere/key", "ab" * 31, "zz" * 32])
def test_what_is_no_key_is_refused_and_not_repeated(key: str, keyed: Callable[[str], None]) -> None:
    keyed(key)
    with pytest.raises(UsageError, match="openssl rand -hex 32") as fault:
        seal.signed({}, "m")
    assert key not in str(fault.value)


# State that people may not write is not read


def test_no_tag_makes_a_refused_version_pass_nor_a_good_one_fail(world: World) -> None:
    refused = add_version(0.6)
    tagged(refused, gate="passed", gate__words="passed", gate__override="me", approved="me")
    with pytest.raises(TrackingError, match=r"is refused.*0\.600"):
        promotion.promote(refused, "please")
    tagged("1", gate="refused", rolled_back="they said", gate__words="bad")
    assert scorable("champion").number == "1"


def test_a_tag_approves_of_nothing(world: World) -> None:
    tagged("2", approved=json.dumps({"by": "ana", "verdict": registry.resolve("2").tags[DIGEST]}))
    assert history.read().approvals("2", registry.resolve("2").digest) == []


@pytest.mark.parametrize(
    "value", ["", "x", "1", "-1 me:1", "1 me", "१ me:1", "9" * 40 + " me:1", "1 me:1 more"]
)
def test_a_claim_that_is_none_breaks_no_lock(world: World, value: str) -> None:
    name = settings().registered_model
    MlflowClient().set_registered_model_tag(name, "turn.forged", value)
    with promotion_lock.promotion_lock(name) as lock:
        assert [claim.key for claim in promotion_lock.claims(name)] == [lock.key]


def test_a_move_that_is_none_is_named_with_the_way_out(world: World) -> None:
    name = settings().registered_model
    MlflowClient().set_registered_model_tag(name, "move.forged", "{")
    assert scorable("champion").number == "1"
    MlflowClient().set_registered_model_tag(name, "move.0002", "{")
    with pytest.raises(TrackingError, match=r"move\.0002 .* holds no move .* an administrator"):
        scorable("champion")


@pytest.mark.parametrize("forged", ["0", "-7", "none", ""])
def test_openings_that_were_set_back_are_counted_by_the_versions(world: World, forged: str) -> None:
    MlflowClient().set_registered_model_tag(settings().registered_model, registry.OPENINGS, forged)
    assert registry.count_opening() == 3


# Who hears of it


def test_the_alert_sinks_hear_once_of_a_champion_that_is_refused(world: World) -> None:
    world.swap("first", "second")
    for _ in range(2):
        with pytest.raises(SpanishGasError):
            pipeline.reconcile(lake=world.lake)
    lines = map(json.loads, (world.root / "alerts.jsonl").read_text().splitlines())
    (told,) = [one for one in lines if one["window"].startswith(f"{settings().registered_model}/")]
    assert told["subject"] == "SpanishGas: champion version 1 is refused"
    assert "model.skops of its artefact differs" in told["moved"][0]

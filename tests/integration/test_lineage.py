"""Walking from scores back to raw files on a built lake and a real tracking store, whole and broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.cli.lifecycle import lineage as show
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import RAW_FILES, Lake, Snapshot, file_digest
from spanishgas.lifecycle import lineage
from spanishgas.lifecycle.data import etl
from spanishgas.lifecycle.lineage import Link
from spanishgas.lifecycle.stage import Work, through
from spanishgas.monitoring.campaigns import Logged, logged
from spanishgas.settings import settings
from spanishgas.stages import Stage, unkeyed
from tests.raw_builder import write_raw
from tests.tracked import own_store
from tests.unit.test_campaigns import campaign
from tests.versions import add_version, made_up_record

AS_OF = date(2024, 12, 31)


@dataclass(frozen=True)
class Built:
    """A lake with one build and the scores of one version."""

    lake: Lake
    raw: Path
    gold: Snapshot
    scores: Snapshot
    version: str


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    root = tmp_path_factory.mktemp("lineage")
    with own_store(root):
        raw, lake = root / "extract", Lake(root / "lake")
        write_raw(raw)
        gold = etl(raw, lake=lake, as_of=AS_OF).snapshots["gold_master"]
        MlflowClient().create_registered_model(settings().registered_model)
        version = add_version(record=made_up_record(gold.manifest.digest, AS_OF))
        yield Built(lake, raw, gold, publish_scores(lake, gold, version), version)


def publish_scores(lake: Lake, gold: Snapshot, version: str) -> Snapshot:
    frame = pd.DataFrame({"customer_id": ["C1", "C2"], "churn_probability": [0.25, 0.5]})
    return lake.publish(
        "scores",
        AS_OF,
        lambda folder: frame.to_parquet(folder / "part-0.parquet", index=False),
        built_from={"gold_master": gold.manifest.digest, settings().registered_model: version},
        fingerprint="made up",
        code=provenance.identity(),
    )


@pytest.fixture
def built(kept: Built, tmp_path: Path) -> Iterator[Built]:
    """The same lake, put back afterwards: a test may break it."""
    for name, place in (("lake", Path(str(kept.lake.root))), ("raw", kept.raw)):
        shutil.copytree(place, tmp_path / name)
    yield kept
    for name, place in (("lake", Path(str(kept.lake.root))), ("raw", kept.raw)):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / name, place)


def every(link: Link) -> Iterator[Link]:
    yield link
    for source in link.sources:
        yield from every(source)


def test_a_score_walks_back_to_every_raw_file_with_its_digest(kept: Built) -> None:
    found = lineage.lineage(str(kept.scores.folder / "part-0.parquet"), kept.lake)
    assert found.broken == []
    links = {link.what: link for link in every(found)}
    assert {"scores", f"version {kept.version}", "gold_master", "silver_customer", "bronze_customer"} <= set(
        links
    )
    for name, file in RAW_FILES.items():
        assert links[f"raw/{name}"].facts["digest"] == file_digest(kept.raw / file)
    assert links["gold_master"].facts["code"].startswith(provenance.commit()[:12])
    assert links[f"version {kept.version}"].facts["verdict"].startswith("passed")


@pytest.mark.parametrize("which", ["scores", "C1", "version", "gold"])
def test_a_walk_begins_at_a_score_a_customer_a_version_or_gold(kept: Built, which: str) -> None:
    named = {"scores": kept.scores.uri, "version": kept.version}
    found = lineage.lineage(named.get(which, which), kept.lake)
    begins = {"C1": "customer C1", "version": f"version {kept.version}", "gold": "gold_master"}
    assert found.what == begins.get(which, which)
    assert "raw/price_history" in {link.what for link in every(found)}


def test_a_customer_is_shown_with_their_score(kept: Built) -> None:
    assert lineage.lineage("C2", kept.lake).facts == {"churn_probability": "0.5"}


def test_an_unknown_name_says_what_may_be_given(kept: Built) -> None:
    with pytest.raises(UsageError, match=r"'C9' is no score file.*give one of these, or `gold`"):
        lineage.lineage("C9", kept.lake)


def test_a_raw_file_that_changed_since_is_named(built: Built) -> None:
    with (built.raw / RAW_FILES["price_history"]).open("a") as file:
        file.write("\n")
    (fault,) = set(lineage.lineage("gold", built.lake).broken)
    assert fault.startswith(f"raw/price_history: has another digest in {built.raw}: ")


def test_a_copied_lake_is_held_against_its_own_raw_files(built: Built, tmp_path: Path) -> None:
    inside = Path(str(built.lake.root)) / "raw" / str(AS_OF)
    shutil.copytree(built.raw, inside)
    client, run_id = MlflowClient(), str(built.gold.manifest.run_id)
    outside = client.get_run(run_id).data.tags["raw"]
    client.set_tag(run_id, "raw", inside.as_uri())
    copy = Lake(shutil.copytree(inside.parents[1], tmp_path / "copy"))
    with (Path(str(copy.raw(AS_OF))) / RAW_FILES["price_history"]).open("a") as file:
        file.write("\n")
    try:
        (fault,) = set(lineage.lineage("gold", copy).broken)
        assert lineage.lineage("gold", built.lake).broken == []
    finally:
        client.set_tag(run_id, "raw", outside)
    assert fault.startswith(f"raw/price_history: has another digest in {copy.raw(AS_OF)}: ")


def test_a_raw_file_that_is_gone_is_named(built: Built) -> None:
    (built.raw / RAW_FILES["price_history"]).unlink()
    assert any(
        "raw/price_history: is no longer in" in fault for fault in lineage.lineage("gold", built.lake).broken
    )


def test_a_table_whose_rows_were_changed_is_named(built: Built) -> None:
    part = next(built.gold.folder.glob("*.parquet"))
    frame = pd.read_parquet(part)
    frame.loc[0, "tenure_months"] = 999
    frame.to_parquet(part, index=False)
    faults = lineage.lineage("gold", built.lake).broken
    assert any("gold_master: " in fault for fault in faults)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_shows_the_broken_walk_and_fails(
    built: Built, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show("gold", built.lake, as_json)
    assert "gold_master" in capsys.readouterr().out
    part = next(built.gold.folder.glob("*.parquet"))
    damaged = bytearray(part.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(DataError, match=f"{part.name} was changed since it was written"):
        show("gold", built.lake, as_json)
    assert part.name in capsys.readouterr().out


def test_a_table_that_is_gone_is_a_missing_link_and_the_walk_goes_on(built: Built) -> None:
    shutil.rmtree(built.lake.current("silver_customer_month").folder)
    found = lineage.lineage("gold", built.lake)
    (fault,) = found.broken
    assert fault.startswith("silver_customer_month: ")
    assert "no longer holds" in fault
    assert "bronze_customer" in {link.what for link in every(found)}


def test_a_version_without_a_passed_verdict_or_data_is_a_fault(kept: Built) -> None:
    stranger = MlflowClient().create_model_version(settings().registered_model, "nowhere")
    faults = lineage.lineage(str(stranger.version), kept.lake).broken
    assert any("has no passed verdict" in fault for fault in faults)
    assert any("does not say which table" in fault for fault in faults)


def test_a_deleted_version_is_a_missing_link(kept: Built) -> None:
    gone = add_version()
    MlflowClient().delete_model_version(settings().registered_model, gone)
    found = lineage._LineageWalk(kept.lake).version(gone)
    assert "has no version" in found.broken[0]


def test_the_tree_marks_faults_and_counts_them_and_json_holds_the_same(built: Built) -> None:
    (built.raw / RAW_FILES["churn_label"]).unlink()
    found = lineage.lineage(built.scores.uri, built.lake)
    tree = lineage.as_tree(found)
    assert "! is no longer in" in tree
    assert tree.splitlines()[-1] == f"{len(found.broken)} faults, marked with !"
    assert json.loads(lineage.as_json(found))["what"] == "scores"
    assert "└─ " in tree


def test_what_pools_earlier_campaigns_names_their_tables(tmp_path: Path) -> None:
    with own_store(tmp_path):
        lake, days = Lake(tmp_path / "lake"), [AS_OF, AS_OF + timedelta(31), AS_OF + timedelta(62)]
        for number, day in enumerate(days[:2]):
            campaign(lake, day, number)
        given = Pooled(tuple(logged(lake)), lake, days[2])
        made = through(Stage[Pooled]("outcomes", (__name__,)), given, publish_pool, title="pooled")
        digests = {
            f"{table} {one.treatments.manifest.as_of}": digest
            for one in given.earlier
            for table, digest in one.digests.items()
        }
        assert len(digests) == 6
        assert made.manifest.built_from == digests
        found = lineage.lineage(made.uri, lake)
        assert {link.facts["digest"] for link in found.sources} == set(digests.values())
        assert {link.what for link in found.sources} == {"treatments", "outcomes", "gold_master"}
        read = MlflowClient().get_run(str(made.manifest.run_id)).inputs.dataset_inputs
        assert len(read) == 6


@dataclass(frozen=True)
class Pooled:
    earlier: tuple[Logged, ...]
    lake: Lake = unkeyed("where the table goes")
    day: date = unkeyed("of the table")


def publish_pool(run: Work, given: Pooled) -> Snapshot:
    frame = pd.DataFrame({"customer_id": ["C1"]})
    return run.publish(
        given.lake,
        "outcomes",
        given.day,
        lambda folder: frame.to_parquet(folder / "part-0.parquet", index=False),
    )

"""What the lake promises, in a folder and on S3 alike; the S3 is moto's server, asked over HTTP."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pytest

from spanishgas.errors import DataError, LakeError, UsageError
from spanishgas.lake import Lake, Replaced, S3Store, Snapshot
from spanishgas.settings import PROJECT
from tests.lake_writer import DAY, LATER, TABLE, frame, publish, writer
from tests.s3_proxy import proxy


def contents(lake: Lake) -> dict[str, tuple[str, float]]:
    """Version and time of writing of every file."""
    return {listed.key: (listed.version, listed.modified) for listed in lake.store.listing()}


def parts(lake: Lake) -> list[str]:
    return [key for key in contents(lake) if key.endswith(".parquet")]


def put(lake: Lake, key: str, text: bytes) -> None:
    with lake.store.staging("other") as staging:
        (staging / "file").write_bytes(text)
        lake.store.put(staging / "file", key)


def values(snapshot: Snapshot) -> set[float]:
    return set(snapshot.pandas()["value"])


@pytest.fixture
def remote(bucket: str) -> Lake:
    return Lake(f"s3://{bucket}/some/lake")


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(tmp_path / "lake")
    found: Lake = request.getfixturevalue("remote")
    return found


# Publishing and finding


def test_a_published_table_reads_back_as_it_was_written(lake: Lake) -> None:
    snapshot = publish(lake, frame())
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())
    assert (snapshot.manifest.rows, list(snapshot.manifest.columns)) == (3, ["customer_id", "value"])


def test_the_parts_are_plain_files_for_other_readers(lake: Lake) -> None:
    publish(lake, frame())
    folder = lake.current(TABLE).folder
    pd.testing.assert_frame_equal(pd.concat(map(pd.read_parquet, folder.glob("*.parquet"))), frame())


def test_the_same_content_published_twice_leaves_the_lake_to_the_byte(lake: Lake) -> None:
    publish(lake, frame())
    before = contents(lake)
    time.sleep(0.01)
    publish(lake, frame())
    assert contents(lake) == before


def test_the_same_rows_under_a_new_fingerprint_make_no_second_copy(lake: Lake) -> None:
    first = publish(lake, frame())
    second = publish(lake, frame(), fingerprint="g")
    assert second.key == first.key
    assert lake.current(TABLE).manifest.fingerprint == "g"
    assert len(parts(lake)) == 1


def test_other_content_becomes_current_and_the_old_snapshot_stays_reachable(lake: Lake) -> None:
    old = publish(lake, frame())
    new = publish(lake, frame(value=2.0))
    assert lake.current(TABLE).manifest == new.manifest
    assert values(lake.by_digest(old.manifest.digest, TABLE)) == {1.0}


def test_old_rows_can_become_current_again(lake: Lake) -> None:
    old = publish(lake, frame())
    publish(lake, frame(value=2.0))
    publish(lake, frame())
    assert lake.current(TABLE).manifest == old.manifest
    assert len(parts(lake)) == 2


def test_a_write_that_raises_leaves_the_old_snapshot_current_and_no_litter(lake: Lake) -> None:
    publish(lake, frame())
    before = contents(lake)

    def half_way(folder: Path) -> None:
        writer(frame(value=2.0))(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.publish(TABLE, DAY, half_way, built_from={}, fingerprint="g", code={})
    assert contents(lake) == before
    assert not list(Path(lake.root).rglob(".staging-*"))


def test_a_first_write_that_raises_leaves_no_table(lake: Lake) -> None:
    def fails(folder: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.publish(TABLE, DAY, fails, built_from={}, fingerprint="g", code={})
    assert lake.find(TABLE, DAY) is None
    assert lake.dates(TABLE) == []


def test_the_newest_as_of_date_is_current_unless_one_is_named(lake: Lake) -> None:
    publish(lake, frame(), DAY)
    publish(lake, frame(value=2.0), LATER)
    assert lake.dates(TABLE) == [DAY, LATER]
    assert lake.current(TABLE).manifest.as_of == LATER
    assert lake.current(TABLE, DAY).manifest.as_of == DAY


def test_raw_extracts_and_dates_are_listed_oldest_first(lake: Lake) -> None:
    for key in ("raw/2025-03-31/a.csv", "raw/2024-12-31/hours/b.parquet", "raw/notes/c.csv"):
        put(lake, key, b"x")
    publish(lake, frame(), date(2025, 6, 30))
    assert lake.raw_extracts() == [lake.raw(DAY), lake.raw(LATER)]
    assert lake.as_of_dates() == [DAY, LATER, date(2025, 6, 30)]


def test_a_note_stands_beside_the_snapshots_and_can_be_replaced(lake: Lake) -> None:
    publish(lake, frame())
    assert lake.read_note(TABLE, DAY, "_quality.json") is None
    for text in ("one", "two"):
        lake.write_note(TABLE, DAY, "_quality.json", text)
        assert lake.read_note(TABLE, DAY, "_quality.json") == text


def test_an_unknown_table_is_a_usage_error_with_a_suggestion(lake: Lake) -> None:
    with pytest.raises(UsageError, match=r"'gold_mastre'.*Did you mean 'gold_master'\?"):
        lake.current("gold_mastre")


def test_a_table_that_was_never_published_is_named_with_its_date(lake: Lake) -> None:
    with pytest.raises(LakeError, match=f"{lake.root} holds no gold_master as of 2024-12-31"):
        lake.current(TABLE, DAY)


def test_a_digest_that_is_gone_is_a_lake_error(lake: Lake) -> None:
    with pytest.raises(LakeError, match="no longer holds gold_master"):
        lake.by_digest("0" * 64, TABLE)


# What is damaged


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"snapshot": 3}', b"null", b"\xff"])
def test_an_unreadable_pointer_is_a_lake_error_that_names_it(lake: Lake, text: bytes) -> None:
    home = publish(lake, frame()).key.rpartition("/")[0]
    put(lake, f"{home}/_current.json", text)
    with pytest.raises(LakeError, match=r"_current\.json cannot be read"):
        lake.current(TABLE)


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff"])
def test_an_unreadable_manifest_is_a_lake_error_and_publishing_mends_it(lake: Lake, text: bytes) -> None:
    snapshot = publish(lake, frame())
    put(lake, f"{snapshot.key}/_manifest.json", text)
    with pytest.raises(LakeError):
        lake.current(TABLE)
    with pytest.raises(LakeError):
        lake.by_digest(snapshot.manifest.digest, TABLE)
    assert publish(lake, frame()).intact
    assert values(lake.current(TABLE)) == {1.0}


def test_a_pointer_to_a_snapshot_that_is_gone_is_a_lake_error(lake: Lake) -> None:
    lake.store.remove(f"{publish(lake, frame()).key}/_manifest.json")
    with pytest.raises(LakeError):
        lake.current(TABLE)


@pytest.mark.parametrize("cut", [True, False])
def test_a_part_that_is_cut_short_or_missing_is_named_and_mended_by_publishing(lake: Lake, cut: bool) -> None:
    snapshot = publish(lake, frame())
    [part] = parts(lake)
    whole = (snapshot.folder / Path(part).name).read_bytes()
    put(lake, part, whole[:-9]) if cut else lake.store.remove(part)
    found = lake.current(TABLE)
    assert not found.intact
    with pytest.raises(
        LakeError, match=r"part-0-\w+.parquet is missing or cut short: build gold_master again"
    ):
        found.pandas()
    assert publish(lake, frame()).intact
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())


def bytes_of(lake: Lake, key: str) -> bytes:
    [listed] = [o for o in lake.store.listing() if o.key == key]
    return (lake.store.fetch("", [listed]) / key).read_bytes()


def test_a_part_with_another_bit_is_named_and_mended_by_publishing_the_same_rows(lake: Lake) -> None:
    snapshot = publish(lake, frame())
    [part] = parts(lake)
    whole = bytearray(bytes_of(lake, part))
    whole[len(whole) // 2] ^= 1
    put(lake, part, bytes(whole))
    for read in (snapshot.pandas, lake.current(TABLE).dataset):
        with pytest.raises(LakeError, match=r"part-0-\w+.parquet was changed since .*spanishgas etl --raw"):
            read()
    assert (snapshot.intact, lake.reusable(TABLE, DAY)) == (False, None)
    assert publish(lake, frame()).intact
    assert lake.reusable(TABLE, DAY) is not None
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())


def test_a_part_swapped_for_another_valid_one_of_its_size_is_named(lake: Lake) -> None:
    sizes = {publish(lake, frame(value=value)).manifest.parts.popitem()[1] for value in (1.0, 2.0)}
    assert len(sizes) == 1
    one, other = parts(lake)
    one_bytes, other_bytes = bytes_of(lake, one), bytes_of(lake, other)
    put(lake, one, other_bytes)
    put(lake, other, one_bytes)
    for snapshot, _ in lake.snapshots():
        with pytest.raises(LakeError, match="was changed since it was written"):
            snapshot.pandas()


@pytest.mark.parametrize("other", ["table", "date", "rows"])
def test_a_manifest_from_elsewhere_is_named_and_never_used(lake: Lake, other: str) -> None:
    snapshot = publish(lake, frame())
    table, day = "scores" if other == "table" else TABLE, LATER if other == "date" else DAY
    value = 2.0 if other == "rows" else 1.0
    strange = lake.publish(table, day, writer(frame(value=value)), built_from={}, fingerprint="f", code={})
    publish(lake, frame())
    put(lake, f"{snapshot.key}/_manifest.json", bytes_of(lake, f"{strange.key}/_manifest.json"))
    with pytest.raises(LakeError, match=f"{snapshot.key}/_manifest.json is the manifest of {strange.key}"):
        lake.current(TABLE, DAY)
    assert publish(lake, frame()).key == lake.current(TABLE, DAY).key == snapshot.key


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("_manifest.json", r"_manifest.json is missing, but _current.json names it: build gold_master again"),
        (
            "_current.json",
            r"_current.json is missing, but \w+/_manifest.json lies beside it: build gold_master",
        ),
    ],
)
def test_what_is_lost_is_not_taken_for_what_never_was(lake: Lake, lost: str, words: str) -> None:
    publish(lake, frame(), DAY)
    key = publish(lake, frame(value=2.0), LATER).key
    place = f"{key}/{lost}" if lost == "_manifest.json" else f"{key.rpartition('/')[0]}/{lost}"
    lake.store.remove(place)
    for read in (lambda: lake.current(TABLE), lambda: lake.find(TABLE, LATER)):
        with pytest.raises(LakeError, match=words) as fault:
            read()
        assert lake.store.uri(place) in str(fault.value)
        assert "\n" not in str(fault.value)
    assert lake.dates(TABLE) == [DAY, LATER]
    assert values(lake.current(TABLE, DAY)) == {1.0}
    publish(lake, frame(value=2.0), LATER)
    assert values(lake.current(TABLE)) == {2.0}


def test_nothing_is_pruned_beside_a_manifest_or_pointer_that_cannot_be_read(lake: Lake) -> None:
    old, new = publish(lake, frame()), publish(lake, frame(value=2.0))
    put(lake, f"{new.key.rpartition('/')[0]}/_current.json", b"{")
    with pytest.raises(LakeError, match=r"_current\.json cannot be read"):
        lake.prunable(0, 2e10)
    with pytest.raises(LakeError):
        lake.remove(old)
    assert values(old) == {1.0}


# Kills


class Killed(BaseException):
    """The end of a process, in this one: nothing catches it."""


def dying(lake: Lake, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The store's changes go wrong from the one of this number on."""
    left = [after]

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def instead(*given: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*given)

        return instead

    for name in ("put", "swap", "remove"):
        monkeypatch.setattr(lake.store, name, counted(getattr(lake.store, name)))


@pytest.mark.parametrize("before", ["nothing", "another date", "other rows", "a lost pointer"])
def test_a_publish_that_ends_before_any_step_leaves_what_was_current_and_the_next_finishes(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    for step in itertools.count():
        day = DAY.replace(day=step + 1)
        if before in ("other rows", "a lost pointer"):
            key = publish(lake, frame(), day).key
        if before == "a lost pointer":
            lake.store.remove(f"{key.rpartition('/')[0]}/_current.json")
        if before == "another date":
            publish(lake, frame(), date(2024, 11, 30))
        dates = lake.dates(TABLE)
        with monkeypatch.context() as patch:
            dying(lake, patch, step)
            with suppress(Killed):
                publish(lake, frame(value=2.0), day)
                break
        assert lake.dates(TABLE) == dates
        if before == "nothing":
            assert lake.find(TABLE, day) is None
        elif before == "a lost pointer":
            with pytest.raises(LakeError, match=r"_current\.json is missing"):
                lake.current(TABLE)
        else:
            assert values(lake.current(TABLE)) == {1.0}
        publish(lake, frame(value=2.0), day)
        assert values(lake.current(TABLE, day)) == {2.0}
        for listed in lake.store.listing(f"gold/gold_master/as_of={day}"):
            lake.store.remove(listed.key)
        assert lake.find(TABLE, day) is None
    assert step >= 3


def writing(*words: str) -> subprocess.Popen[bytes]:
    """A process of its own."""
    return subprocess.Popen([sys.executable, "-m", "tests.lake_writer", *words], cwd=PROJECT)


@pytest.mark.parametrize("ending", ["_manifest.json", "_current.json"])
def test_a_kill_before_any_step_leaves_the_old_table_and_the_next_run_finishes(
    lake: Lake, ending: str
) -> None:
    publish(lake, frame())
    assert writing("die", str(lake.root), ending).wait(60) == -signal.SIGKILL
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())
    publish(lake, frame(value=2.0))
    assert values(lake.current(TABLE)) == {2.0}
    assert len(parts(lake)) == 2
    assert not list(Path(lake.root).rglob(".*-*"))


def test_parts_of_a_killed_upload_go_when_its_writer_cannot_live_any_more(lake: Lake) -> None:
    snapshot = publish(lake, frame())
    home = snapshot.key.rpartition("/")[0]
    left = {f"{home}/0123456789abcdef/part-0-x.parquet", f"{snapshot.key}/part-9-x.parquet"}
    for key in left:
        put(lake, key, b"half")
    assert values(lake.current(TABLE)) == {1.0}
    publish(lake, frame(value=2.0))
    publish(lake, frame())
    assert left <= {*parts(lake)} or not lake.store.grace
    lake.store.grace = -5  # S3 tells whole seconds
    publish(lake, frame())
    assert not left & {*parts(lake)}
    assert {value for snapshot, _ in lake.snapshots() for value in values(snapshot)} == {1.0, 2.0}


# Several at once


@pytest.mark.slow
def test_processes_that_publish_at_once_leave_whole_snapshots(lake: Lake) -> None:
    running = [writing("many", str(lake.root), offset) for offset in ("0", "0", "1")]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    held = lake.snapshots()
    assert [values(snapshot) for snapshot, _ in held if len(values(snapshot)) != 1] == []
    assert all(snapshot.intact for snapshot, _ in held)
    assert [current for _, current in held].count(True) == 1
    assert len(parts(lake)) == len(held)


def test_a_build_does_not_replace_what_another_run_published_meanwhile(lake: Lake) -> None:
    publish(lake, frame())
    with lake.building(DAY):
        publish(Lake(lake.root), frame(value=2.0))
        with pytest.raises(
            Replaced, match=r"_current\.json was replaced by another run meanwhile.*run again"
        ):
            publish(lake, frame(value=3.0))
        assert values(lake.current(TABLE)) == {2.0}
    publish(lake, frame(value=3.0))
    assert values(lake.current(TABLE)) == {3.0}


@pytest.mark.parametrize("first", [True, False])
def test_a_build_that_made_the_same_rows_as_another_ends_well(lake: Lake, first: bool) -> None:
    if not first:
        publish(lake, frame(value=0.0))
    with lake.building(DAY):
        other = publish(Lake(lake.root), frame(), fingerprint="g")
        assert publish(lake, frame()).key == other.key
        assert publish(lake, frame(value=2.0)).intact
    assert values(lake.current(TABLE)) == {2.0}


def test_two_that_upload_the_same_rows_in_other_bytes_leave_one_whole_snapshot(
    remote: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = remote.store.put

    def overtaken(source: Path, key: str) -> None:
        if not remote.find(TABLE, DAY):
            publish(Lake(remote.root), frame().iloc[::-1])
        put(source, key)

    monkeypatch.setattr(remote.store, "put", overtaken)
    made = publish(remote, frame())
    assert parts(remote) == [f"{made.key}/{name}" for name in made.manifest.parts]
    pd.testing.assert_frame_equal(remote.current(TABLE).pandas(), frame().iloc[::-1].reset_index(drop=True))


# Keeping and removing


def test_only_old_snapshots_that_nothing_refers_to_can_be_pruned(lake: Lake) -> None:
    made = [publish(lake, frame(value=float(i))) for i in range(5)]
    lake.publish(
        "scores",
        DAY,
        writer(frame(value=9.0)),  # other rows than any of those: its own digest protects none of them
        built_from={TABLE: made[1].manifest.digest},
        fingerprint="s",
        code={},
    )
    assert lake.prunable(5, 2e10) == []
    assert lake.prunable(1, 0.0) == []
    keys = {snapshot.key for snapshot in lake.prunable(1, 2e10, {made[0].manifest.digest})}
    assert keys == {made[2].key, made[3].key}
    assert {s.key for s in lake.prunable(0, 2e10)} == {made[0].key, made[2].key, made[3].key}


def test_what_a_removal_that_was_cut_off_leaves_is_named_and_tidied(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    old, new = publish(lake, frame()), publish(lake, frame(value=2.0))
    lake.store.remove(f"{old.key}/_manifest.json")
    left = [f"{old.key}/{part}" for part in old.manifest.parts]
    assert lake.tidy(TABLE, DAY, dry=True) == left
    assert lake.tidy(TABLE, DAY, dry=False) == left
    assert lake.tidy(TABLE, DAY, dry=False) == []
    assert lake.current(TABLE).key == new.key
    assert lake.current(TABLE).intact


def test_a_removed_snapshot_is_gone_and_the_current_one_is_not_removed(lake: Lake) -> None:
    old, new = publish(lake, frame()), publish(lake, frame(value=2.0))
    assert (lake.remove(old), lake.remove(new)) == (True, False)
    assert [snapshot.key for snapshot, _ in lake.snapshots()] == [new.key]
    assert len(parts(lake)) == 1


# On S3 alone


def test_a_local_copy_that_was_damaged_is_fetched_again(remote: Lake) -> None:
    folder = publish(remote, frame()).folder
    [held] = (folder.parent / "objects").iterdir()
    whole = bytearray(held.read_bytes())
    whole[7] ^= 1
    held.write_bytes(whole)
    pd.testing.assert_frame_equal(remote.current(TABLE).pandas(), frame())


def test_a_snapshot_is_downloaded_once(remote: Lake) -> None:
    folder = publish(remote, frame()).folder
    before = {file: file.stat().st_mtime_ns for file in folder.parent.rglob("*")}
    assert remote.current(TABLE).folder == folder
    assert {file: file.stat().st_mtime_ns for file in folder.parent.rglob("*")} == before


def test_a_copy_that_is_half_there_is_not_read(remote: Lake) -> None:
    folder = publish(remote, frame()).folder
    [held] = (folder.parent / "objects").iterdir()
    half = held.read_bytes()[:100]
    held.unlink()
    held.with_name(f".{held.name}-killed").write_bytes(half)
    folder.rename(folder.with_name(".staging-killed"))
    pd.testing.assert_frame_equal(remote.current(TABLE).pandas(), frame())


def test_the_folder_for_copies_is_the_users_own(remote: Lake) -> None:
    publish(remote, frame()).pandas()
    assert remote.store.downloads.stat().st_mode & 0o077 == 0


def through(server: str, monkeypatch: pytest.MonkeyPatch, bucket: str) -> Lake:
    """The lake, by way of a proxy."""
    lake = Lake(f"s3://{bucket}/some/lake")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", server)
        assert lake.raw_extracts() == []
    return lake


@pytest.mark.slow
def test_a_busy_store_is_asked_again(
    remote: Lake, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[tuple[str, str], int] = {}

    def busy(method: str, path: str) -> tuple[int, str] | None:
        asked[method, path] = asked.get((method, path), 0) + 1
        return (503, "SlowDown") if asked[method, path] == 1 and method == "PUT" else None

    with proxy(s3_server, busy) as server:
        publish(through(server, monkeypatch, bucket), frame())
    assert values(remote.current(TABLE)) == {1.0}
    puts = {path.rpartition("/")[2][:6]: count for (method, path), count in asked.items() if method == "PUT"}
    assert puts == {"_curre": 3, "part-0": 2, "_manif": 2}, "of a table's first pointer there are two"


def test_a_pointer_whose_answer_was_lost_counts_as_written(
    remote: Lake, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [(500, "InternalError"), (500, "InternalError")]

    def answer(method: str, path: str) -> tuple[int, str] | None:
        return lost.pop() if method == "PUT" and path.endswith(".json") and lost else None

    publish(remote, frame(value=2.0))
    with proxy(s3_server, answer, forward=True) as server:
        publish(through(server, monkeypatch, bucket), frame())
    assert not lost
    assert values(remote.current(TABLE)) == {1.0}


def test_a_pointer_that_two_write_in_one_moment_is_not_taken_for_written(
    remote: Lake, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 says 409 where two conditional puts meet; moto has no such moment."""

    def conflict(method: str, path: str) -> tuple[int, str] | None:
        met = method == "PUT" and path.endswith("_current.json")
        return (409, "ConditionalRequestConflict") if met else None

    publish(remote, frame())
    with proxy(s3_server, conflict) as server, pytest.raises(Replaced):
        publish(through(server, monkeypatch, bucket), frame(value=2.0))
    assert values(remote.current(TABLE)) == {1.0}


def test_a_bucket_that_is_not_there_or_forbidden_is_named(
    bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="s3://no-such-bucket-here/x cannot be read: there is no such bucket"):
        Lake("s3://no-such-bucket-here/x").current(TABLE)
    with pytest.raises(UsageError, match="names no bucket"):
        Lake("s3://")
    denied = (403, "AccessDenied")
    with proxy(s3_server, lambda method, path: denied if method == "PUT" else None) as server:
        lake = through(server, monkeypatch, bucket)
        with pytest.raises(DataError, match=r"cannot be written: .*s3:PutObject"):
            publish(lake, frame())


def test_large_parts_are_uploaded_in_pieces(remote: Lake, bucket: str) -> None:
    noise = pd.DataFrame({"value": np.random.default_rng(0).random(1_100_000)})
    publish(remote, noise)
    [part] = parts(remote)
    assert boto3.client("s3").head_object(Bucket=bucket, Key=f"some/lake/{part}")["ETag"].count("-") == 1
    assert len(remote.current(TABLE).pandas()) == len(noise)


def test_a_store_lists_below_a_folder_and_not_beside_it(bucket: str) -> None:
    client = boto3.client("s3")
    for key in ("lake/raw/a", "lake/raw-old/b", "lake-old/raw/c"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
    store = S3Store(f"s3://{bucket}/lake/")
    assert [(o.name, o.key) for o in store.listing("raw")] == [("a", "raw/a")]
    assert [o.key for o in S3Store(f"s3://{bucket}").listing("lake-old")] == ["lake-old/raw/c"]

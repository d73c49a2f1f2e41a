"""What the lake promises: one pointer, snapshots that never change, a digest over every row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.errors import LakeError, UsageError
from spanishgas.lake import Lake, Snapshot, file_digest, rows_digest

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
TABLE = "gold_master"


def frame(rows: int = 3, value: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"customer_id": [f"C{i:05d}" for i in range(rows)], "value": value})


def writer(content: pd.DataFrame) -> Callable[[Path], None]:
    return lambda folder: content.to_parquet(folder / "part-0.parquet", index=False)


def publish(lake: Lake, content: pd.DataFrame, as_of: date = DAY, fingerprint: str = "f") -> Snapshot:
    return lake.publish(TABLE, as_of, writer(content), built_from={}, fingerprint=fingerprint, code={})


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(root)): (p.stat().st_mtime_ns, p.read_bytes())
        for p in root.rglob("*")
        if p.is_file()
    }


def digest(content: pd.DataFrame) -> tuple[list[str], int]:
    return rows_digest(pa.Table.from_pandas(content, preserve_index=False))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_published_table_reads_back_as_it_was_written(lake: Lake) -> None:
    snapshot = publish(lake, frame())
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())
    assert (snapshot.manifest.rows, list(snapshot.manifest.columns)) == (3, ["customer_id", "value"])


def test_the_same_content_published_twice_leaves_the_lake_to_the_byte(lake: Lake) -> None:
    publish(lake, frame())
    before = contents(lake.root)
    publish(lake, frame())
    assert contents(lake.root) == before


def test_the_same_rows_under_a_new_fingerprint_make_no_second_copy(lake: Lake) -> None:
    first = publish(lake, frame())
    second = publish(lake, frame(), fingerprint="g")
    assert second.folder == first.folder
    assert lake.current(TABLE).manifest.fingerprint == "g"
    assert len(list(lake.root.rglob("*.parquet"))) == 1


def test_other_content_becomes_current_and_the_old_snapshot_stays_reachable(lake: Lake) -> None:
    old = publish(lake, frame())
    new = publish(lake, frame(value=2.0))
    assert lake.current(TABLE).manifest == new.manifest
    assert lake.at(old.manifest.digest, TABLE).pandas()["value"].tolist() == [1.0] * 3


def test_a_write_that_raises_leaves_the_old_snapshot_current_and_no_litter(lake: Lake) -> None:
    publish(lake, frame())
    before = contents(lake.root)

    def half_way(folder: Path) -> None:
        writer(frame(value=2.0))(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        lake.publish(TABLE, DAY, half_way, built_from={}, fingerprint="g", code={})
    assert contents(lake.root) == before
    assert not list(lake.root.rglob(".staging-*"))


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


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"snapshot": 3}', "null"])
def test_an_unreadable_pointer_is_a_lake_error_that_names_it(lake: Lake, text: str) -> None:
    pointer = publish(lake, frame()).folder.parent / "_current.json"
    pointer.write_text(text)
    with pytest.raises(LakeError, match=r"_current\.json cannot be read"):
        lake.current(TABLE)


@pytest.mark.parametrize("text", ["", "{}", "null"])
def test_an_unreadable_manifest_is_a_lake_error(lake: Lake, text: str) -> None:
    snapshot = publish(lake, frame())
    (snapshot.folder / "_manifest.json").write_text(text)
    with pytest.raises(LakeError):
        lake.current(TABLE)
    with pytest.raises(LakeError):
        lake.at(snapshot.manifest.digest, TABLE)


def test_a_pointer_to_a_snapshot_that_is_gone_is_a_lake_error(lake: Lake) -> None:
    (publish(lake, frame()).folder / "_manifest.json").unlink()
    with pytest.raises(LakeError):
        lake.current(TABLE)


def test_an_unknown_table_is_a_usage_error_with_a_suggestion(lake: Lake) -> None:
    with pytest.raises(UsageError, match=r"'gold_mastre'.*Did you mean 'gold_master'\?"):
        lake.current("gold_mastre")


def test_a_table_that_was_never_published_is_named_with_its_date(lake: Lake) -> None:
    with pytest.raises(LakeError, match="holds no gold_master as of 2024-12-31"):
        lake.current(TABLE, DAY)


def test_a_digest_that_is_gone_is_a_lake_error(lake: Lake) -> None:
    with pytest.raises(LakeError, match="no longer holds gold_master"):
        lake.at("0" * 64, TABLE)


def test_a_bucket_is_refused_as_lake() -> None:
    with pytest.raises(UsageError, match="s3://bucket"):
        Lake("s3://bucket/lake")


def test_a_file_uri_is_the_folder_it_names(tmp_path: Path) -> None:
    assert Lake(f"file://{tmp_path}").root == tmp_path


def test_the_digest_is_free_of_row_order() -> None:
    content = pd.DataFrame({"a": range(500), "b": [f"t{i % 7}" for i in range(500)]})
    assert digest(content) == digest(content.sample(frac=1, random_state=0))


@pytest.mark.parametrize("row", [0, 10_000, 19_999])
def test_the_digest_sees_every_row(row: int) -> None:
    content = pd.DataFrame({"a": range(20_000)})
    changed = content.copy()
    changed.loc[row, "a"] = -1
    assert digest(content) != digest(changed)


def test_the_digest_counts_a_row_that_stands_twice() -> None:
    content = frame()
    assert digest(content) != digest(pd.concat([content, content]))


def test_the_digest_tells_which_row_a_value_belongs_to() -> None:
    straight = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert digest(straight) != digest(straight.assign(b=["y", "x"]))


@pytest.mark.parametrize("other", [["b", "a"], ["a"], [], None, ["a", None]])
def test_the_digest_sees_inside_list_columns(other: list[str | None] | None) -> None:
    kind = pa.list_(pa.string())

    def of(value: list[str | None] | None) -> tuple[list[str], int]:
        return rows_digest(pa.table({"reasons": pa.array([["x"], value], type=kind)}))

    assert of(["a", "b"]) == of(["a", "b"])
    assert of(["a", "b"]) != of(other)


def test_a_files_digest_changes_with_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1")
    first = file_digest(tmp_path)
    (tmp_path / "a.csv").write_text("2")
    assert file_digest(tmp_path) != first


def killed_while_writing(lake_root: Path) -> None:
    """A real process that is killed with half of its table written, its lock held."""
    script = (
        "import os, signal, sys; from datetime import date; from spanishgas.lake import Lake\n"
        "def write(folder):\n"
        "    (folder / 'part-0.parquet').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "inputs = {'built_from': {}, 'fingerprint': 'k', 'code': {}}\n"
        f"Lake(sys.argv[1]).publish('{TABLE}', date(2024, 12, 31), write, **inputs)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(lake_root)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_a_killed_write_leaves_the_old_snapshot_and_the_next_write_cleans_up(lake: Lake) -> None:
    publish(lake, frame())
    killed_while_writing(lake.root)
    assert list(lake.root.rglob(".staging-*"))
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())
    publish(lake, frame(value=2.0))
    assert not list(lake.root.rglob(".staging-*"))
    assert lake.current(TABLE).pandas()["value"].tolist() == [2.0] * 3


def test_processes_that_publish_at_once_leave_whole_snapshots(lake: Lake) -> None:
    script = (
        "import sys; from tests.unit.test_lake import *\n"
        "for i in range(8): publish(Lake(sys.argv[1]), frame(value=float(i % 4) + float(sys.argv[2])))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(lake.root), str(offset)]) for offset in (0, 0, 1)
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    held = lake.snapshots()
    assert {snapshot.pandas()["value"][0] for snapshot, _ in held} == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert all(snapshot.whole for snapshot, _ in held)
    assert [current for _, current in held].count(True) == 1
    assert not list(lake.root.rglob(".staging-*"))


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(part.read_bytes()[:-9])])
def test_publishing_a_damaged_snapshot_again_mends_it(lake: Lake, damage: Callable[[Path], None]) -> None:
    snapshot = publish(lake, frame())
    damage(snapshot.folder / "part-0.parquet")
    assert not snapshot.whole
    assert publish(lake, frame()).whole
    pd.testing.assert_frame_equal(lake.current(TABLE).pandas(), frame())


def test_only_old_snapshots_that_nothing_refers_to_can_be_pruned(lake: Lake) -> None:
    made = [publish(lake, frame(value=float(i))) for i in range(5)]
    for age, snapshot in enumerate(reversed(made)):
        os.utime(snapshot.folder / "_manifest.json", (1e9 - age, 1e9 - age))
    trained, *_ = made
    lake.publish(
        "scores",
        DAY,
        writer(frame()),
        built_from={TABLE: made[1].manifest.digest},
        fingerprint="s",
        code={},
    )
    assert lake.prunable(5, 2e9) == []
    assert lake.prunable(1, 0.0) == []
    found = lake.prunable(2, 2e9, {trained.manifest.digest})
    assert [snapshot.folder for snapshot in found] == [made[2].folder]
    assert [s.folder for s in lake.prunable(0, 2e9)] == [made[3].folder, made[2].folder, trained.folder]


def test_a_removed_snapshot_is_gone_and_the_current_one_is_not_removed(lake: Lake) -> None:
    old, new = publish(lake, frame()), publish(lake, frame(value=2.0))
    assert (lake.remove(old), lake.remove(new)) == (True, False)
    assert [snapshot.folder for snapshot, _ in lake.snapshots()] == [new.folder]

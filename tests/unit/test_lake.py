"""What makes tables and files equal, what names a lake, and how its files survive disks and kills."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.errors import LakeError, UsageError
from spanishgas.lake import Lake, file_digest, local_path, location, rows_digest
from spanishgas.lake.store import staged, sweep
from spanishgas.lifecycle.lineage import lineage
from tests.lake_writer import DAY, LATER, TABLE, frame, publish


def digest(content: pd.DataFrame) -> tuple[list[str], int]:
    return rows_digest(pa.Table.from_pandas(content, preserve_index=False))


def test_a_file_uri_is_the_folder_it_names(tmp_path: Path) -> None:
    assert Lake(f"file://{tmp_path}").root == tmp_path


@pytest.mark.parametrize("name", ["lake", "my lake", "50 % #1?", "as%20typed"])
def test_a_place_is_the_same_as_a_path_and_as_a_uri_encoded_or_not(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for form in (folder, str(folder), f"{folder}/", folder.as_uri(), f"file://localhost{quote(str(folder))}"):
        assert local_path(form) == folder
        assert location(form) == str(folder)
    assert local_path(f"file://{folder}") == folder, "literally"


def test_a_place_on_s3_is_its_uri() -> None:
    assert location("s3://bucket/lake/") == "s3://bucket/lake"


def test_lineage_takes_a_table_by_folder_or_file_as_path_or_uri(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "my lake")
    snapshot = publish(lake, frame())
    part = next(snapshot.folder.glob("*.parquet"))
    assert snapshot.uri == str(part.parent)
    for place in (part, part.parent):
        for form in (str(place), place.as_uri(), f"file://{place}", f"{place}/"):
            found = lineage(form, lake)
            assert (found.what, found.facts["uri"]) == ("gold_master", snapshot.uri)


def test_another_scheme_is_refused_as_lake() -> None:
    with pytest.raises(UsageError, match="'gs://bucket/lake' is neither a folder nor s3://bucket/prefix"):
        Lake("gs://bucket/lake")


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
    content = pd.DataFrame({"a": [1, 2, 3]})
    assert digest(content) != digest(pd.concat([content, content]))
    assert digest(pd.DataFrame({"a": [1, 1, 2]})) != digest(pd.DataFrame({"a": [1, 2, 2]}))


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


@pytest.mark.parametrize("ending", ["part-*.parquet", "_manifest.json", "_current.json"])
def test_no_bit_of_a_table_can_change_without_a_word_or_harm(tmp_path: Path, ending: str) -> None:
    lake = Lake(tmp_path)
    made = publish(lake, frame())
    publish(lake, frame(value=2.0), LATER)
    [file] = (tmp_path / made.key).parent.rglob(f"{ending}")
    whole, refused = file.read_bytes(), []
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            found = lake.current(TABLE, DAY)
            pd.testing.assert_frame_equal(found.pandas(), frame())
            assert found.manifest == made.manifest
        except LakeError as fault:
            refused.append(str(fault))
    assert len(refused) > min(100, len(whole) / 2)
    assert [words for words in refused if file.name not in words or "\n" in words] == []


@pytest.mark.parametrize("text", [b"", b"PAR1", b"not a table at all", b"\0" * 4096])
def test_an_empty_or_foreign_part_is_named(tmp_path: Path, text: bytes) -> None:
    snapshot = publish(Lake(tmp_path), frame())
    [part] = tmp_path.rglob("*.parquet")
    part.write_bytes(text)
    with pytest.raises(LakeError, match=part.name):
        snapshot.pandas()


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    snapshot = publish(Lake(tmp_path), frame())
    [part] = tmp_path.rglob("*.parquet")
    before, whole = part.stat(), bytearray(part.read_bytes())
    snapshot.pandas()
    whole[40] ^= 4
    part.write_bytes(whole)
    os.utime(part, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(LakeError, match="was changed since"):
        snapshot.pandas()


def test_a_part_is_read_for_its_digest_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spanishgas.lake import digests

    snapshot, read = publish(Lake(tmp_path), frame()), []
    monkeypatch.setattr(digests, "SETTLED", -1)
    monkeypatch.setattr(digests, "file_digest", lambda file: read.append(file) or file_digest(file))
    for _ in range(3):
        snapshot.pandas()
    assert len(read) == 1


def test_a_folder_in_a_files_place_is_no_table_that_never_was(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish(lake, frame())
    home = (tmp_path / publish(lake, frame(), LATER).key).parent
    (home / "_current.json").unlink()
    (home / "_current.json").mkdir()
    with pytest.raises(LakeError, match=r"_current\.json cannot be read \(.*directory"):
        lake.current(TABLE)


def test_what_may_not_be_read_is_named_and_publishing_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, real = Lake(tmp_path), Path.open
    publish(lake, frame())
    pointer = next(tmp_path.rglob("_current.json"))
    forbidden = pointer.stat().st_ino

    def denied(path: Path, *words: object, **more: object) -> object:
        if path.exists() and path.stat().st_ino == forbidden:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *words, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(LakeError, match=r"_current\.json cannot be read \(.*Permission denied"):
        lake.current(TABLE)
    publish(lake, frame())
    assert len(lake.current(TABLE).pandas()) == 3


def test_a_file_is_on_disk_before_its_name_is_and_the_name_before_the_next_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, replace = [], os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(f"-> {Path(b).name}"), replace(a, b)))
    made = publish(Lake(tmp_path), frame())
    home = [*map(str, made.key.split("/"))]
    [part] = made.manifest.parts
    steps = [
        ("_current.json", home[2]),
        (part, home[3]),
        ("_manifest.json", home[3]),
        ("_current.json", home[2]),
    ]
    wanted = [word for file, folder in steps for word in (file, f"-> {file}", folder)]
    following = iter(done)
    assert all(word in following for word in wanted), done


def test_temporary_folders_go_when_their_writer_is_gone_and_no_sooner(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from spanishgas.lake.store import staged\n"
        "with staged(Path(sys.argv[1])) as s: (s / 'a').write_text('C1'); print(s, flush=True); time.sleep(600)\n"
    )
    old = [".2024-12-31.0a1b2c3d", ".churn_probability.parquet.0a1b2c3d", f".x-{'0' * 32}", ".staging-killed"]
    for name in old:
        (tmp_path / "raw" / name).mkdir(parents=True)
    kept = [tmp_path / ".backup-20241231", tmp_path / ".git", tmp_path / "raw" / "2024-12-31"]
    for folder in kept:
        folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "raw")], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        living = Path(writer.stdout.readline().strip())
        with staged(tmp_path) as mine:
            assert {path.name for path in sweep(tmp_path, dry=True)} == {*old}
            sweep(tmp_path)
            assert living.exists()
            assert mine.exists()
        writer.kill()
    assert sweep(tmp_path) == [living]
    assert not living.exists()
    assert all(folder.exists() for folder in kept)

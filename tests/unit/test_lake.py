"""What makes tables and files equal, and what names a lake."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.errors import UsageError
from spanishgas.lake import Lake, file_digest, local_path, location, rows_digest
from spanishgas.lifecycle.lineage import lineage
from tests.lake_writer import frame, publish


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

"""Bodies of the serving process: what is read, to the last digit, and what is refused without telling a value."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.config.search import LOGISTIC
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Media, Refused
from tests.churn_models import churn_model, odd_gold

SECRET = "Sr. García"
WANTED = {"customer_id": pa.string(), "kwh": pa.float64(), "channel": pa.string()}
ROWS = {"customer_id": ["a", "b"], "kwh": [0.1, None], "channel": [None, ""]}


def parquet(columns: dict[str, object]) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), out)
    return out.getvalue().to_pybytes()


def split(columns: list[str], data: list[list[object]]) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()


def refusal(body: bytes, media: Media, rows: int = 100) -> Refused:
    with pytest.raises(Refused) as caught:
        payload.read(body, media, WANTED, rows)
    assert SECRET not in str(caught.value)
    assert SECRET not in json.dumps(caught.value.where)
    return caught.value


BODIES = {
    Media.PARQUET: parquet(ROWS),
    Media.CSV: b'customer_id,extra,kwh,channel\na,1,0.1,\n"b",2,,""\n',
    Media.JSON: split(["channel", "customer_id", "kwh"], [[None, "a", 0.1], ["", "b", None]]),
}


@pytest.mark.parametrize("media", Media)
def test_every_format_gives_the_same_rows_and_tells_null_from_empty(media: Media) -> None:
    frame = payload.read(BODIES[media], media, WANTED, 100)
    pd.testing.assert_frame_equal(frame, pa.table(ROWS).to_pandas())


@pytest.mark.parametrize("media", [Media.PARQUET, Media.CSV])
def test_odd_rows_come_through_each_format_to_the_last_bit(media: Media) -> None:
    wanted = payload.inputs(churn_model(LOGISTIC))
    table = pa.Table.from_pandas(odd_gold(), preserve_index=False).select(list(wanted))
    table = table.cast(pa.schema(wanted))
    frame = payload.read(payload.write(table, media), media, wanted, 1000)
    pd.testing.assert_frame_equal(frame, table.to_pandas(), check_exact=True)


@pytest.mark.parametrize("media", Media)
def test_a_missing_column_is_refused_by_name(media: Media) -> None:
    bodies = {
        Media.PARQUET: parquet({"customer_id": [SECRET], "kwh": [1.0]}),
        Media.CSV: f"customer_id,kwh\n{SECRET},1\n".encode(),
        Media.JSON: split(["customer_id", "kwh"], [[SECRET, 1]]),
    }
    fault = refusal(bodies[media], media)
    assert (fault.status, fault.where) == (400, {"columns": ["channel"]})


@pytest.mark.parametrize("media", Media)
def test_text_where_numbers_belong_is_refused_by_name(media: Media) -> None:
    bodies = {
        Media.PARQUET: parquet({"customer_id": ["a"], "kwh": [SECRET], "channel": ["x"]}),
        Media.CSV: f"channel,customer_id,kwh\nx,a,{SECRET}\n".encode(),
        Media.JSON: split(["customer_id", "kwh", "channel"], [["a", SECRET, "x"]]),
    }
    fault = refusal(bodies[media], media)
    assert fault.status == 400
    assert fault.where == {"column": "kwh", "expected": "numbers"}


@pytest.mark.parametrize("media", [Media.PARQUET, Media.JSON])
def test_numbers_where_text_belongs_are_refused_by_name(media: Media) -> None:
    bodies = {
        Media.PARQUET: parquet({"customer_id": ["a"], "kwh": [1], "channel": [7]}),
        Media.JSON: split(["customer_id", "kwh", "channel"], [["a", 1, 7]]),
    }
    assert refusal(bodies[media], media).where == {"column": "channel", "expected": "text"}


@pytest.mark.parametrize("media", Media)
def test_a_row_without_an_id_is_refused(media: Media) -> None:
    bodies = {
        Media.PARQUET: parquet({"customer_id": [SECRET, None], "kwh": [1.0, 1.0], "channel": ["x", "x"]}),
        Media.CSV: f"customer_id,kwh,channel\n{SECRET},1,x\n,1,x\n".encode(),
        Media.JSON: split(["customer_id", "kwh", "channel"], [[SECRET, 1, "x"], [None, 1, "x"]]),
    }
    assert refusal(bodies[media], media).where == {"column": "customer_id"}


@pytest.mark.parametrize("media", Media)
@pytest.mark.parametrize("body", [b"", b"\xff\xfe nonsense", b"{}", b"PAR1PAR1"])
def test_what_is_no_table_is_refused(media: Media, body: bytes) -> None:
    assert refusal(body, media).status == 400


def test_a_damaged_parquet_file_is_refused() -> None:
    body = bytearray(parquet({"customer_id": [SECRET] * 50, "kwh": [1.0] * 50, "channel": ["x"] * 50}))
    body[10:60] = b"\x00" * 50
    assert refusal(bytes(body), Media.PARQUET).where == {"body": "parquet"}


@pytest.mark.parametrize(
    "body",
    [f"customer_id,kwh,channel\n{SECRET},1\n", f"customer_id,kwh,channel\n{SECRET},1,x,y\n"],
)
def test_rows_of_another_length_than_the_header_are_refused_unquoted(body: str) -> None:
    assert refusal(body.encode(), Media.CSV).where == {"body": "csv"}


def test_a_column_that_stands_twice_is_refused() -> None:
    fault = refusal(f"customer_id,kwh,kwh,channel\n{SECRET},1,2,x\n".encode(), Media.CSV)
    assert fault.where == {"columns": ["kwh"]}


@pytest.mark.parametrize("media", Media)
def test_more_rows_than_a_part_may_have_are_refused(media: Media) -> None:
    assert refusal(BODIES[media], media, rows=1).status == 413


@pytest.mark.parametrize("media", Media)
def test_a_table_without_rows_is_read_as_one(media: Media) -> None:
    bodies = {
        Media.PARQUET: parquet({n: pa.array([], t) for n, t in WANTED.items()}),
        Media.CSV: b"customer_id,kwh,channel\n",
        Media.JSON: split(list(WANTED), []),
    }
    frame = payload.read(bodies[media], media, WANTED, 100)
    assert (len(frame), list(frame)) == (0, list(WANTED))


def test_a_column_of_nulls_without_a_type_of_its_own_is_read() -> None:
    body = parquet({"customer_id": ["a"], "kwh": pa.nulls(1), "channel": pa.nulls(1)})
    assert payload.read(body, Media.PARQUET, WANTED, 10)[["kwh", "channel"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("header", "media"),
    [
        (None, Media.CSV),
        ("*/*", Media.CSV),
        ("application/json", Media.JSON),
        ("text/html, application/x-parquet;q=0.9, text/csv;q=0.5", Media.PARQUET),
        ("text/*;q=0.1, application/json;q=0", Media.CSV),
    ],
)
def test_the_answer_is_in_the_most_wanted_format(header: str | None, media: Media) -> None:
    assert payload.accepted(header, Media.CSV) is media


def test_a_format_that_is_not_written_is_refused() -> None:
    with pytest.raises(Refused, match="none of the accepted types") as caught:
        payload.accepted("image/png", Media.CSV)
    assert caught.value.status == 406


@pytest.mark.parametrize("header", [None, "", "application/octet-stream", "text/plain"])
def test_a_body_of_another_type_is_refused(header: str | None) -> None:
    with pytest.raises(Refused) as caught:
        payload.media_type(header)
    assert caught.value.status == 415

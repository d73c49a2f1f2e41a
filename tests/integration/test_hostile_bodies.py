"""Whatever is sent to the serving process: 200 or 4xx within bounds of memory and time, and the next is scored."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from spanishgas.config.search import LOGISTIC, XGBOOST
from spanishgas.scoring import payload
from spanishgas.scoring.local import Endpoint, serving_process
from spanishgas.scoring.payload import Media
from spanishgas.scoring.serving import create_app
from spanishgas.scoring.settings import Serving
from tests.churn_models import SMALL, artefact_of, churn_model, odd_gold

MODEL = XGBOOST
SECRET = "Sr. García"
MB = 2**20
DECODED_MB = 64
LIMITS = {"payload_mb": 1, "decoded_mb": DECODED_MB, "max_rows": 500_000, "body_seconds": 3.0}
ENVIRONMENT = {f"SPANISHGAS_SERVE_{name.upper()}": str(value) for name, value in LIMITS.items()}


@cache
def table(name: str = MODEL) -> pa.Table:
    wanted = payload.inputs(churn_model(name))
    return (
        pa.Table.from_pandas(odd_gold(20), preserve_index=False).select(list(wanted)).cast(pa.schema(wanted))
    )


@cache
def good(media: Media) -> bytes:
    if media is not Media.JSON:
        return payload.write(table(), media)
    return split(table().column_names, [list(row.values()) for row in table().to_pylist()])


def split(columns: Sequence[object], data: object) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()


def with_number(media: Media, words: bytes) -> bytes:
    """A body whose first number, in the row of a secret customer, is `words`."""
    names = table().column_names
    row = ["0.5" if pa.types.is_floating(f.type) else f'"{SECRET}"' for f in table().schema]
    row[next(i for i, f in enumerate(table().schema) if pa.types.is_floating(f.type))] = words.decode()
    if media is Media.CSV:
        return (",".join(names) + "\n" + ",".join(row) + "\n").encode()
    return f'{{"dataframe_split": {{"columns": {json.dumps(names)}, "data": [[{",".join(row)}]]}}}}'.encode()


def parquet(changes: dict[str, object], rows: int = 1, **options: object) -> bytes:
    columns = {
        f.name: pa.array([SECRET] * rows) if pa.types.is_string(f.type) else pa.nulls(rows, pa.float64())
        for f in table().schema
    }
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(columns | changes), out, **options)
    return out.getvalue().to_pybytes()


def number() -> str:
    return next(f.name for f in table().schema if pa.types.is_floating(f.type))


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))


def bad_utf8() -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )


PARQUET, CSV, JSON = (media.value for media in Media)
Cases = dict[str, tuple[str, bytes]]


@cache
def malformed() -> Cases:
    return {
        "nothing": (PARQUET, b""),
        "cut": (PARQUET, good(Media.PARQUET)[:-20]),
        "without its head": (PARQUET, good(Media.PARQUET)[100:]),
        "with garbage behind": (PARQUET, good(Media.PARQUET) + b"garbage"),
        "encrypted": (PARQUET, b"PARE" + good(Media.PARQUET)[4:-4] + b"PARE"),
        "a footer of 4 GB": (PARQUET, good(Media.PARQUET)[:-8] + b"\xff\xff\xff\xffPAR1"),
        "a column of structs": (PARQUET, parquet({number(): pa.array([{SECRET: 1}])})),
        "a column of lists": (PARQUET, parquet({number(): pa.array([[1.0]])})),
        "text that is no UTF-8": (PARQUET, parquet({"customer_id": bad_utf8()})),
        "infinite in Parquet": (PARQUET, parquet({number(): pa.array([float("inf")])})),
        "beyond single precision": (PARQUET, parquet({number(): pa.array([1e39])})),
        "infinite in CSV": (CSV, with_number(Media.CSV, b"inf")),
        "-Infinity in CSV": (CSV, with_number(Media.CSV, b"-Infinity")),
        "1e999 in CSV": (CSV, with_number(Media.CSV, b"1e999")),
        "other text in CSV": (CSV, with_number(Media.CSV, SECRET.encode())),
        "UTF-16": (CSV, good(Media.CSV).decode().encode("utf-16")),
        "UTF-16 without a mark": (CSV, good(Media.CSV).decode().encode("utf-16-le")),
        "Latin-1": (CSV, with_number(Media.CSV, b"1").decode().encode("latin-1")),
        "compressed": (CSV, zlib.compress(good(Media.CSV))),
        "ragged": (CSV, with_number(Media.CSV, b"1,2")),
        "a header of one huge cell": (CSV, b"x" * 200_000),
        "lines ended by CR": (CSV, good(Media.CSV).replace(b"\n", b"\r")),
        "NaN in JSON": (JSON, with_number(Media.JSON, b"NaN")),
        "Infinity in JSON": (JSON, with_number(Media.JSON, b"-Infinity")),
        "1e999 in JSON": (JSON, with_number(Media.JSON, b"1e999")),
        "an integer of 400 digits": (JSON, with_number(Media.JSON, b"9" * 400)),
        "an integer of 5,000 digits": (JSON, with_number(Media.JSON, b"9" * 5000)),
        "an object for a number": (JSON, with_number(Media.JSON, b"{}")),
        "a lone surrogate": (JSON, with_number(Media.JSON, b"1").replace(b"Sr.", b"\\ud800")),
        "an encoded surrogate": (JSON, with_number(Media.JSON, b"1").replace(b"Sr.", b"\xed\xa0\x80")),
        "deep": (JSON, b"[" * 500_000),
        "deep objects": (JSON, b'{"a":' * 100_000),
        "UTF-16 JSON": (JSON, good(Media.JSON).decode().encode("utf-16")),
        "garbage behind JSON": (JSON, good(Media.JSON) + b"x"),
        "a row of text": (JSON, split(["a"], ["b"])),
        "columns that are text": (JSON, split("abc", [[1, 2, 3]])),
        "columns that are lists": (JSON, split([[]], [[1]])),
        "data that is an object": (JSON, split(table().column_names, {SECRET: 1})),
        "a list": (JSON, b"[]"),
        "null": (JSON, b"null"),
    }


@cache
def too_large() -> Cases:
    return {
        "9 GB of text in a dictionary": (
            PARQUET,
            parquet(
                {"channel": pa.nulls(1)}
                | {
                    "customer_id": repeated("x" * 18_000, 500_000),
                    **{f.name: pa.nulls(500_000, f.type) for f in table().schema if f.name != "customer_id"},
                    "channel": pa.nulls(500_000),
                }
            ),
        ),
        "more rows than allowed": (
            PARQUET,
            parquet(
                {
                    f.name: pa.array(["a"] * 600_000)
                    if f.name == "customer_id"
                    else pa.nulls(600_000, f.type)
                    for f in table().schema
                }
            ),
        ),
        "a long text, compressed": (
            PARQUET,
            parquet({"customer_id": pa.array(["x" * 200 * MB])}, compression="zstd"),
        ),
        "very many columns": (PARQUET, parquet({f"c{i}": pa.nulls(1) for i in range(1_500)})),
        "very many columns in CSV": (CSV, b",".join(b"c%d" % i for i in range(100_000))),
        "very many empty lists": (
            JSON,
            b'{"dataframe_split":{"columns":[],"data":[' + b"[]," * 330_000 + b"[]]}}",
        ),
    }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    folder = artefact_of(MODEL, tmp_path_factory.mktemp("model"))
    with serving_process(folder, environment=ENVIRONMENT) as endpoint:
        yield endpoint


def lives(served: Endpoint) -> None:
    assert served.post(good(Media.CSV), CSV, CSV, timeout=60).status == 200
    assert SECRET not in served.said()


def test_a_malformed_body_is_a_400_of_one_sentence_without_its_values(served: Endpoint) -> None:
    others = {}
    for case, (media, body) in malformed().items():
        answer = served.post(body, media, "*/*", timeout=100)
        message = json.loads(answer.data)["error"]["message"]
        if answer.status != 400 or SECRET in message or SECRET.encode() in answer.data or "\n" in message:
            others[case] = answer
    assert others == {}
    lives(served)


@pytest.mark.slow
def test_a_body_that_decodes_to_more_than_it_may_is_refused(served: Endpoint) -> None:
    answers = {
        case: served.post(body, media, "*/*", timeout=100).status
        for case, (media, body) in too_large().items()
    }
    assert max(len(body) for _, body in too_large().values()) < MB
    assert {case for case, status in answers.items() if status not in (400, 413)} == set()
    assert list(answers.values()).count(413) >= 4
    lives(served)


def test_a_file_that_claims_less_than_it_holds_is_a_413(served: Endpoint) -> None:
    body = parquet({"customer_id": pa.array(["x" * 200 * MB])}, compression="zstd", use_dictionary=False)
    # Every size of 200 MB in the footer, and there alone, as thrift writes it, becomes one of 1 kB of as many bytes.
    at = len(body) - 8 - struct.unpack("<I", body[-8:-4])[0]
    file = pq.ParquetFile(pa.BufferReader(body)).metadata.row_group(0)
    footer = body[at:]
    for size in {file.total_byte_size, file.column(0).total_uncompressed_size}:
        assert varint(size) in footer
        footer = footer.replace(varint(size), varint(1024, len(varint(size))))
    assert pq.ParquetFile(pa.BufferReader(body[:at] + footer)).metadata.row_group(0).total_byte_size < MB
    answer = served.post(body[:at] + footer, PARQUET, "*/*", timeout=60)
    assert answer.status == 413, answer.data
    lives(served)


def varint(value: int, length: int = 0) -> bytes:
    value, found = value << 1, bytearray()
    while value or len(found) < length:
        found.append(value & 127 | 128)
        value >>= 7
    found[-1] &= 127
    return bytes(found)


def high_water(pid: int) -> int:
    """Most resident memory that a process or one of its children ever took."""
    status = Path(f"/proc/{pid}/status").read_text()
    own = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max([own, *(high_water(int(child)) for child in children)])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at /proc")
def test_no_body_takes_more_memory_than_a_few_times_what_its_table_may(served: Endpoint) -> None:
    lives(served)
    before = high_water(served.process.pid)
    for media, body in [*too_large().values(), *malformed().values()]:
        served.post(body, media, "*/*", timeout=60)
    rows = 200_000
    whole = {f.name: pa.nulls(rows, f.type) for f in table().schema} | {
        "customer_id": pa.array([str(i % 10) for i in range(rows)])
    }
    assert served.post(parquet(whole, rows), PARQUET, PARQUET, timeout=100).status in (200, 413)
    assert high_water(served.process.pid) - before < 8 * DECODED_MB * MB
    lives(served)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": CSV, "content-encoding": "gzip"}, 415),
        ({"content-type": CSV, "content-encoding": "identity"}, 200),
        ({"content-type": f"{CSV}; charset=utf-16"}, 415),
        ({"content-type": f'{CSV}; header=present; charset="UTF-8"'}, 200),
        ({"content-type": JSON}, 400),
        ({"content-type": "text/plain"}, 415),
        ({}, 415),
    ],
)
def test_what_the_headers_say_of_a_body_is_held_against_it(headers: dict[str, str], status: int) -> None:
    assert asked(app(), good(Media.CSV), headers)[0] == status


@pytest.mark.parametrize("media", [CSV, JSON])
def test_a_byte_order_mark_a_nul_and_a_customer_twice_are_no_fault(media: str) -> None:
    body = good(Media(media))
    twice = body.replace(b"\xc3\x91and\xc3\xba-1", b"NUL").replace(b"\\u00d1and\\u00fa-1", b"a\\u0000b")
    assert asked(app(), b"\xef\xbb\xbf" + twice, {"content-type": media})[0] == 200


def connect(served: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=60)


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\n"


def test_a_slow_body_holds_up_neither_pings_nor_scores_and_ends_with_408(served: Endpoint) -> None:
    with connect(served) as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\ncustomer")
        assert served.get("/ping").status == 200
        lives(served)
        assert served.get("/ping").status == 200
        assert slow.recv(64).startswith(b"HTTP/1.1 408")


def test_a_body_that_trickles_for_ever_ends_with_408(served: Endpoint) -> None:
    with connect(served) as slow:
        slow.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        slow.settimeout(0.1)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                slow.sendall(b"1\r\nx\r\n")
                if said := slow.recv(64):
                    assert said.startswith(b"HTTP/1.1 408")
                    return
            except TimeoutError:
                continue
        pytest.fail("no answer")


@pytest.mark.slow
def test_more_large_bodies_at_a_time_than_memory_is_for_are_told_to_come_again() -> None:
    async def main() -> list[int]:
        application = create_app(churn_model(MODEL), Serving(payload_mb=1, body_seconds=2))
        return await asyncio.gather(
            *(called(application, [b"x" * MB, None], {"content-type": CSV}) for _ in range(6))
        )

    answers = [status for status, _ in asyncio.run(main())]  # type: ignore[misc]
    assert sorted(answers) == [408, 408, 408, 408, 503, 503]


@pytest.mark.parametrize(
    "rest", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf"]
)
def test_a_client_that_goes_away_leaves_no_failure_in_the_log(served: Endpoint, rest: bytes) -> None:
    before = served.said()
    with connect(served) as client:
        client.sendall(HEAD + rest)
    lives(served)
    assert "Traceback" not in served.said().removeprefix(before)


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"\r\n", b"400"),
        (b"Content-Length: -1\r\n\r\n", b"400"),
        (b"Content-Length: 99999999999999999999\r\n\r\n", b"400"),
        (b"Content-Length: 0\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_a_request_without_a_proper_length_is_a_400(served: Endpoint, rest: bytes, status: bytes) -> None:
    with connect(served) as client:
        client.sendall(HEAD + rest)
        assert client.recv(64).split()[1] == status
    lives(served)


@cache
def app(name: str = MODEL) -> Starlette:
    return create_app(churn_model(name), Serving(**LIMITS))  # type: ignore[arg-type]


async def called(
    application: Starlette, chunks: Sequence[bytes | None], headers: dict[str, str]
) -> tuple[int, bytes]:
    """Status and body of the answer to a body that comes in chunks; None is a wait without end."""
    left, sent = iter(chunks), list[dict[str, object]]()

    async def receive() -> dict[str, object]:
        chunk = next(left, b"")
        if chunk is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()],
    }
    await application(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent)  # type: ignore[return-value,misc,arg-type]


def asked(application: Starlette, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    return asyncio.run(called(application, [body] if body else [], headers))


def altered(media: Media) -> st.SearchStrategy[bytes]:
    """A good body with a piece of it replaced."""
    body = good(media)
    place = st.integers(0, len(body))
    return st.builds(
        lambda at, length, piece: body[:at] + piece + body[at + length :],
        place,
        st.integers(0, 40),
        st.binary(max_size=40) | st.sampled_from([b"inf", b"1e400", b"[[", b'"', b"\x00", b"\xff"]),
    )


BODIES = st.binary(max_size=300) | st.one_of(*(altered(media) for media in Media))
HEADER = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20)
TYPES = st.sampled_from([*(media.value for media in Media), f"{CSV}; charset=x"]) | HEADER


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(body=BODIES, sent=TYPES, wanted=st.sampled_from(["*/*", JSON]) | HEADER)
def test_any_bytes_of_any_type_are_answered_with_200_or_4xx(body: bytes, sent: str, wanted: str) -> None:
    status, _ = asked(app(), body, {"content-type": sent, "accept": wanted})
    assert status == 200 or 400 <= status < 500
    assert asked(app(), good(Media.JSON), {"content-type": JSON})[0] == 200


FINITE = st.none() | st.floats(-3.4e38, 3.4e38) | st.integers(-(10**15), 10**15)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != LOGISTIC)) for name in SMALL]
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_row_of_the_right_types_is_scored(name: str, data: st.DataObject) -> None:
    texts = st.none() | st.text(max_size=5)
    row = [
        data.draw(
            st.text(max_size=5)
            if f.name == "customer_id"
            else FINITE
            if pa.types.is_floating(f.type)
            else texts
        )
        for f in table(name).schema
    ]
    status, answer = asked(app(name), split(table(name).column_names, [row]), {"content-type": JSON})
    assert status == 200, answer
    assert 0 <= json.loads(answer)["predictions"][0]["churn_probability"] <= 1

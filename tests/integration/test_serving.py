"""The process that the serving image starts, asked as SageMaker asks it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import skops.io

from spanishgas.config.search import XGBOOST
from spanishgas.scoring import payload, serving
from spanishgas.scoring.local import COMMAND, Endpoint, ServingError, serving_process
from spanishgas.scoring.payload import Media
from spanishgas.scoring.settings import LISTENING
from spanishgas.settings import PROJECT
from tests.churn_models import artefact_of, churn_model, odd_gold

MODEL = XGBOOST


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    root = tmp_path_factory.mktemp("served")
    with serving_process(
        artefact_of(MODEL, root / "model"), root / "log", {"SPANISHGAS_SERVE_PAYLOAD_MB": "1"}
    ) as endpoint:
        yield endpoint


def part(media: Media) -> bytes:
    wanted = payload.inputs(churn_model(MODEL))
    table = pa.Table.from_pandas(odd_gold(), preserve_index=False).select(list(wanted))
    if media is not Media.JSON:
        return payload.write(table, media)
    data = [list(row.values()) for row in table.to_pylist()]
    return json.dumps({"dataframe_split": {"columns": list(wanted), "data": data}}).encode()


def read(body: bytes, media: Media) -> pd.DataFrame:
    if media is Media.PARQUET:
        return pa.parquet.read_table(pa.BufferReader(body)).to_pandas()
    if media is Media.CSV:
        types = {"customer_id": pa.string(), "churn_probability": pa.float64(), "churn_flag": pa.int64()}
        options = pa.csv.ConvertOptions(column_types=types)
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        return pa.csv.read_csv(
            pa.BufferReader(body), parse_options=parse, convert_options=options
        ).to_pandas()
    return pd.DataFrame(json.loads(body)["predictions"])


def test_the_image_starts_the_process_that_is_tested_here() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    stage = dockerfile[dockerfile.index(" AS serve\n") :]
    entry, command = (
        json.loads(re.search(rf"^{w} (\[.*\])$", stage, re.M)[1]) for w in ("ENTRYPOINT", "CMD")
    )  # type: ignore[index]
    assert [*entry, *command] == ["python", *COMMAND[1:]]
    assert re.search(r"^USER \d+$", stage, re.M)


def test_it_answers_pings_and_says_what_it_takes(served: Endpoint) -> None:
    assert served.get("/ping").status == 200
    assert json.loads(served.get("/execution-parameters").data) == {
        "MaxConcurrentTransforms": 1,
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": 1,
    }


@pytest.mark.parametrize("sent", Media)
@pytest.mark.parametrize("wanted", Media)
def test_it_answers_every_format_in_every_format_with_the_models_own_numbers(
    served: Endpoint, sent: Media, wanted: Media
) -> None:
    gold = odd_gold()
    answer = served.post(part(sent), sent, wanted, timeout=30)
    assert answer.status == 200, answer.data
    expected = churn_model(MODEL).predict(gold)
    expected.insert(0, "customer_id", gold["customer_id"])
    found = read(answer.data, wanted)
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)


@pytest.mark.parametrize(
    ("body", "sent", "status", "named"),
    [
        (b"customer_id\nx\n", "text/csv", 400, "months_to_renewal"),
        (b"x", "application/x-parquet", 400, "Parquet"),
        (b"x", "image/png", 415, "image/png"),
        (b"x" * 2_000_000, "text/csv", 413, "1 MB"),
    ],
)
def test_it_refuses_with_a_reason_in_json(
    served: Endpoint, body: bytes, sent: str, status: int, named: str
) -> None:
    answer = served.post(body, sent, "*/*", timeout=30)
    assert answer.status == status
    assert named in json.loads(answer.data)["error"]["message"]


def test_it_goes_on_after_a_refusal_and_logs_no_customer(served: Endpoint) -> None:
    bad = part(Media.CSV).replace(b"Contract Renewal", b"\xff\xfe")
    assert served.post(bad, "text/csv", "text/csv", timeout=30).status == 400
    assert served.post(part(Media.CSV), "text/csv", "text/csv", timeout=30).status == 200
    assert not any(name in served.said() for name in ("Ñandú", "客户", "C00042"))


@pytest.mark.slow
def test_two_workers_answer_on_one_port(tmp_path: Path) -> None:
    environment = {"SPANISHGAS_SERVE_WORKERS": "2"}
    with serving_process(artefact_of(MODEL, tmp_path), tmp_path / "log", environment) as endpoint:
        assert json.loads(endpoint.get("/execution-parameters").data)["MaxConcurrentTransforms"] == 2
        assert endpoint.post(part(Media.CSV), "text/csv", "text/csv", timeout=30).status == 200


class Stranger:
    """A type that no artefact of this project holds."""


def refusal_to_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int = 2
) -> str:
    monkeypatch.setenv("SM_MODEL_DIR", str(folder))
    monkeypatch.setenv("SPANISHGAS_SERVE_PORT", "0")
    assert serving.main(["serve"]) == code
    printed = capsys.readouterr()
    assert LISTENING not in printed.out
    return printed.err


def test_more_in_flight_than_sagemaker_allows_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPANISHGAS_SERVE_WORKERS", "4")
    monkeypatch.setenv("SPANISHGAS_SERVE_PAYLOAD_MB", "30")
    assert "4 workers x 30 MB is more than 100 MB" in refusal_to_start(tmp_path, monkeypatch, capsys)


def test_an_artefact_with_a_foreign_type_stops_it_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    skops.io.dump(Stranger(), tmp_path / "model.skops")
    assert re.search("not trusted.*Stranger", refusal_to_start(tmp_path, monkeypatch, capsys))


def test_a_damaged_artefact_stops_it_before_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact = artefact_of(MODEL, tmp_path) / "model.skops"
    artefact.write_bytes(artefact.read_bytes()[:-1])
    assert "is damaged" in refusal_to_start(tmp_path, monkeypatch, capsys, code=1)


def test_a_folder_without_a_model_stops_the_process_with_a_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(ServingError, match=r"exit code 2:\n(.*\n)*.*it has no model\.skops"),
        serving_process(tmp_path, tmp_path / "log"),
    ):
        pass


def test_it_needs_neither_the_tracking_nor_the_lake_packages() -> None:
    code = "import sys, spanishgas.scoring.serving, spanishgas.training.estimators; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    heavy = {"mlflow", "ibis", "duckdb", "optuna", "evidently", "boto3", "typer", "matplotlib"}
    assert heavy & set(found.stdout.split()) == set()

"""Gold in parts and answers held against them: nothing lost, nothing added, the same cut every time."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.errors import UsageError
from spanishgas.lake import Lake, Snapshot
from spanishgas.scoring import payload
from spanishgas.scoring.jobs import estimate
from spanishgas.scoring.parts import Part, Shards, TransformError, reconciled
from spanishgas.scoring.payload import Media
from spanishgas.scoring.settings import Transform, read_settings
from spanishgas.settings import PROJECT
from tests.churn_models import odd_gold

DAY = date(2024, 12, 31)
COLUMNS = ["customer_id", "segment", "std_margin"]


def published(root: Path, *frames: pd.DataFrame) -> Snapshot:
    def write(folder: Path) -> None:
        for i, frame in enumerate(frames):
            frame.to_parquet(folder / f"part-{i}.parquet", index=False, row_group_size=70)

    return Lake(root).publish("gold_master", DAY, write, built_from={}, fingerprint="x", code={})


@pytest.fixture(scope="module")
def gold(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    frame = odd_gold(300)
    return published(tmp_path_factory.mktemp("lake"), frame[:130], frame[130:])


def shards(
    gold: Snapshot, rows: int = 64, payload_bytes: int = 10**6, media: Media = Media.PARQUET
) -> Shards:
    return Shards(gold, COLUMNS, media, rows, payload_bytes, beside=("customer_id", "avg_monthly_margin"))


def decoded(body: bytes, media: Media) -> pd.DataFrame:
    kinds = {"customer_id": pa.string(), "segment": pa.string(), "std_margin": pa.float64()}
    return payload.read(body, media, kinds, 10**6)


@pytest.mark.parametrize("media", [Media.PARQUET, Media.CSV])
def test_parts_hold_every_row_in_order_across_files_and_row_groups(gold: Snapshot, media: Media) -> None:
    parts = list(shards(gold, media=media))
    together = pd.concat([decoded(part.body, media) for part in parts], ignore_index=True)
    assert [len(part.customers) for part in parts] == [64, 64, 64, 64, 44]
    pd.testing.assert_frame_equal(together, gold.pandas(COLUMNS), check_exact=True)


def test_the_same_table_is_cut_into_the_same_parts(gold: Snapshot) -> None:
    first, second = ([(part.name, part.body) for part in shards(gold)] for _ in range(2))
    assert first == second


def test_a_part_over_the_payload_is_halved_until_it_fits(gold: Snapshot) -> None:
    parts = list(shards(gold, rows=300, payload_bytes=2000, media=Media.CSV))
    assert len(parts) > 4
    assert all(len(part.body) <= 2000 for part in parts)
    assert sum(len(part.customers) for part in parts) == 300
    together = pd.concat([decoded(part.body, Media.CSV) for part in parts], ignore_index=True)
    assert together["customer_id"].tolist() == gold.pandas()["customer_id"].tolist()


def test_a_row_over_the_payload_is_an_error_that_names_the_setting(gold: Snapshot) -> None:
    with pytest.raises(UsageError, match="SPANISHGAS_TRANSFORM_PAYLOAD_MB"):
        list(shards(gold, payload_bytes=10))


def test_a_table_without_rows_is_one_part_without_rows(tmp_path: Path) -> None:
    cut = shards(published(tmp_path, odd_gold(20)[:0]))
    assert [len(part.customers) for part in cut] == [0]


def answers(gold: Snapshot) -> list[tuple[Part, bytes]]:
    answered = []
    for part in shards(gold):
        ids = decoded(part.body, Media.PARQUET)["customer_id"]
        scored = pd.DataFrame(
            {"churn_probability": 0.25, "churn_flag": 0, "risk_tier": "Low"}, index=ids.index
        )
        answered.append((part, payload.write(payload.answer(ids, scored), Media.PARQUET)))
    return answered


def changed(body: bytes, change: str) -> bytes:
    frame = pa.parquet.read_table(pa.BufferReader(body)).to_pandas()
    match change:
        case "lost":
            frame = frame[1:]
        case "added":
            frame = pd.concat([frame, frame[:1].assign(customer_id="X")])
        case "twice":
            frame = pd.concat([frame[:1], frame[:1], frame[2:]])
        case "order":
            frame = frame[::-1]
        case "null":
            frame["churn_probability"] = None
    return payload.write(pa.Table.from_pandas(frame, preserve_index=False), Media.PARQUET)


def test_sound_answers_reconcile_with_what_lies_beside_each_customer(gold: Snapshot) -> None:
    pairs = list(reconciled(gold, answers(gold)))
    beside = pd.concat([part.customers for part, _, _ in pairs], ignore_index=True)
    pd.testing.assert_frame_equal(beside, gold.pandas(["customer_id", "avg_monthly_margin"]))
    assert [len(scores) for _, scores, _ in pairs] == [64, 64, 64, 64, 44]
    assert len({sha256 for _, _, sha256 in pairs}) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("lost", "1 lost, 0 added"),
        ("added", "0 lost, 1 added"),
        ("twice", "1 lost, 0 added, 1 repeated"),
        ("order", "out of order"),
        ("null", "without a score"),
    ],
)
def test_an_answer_with_other_customers_than_its_part_is_refused_unnamed(
    gold: Snapshot, change: str, words: str
) -> None:
    answered = answers(gold)
    part, body = answered[2]
    answered[2] = part, changed(body, change)
    with pytest.raises(TransformError, match=f"part-00002.parquet .*{words}"):
        list(reconciled(gold, answered))


def test_a_part_without_an_answer_is_refused(gold: Snapshot) -> None:
    with pytest.raises(TransformError, match="256 rows came back of 300"):
        list(reconciled(gold, answers(gold)[:-1]))


def test_an_answer_that_is_no_table_is_refused(gold: Snapshot) -> None:
    (part, _), *others = answers(gold)
    with pytest.raises(TransformError, match=r"part-00000.parquet cannot be read"):
        list(reconciled(gold, [(part, b"oops"), *others]))


def test_the_estimate_grows_with_rows_and_shrinks_with_instances() -> None:
    one, four = Transform(price_per_hour=0.2), Transform(instances=4, price_per_hour=0.2)
    assert "about 13 minutes, 0.21 instance-hours, about 0.04" in estimate(20_000_000, 400, one)
    assert "about 8 minutes, 0.51 instance-hours, about 0.10" in estimate(20_000_000, 400, four)
    assert "SPANISHGAS_TRANSFORM_PRICE_PER_HOUR" in estimate(1, 1, Transform())


def test_the_printed_costs_are_those_of_the_estimate() -> None:
    text = (PROJECT / "docs" / "scoring.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", text, re.M)
    assert {customers for customers, *_ in rows} == {"20,099", "20,000,000"}
    for customers, instances, minutes, hours in rows:
        words = estimate(int(customers.replace(",", "")), 1, Transform(instances=int(instances)))
        assert f"about {minutes} minutes, {hours} instance-hours" in words


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CONCURRENCY", "6", "6 x 20 MB is more than 100"),
        ("MEDIA", "application/json", "JSON is for trying by hand"),
        ("RETRIES", "4", "RETRIES"),
    ],
)
def test_settings_that_sagemaker_would_refuse_are_refused_here(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"SPANISHGAS_TRANSFORM_{name}", value)
    with pytest.raises(UsageError, match=words):
        read_settings(Transform)

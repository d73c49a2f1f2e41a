"""In this process, over HTTP and by parts: the same customer gets the same number to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import spanishgas
from spanishgas.config.search import FOREST, LOGISTIC, XGBOOST
from spanishgas.errors import DataError, UsageError
from spanishgas.scoring import payload
from spanishgas.scoring.local import LocalTransform
from spanishgas.scoring.parts import Part, Shards, Task, TransformError, reconciled
from spanishgas.scoring.payload import Media
from spanishgas.scoring.serving import scored
from spanishgas.scoring.settings import Transform
from spanishgas.training.model import ChurnModel
from tests.churn_models import NATIVE, SMALL, artefact_of, churn_model, odd_gold, task_of

CASES = [
    (XGBOOST, Media.PARQUET),
    *(
        pytest.param(kind, media, marks=pytest.mark.slow)
        for kind, media in (
            (FOREST, Media.PARQUET),
            (LOGISTIC, Media.PARQUET),
            (NATIVE, Media.PARQUET),
        )
    ),
    (LOGISTIC, Media.CSV),
]


def by_parts(task: Task, media: Media, seen: list[int] | None = None) -> pd.DataFrame:
    backend = LocalTransform(Transform(media=media, retries=0, payload_mb=1, part_rows=task.shards.rows))
    steps = [] if seen is None else seen
    cut, tables = list[Part](), list[pd.DataFrame]()

    class Counted(Shards):
        def __iter__(self) -> Iterator[Part]:
            for part in super().__iter__():
                cut.append(part)
                yield part

    counted = replace(task, shards=Counted(**vars(task.shards)))
    answers = backend.answers(counted, lambda what, done, total: steps.append(done))
    for _, scores, _ in reconciled(task.shards.table, answers):
        tables.append(scores)
        # A part is cut when the one before it is written: memory does not grow with the table.
        assert len(cut) == len(tables)
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(("kind", "media"), CASES)
def test_parts_through_the_serving_process_get_the_numbers_of_this_process(
    kind: str, media: Media, tmp_path: Path
) -> None:
    frame, steps = odd_gold(), list[int]()
    expected = spanishgas.score(frame, churn_model(kind))
    found = by_parts(task_of(kind, media, tmp_path, frame, rows=37), media, steps)
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)
    assert steps == [*range(37, 297, 37), 300]


def answered(model: ChurnModel, body: bytes, media: Media) -> pd.DataFrame:
    rows = payload.read(body, media, payload.inputs(model), 20)
    return pa.parquet.read_table(pa.BufferReader(scored(model, rows, Media.PARQUET))).to_pandas()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("media", [Media.PARQUET, Media.CSV])
def test_a_row_alone_gets_the_number_it_has_among_others(kind: str, media: Media) -> None:
    model, frame = churn_model(kind), odd_gold(20)
    expected = spanishgas.score(frame, model)
    wanted = payload.inputs(model)
    table = pa.Table.from_pandas(frame, preserve_index=False).select(list(wanted))
    for size in (1, 3, 7):
        bodies = [payload.write(table.slice(i, size), media) for i in range(0, 20, size)]
        found = pd.concat([answered(model, body, media) for body in bodies])
        assert found["churn_probability"].tolist() == expected["churn_probability"].tolist()


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("media", [Media.PARQUET, Media.CSV])
def test_an_empty_part_is_answered_with_one(kind: str, media: Media) -> None:
    model = churn_model(kind)
    wanted = payload.inputs(model)
    empty = pa.Table.from_pandas(odd_gold(20), preserve_index=False).select(list(wanted)).slice(0, 0)
    assert len(answered(model, payload.write(empty, media), media)) == 0


@pytest.mark.slow
def test_a_part_that_is_refused_ends_the_transform_with_the_servers_reason(tmp_path: Path) -> None:
    task = task_of(XGBOOST, Media.PARQUET, tmp_path, odd_gold(20), rows=10)
    columns = [c for c in task.shards.columns if c != "std_margin"]
    task = replace(task, shards=replace(task.shards, columns=columns))
    with pytest.raises(TransformError, match=r"part-00000.parquet was not scored.*status 400.*std_margin"):
        by_parts(task, Media.PARQUET)


def test_the_plain_api_takes_an_artefact_and_needs_no_lake_or_tracking(tmp_path: Path) -> None:
    frame = odd_gold(20).set_index(pd.Index(range(100, 120)))
    found = spanishgas.score(frame, artefact_of(XGBOOST, tmp_path))
    expected = churn_model(XGBOOST).predict(frame)
    pd.testing.assert_frame_equal(found.drop(columns="customer_id"), expected)
    assert found["customer_id"].equals(frame["customer_id"])


def test_the_plain_api_scores_nothing_without_its_inputs() -> None:
    model, frame = churn_model(XGBOOST), odd_gold(20)
    with pytest.raises(UsageError, match="no column customer_id"):
        spanishgas.score(frame.drop(columns="customer_id"), model)
    with pytest.raises(DataError, match="std_margin"):
        spanishgas.score(frame.drop(columns="std_margin"), model)

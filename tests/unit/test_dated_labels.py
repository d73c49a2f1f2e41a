"""Labels with dates: who left within the horizon, who has no label yet, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from spanishgas.contracts import contract
from spanishgas.errors import ContractError
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.labels import DatedLabels
from spanishgas.etl.overlaps import overlaps
from spanishgas.etl.quality import ROW, Audit, Quality
from spanishgas.etl.sniff import proposal
from spanishgas.etl.source import open_source
from spanishgas.etl.template import write_template
from spanishgas.etl.validate import validate
from spanishgas.lake import Lake
from spanishgas.simulate.dates import YEARS, dated_rows, hazard_rows
from spanishgas.simulate.extract import draw_blocks, write_extract
from tests.gold_frames import gold_frame, publish_gold
from tests.raw_builder import build_raw, write_raw

AS_OF = date(2024, 12, 31)
Row = tuple[str, int, str | None, str | None]
NUMBER = iter(range(10**6))


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    with duckdb() as opened:
        yield opened


def frame(*rows: Row) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["customer_id", "churn", "churn_date", "observed_until"])


def judged(
    engine: DuckEngine, *rows: Row, as_of: date = AS_OF, horizon: int = 12, active: str = "2020-01-01"
) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """The labels by customer, and the counts of the quality report."""
    told, text = Quality(), frame(*rows)
    dates = {
        name: pd.to_datetime(text[name], errors="coerce").dt.date for name in ("churn_date", "observed_until")
    }
    typed = text.assign(**dates, **{ROW: range(len(text))})
    schema = pa.schema(
        [
            ("customer_id", pa.string()),
            ("churn", pa.int64()),
            ("churn_date", pa.date32()),
            ("observed_until", pa.date32()),
            (ROW, pa.int64()),
        ]
    )
    told.read("churn_label", pa.Table.from_pandas(text, preserve_index=False))
    contracts = pd.DataFrame(
        {"customer_id": text["customer_id"], "customer_first_activation_date": date.fromisoformat(active)}
    )
    labels = DatedLabels(as_of, horizon, Audit(engine, told)).labels(
        engine.import_table(f"l{next(NUMBER)}", pa.Table.from_pandas(typed, schema, preserve_index=False)),
        engine.import_table(f"c{next(NUMBER)}", pa.Table.from_pandas(contracts, preserve_index=False)),
    )
    return engine.fetch(labels).to_pandas().set_index("customer_id"), told.report["churn_label"]


def test_a_label_is_of_the_horizon_and_who_was_not_observed_so_long_has_none(engine: DuckEngine) -> None:
    labels, counts = judged(
        engine,
        ("on the day", 1, "2024-12-31", "2026-06-30"),
        ("last day", 1, "2025-12-31", "2026-06-30"),
        ("day after", 1, "2026-01-01", "2026-06-30"),
        ("stayed", 0, None, "2025-12-31"),
        ("lost", 0, None, "2025-12-30"),
        ("left before it was lost", 1, "2025-03-31", "2025-04-15"),
        ("twelve months hold", 0, "2026-02-01", "2026-06-30"),
    )
    assert labels["churn"].fillna(-1).to_dict() == {
        "on the day": 1,
        "last day": 1,
        "day after": 0,
        "stayed": 0,
        "lost": -1,
        "left before it was lost": 1,
        "twelve months hold": 0,
    }
    assert labels["churn_month"].fillna(-1).tolist() == [1, 12, 13, -1, -1, 3, 14]
    assert labels["observed_months"].tolist() == [18, 18, 18, 12, 11, 3, 18]
    assert set(labels["horizon_months"]) == {12}
    assert counts["unused.not_observed_to_the_horizon"] == 1
    assert counts["repaired.left_after_the_horizon"] == 2
    other, _ = judged(engine, ("A", 1, "2025-12-31", "2026-06-30"), ("B", 0, None, "2026-06-30"), horizon=11)
    assert other["churn"].tolist() == [0, 0]


@pytest.mark.parametrize("as_of", [AS_OF, date(2024, 2, 29), date(2025, 3, 15), date(2025, 1, 30)])
def test_months_are_calendar_months_from_as_of_as_pandas_counts_them(engine: DuckEngine, as_of: date) -> None:
    rng = np.random.default_rng(as_of.toordinal())
    days = [pd.Timestamp(as_of) + pd.Timedelta(days=int(d)) for d in rng.permutation(430)]
    ends = [pd.Timestamp(as_of) + pd.DateOffset(months=m) for m in range(20)]
    rows = [(f"left {d:%F}", 1, f"{d:%F}", None) for d in days]
    rows += [(f"seen {d:%F}", 0, None, f"{d:%F}") for d in days]
    labels, _ = judged(engine, *rows, as_of=as_of, horizon=3)
    for day in days:
        month = max(1, min(m for m, end in enumerate(ends) if day <= end))
        assert labels.loc[f"left {day:%F}", "churn_month"] == month
        assert labels.loc[f"seen {day:%F}", "observed_months"] == max(
            m for m, end in enumerate(ends) if end <= day
        )


def test_without_observed_until_the_last_churn_date_says_how_long(engine: DuckEngine) -> None:
    """Labels that end after one month of twelve are of no stayers, whoever forgot to say until when they hold."""
    whole, _ = judged(engine, ("A", 1, "2025-12-03", None), ("B", 0, None, None))
    assert whole["churn"].tolist() == [1, 0]
    with pytest.raises(ContractError, match=r"1 of 1 customers who had not left.*2025-01-20.*2025-12-31"):
        judged(engine, ("A", 1, "2025-01-20", None), ("B", 0, None, None))
    alone, counts = judged(engine, ("A", 1, None, "2025-12-31"), ("B", 0, None, "2025-12-31"))
    assert alone["churn"].tolist() == [1, 0]
    assert alone["observed_months"].isna().tolist() == [True, False]
    assert counts["repaired.observed_until_is_assumed"] == 0


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("X", 1, "2019-03-01", "2026-06-30"), "'churn_date' lies before the customer's first.*'2019-03-01'"),
        (("X", 1, "2024-11-01", "2026-06-30"), "'churn_date' lies before the as-of date.*'2024-11-01'"),
        (("X", 1, "2025-06-01", "2025-05-31"), "'churn_date' lies after 'observed_until'.*'2025-06-01'"),
        (("X", 0, None, "2024-12-30"), "'observed_until' lies before the as-of date.*'2024-12-30'"),
        (("X", 0, "2025-06-01", "2026-06-30"), "labelled 0 although 'churn_date' lies within.*'2025-06-01'"),
        (("X", 1, None, "2026-06-30"), "labelled 1 without a 'churn_date'.*'X'"),
    ],
)
def test_a_date_that_cannot_be_is_named_with_its_file_its_count_and_an_example(
    engine: DuckEngine, row: Row, words: str
) -> None:
    few = [(f"C{i}", 0, None, "2026-06-30") for i in range(40)]
    left: Row = ("L", 1, "2025-06-30", "2026-06-30")
    with pytest.raises(ContractError, match=rf"(?s)churn_label.csv.*1 of 2 rows.*- 1 rows .*{words}"):
        judged(engine, left, row)
    labels, counts = judged(engine, left, row, *few)
    assert "X" not in labels.index
    assert len(labels) == 41
    assert sum(n for name, n in counts.items() if name.startswith("quarantined.")) == 1


def test_a_horizon_beyond_what_nearly_everybody_was_observed_for_is_refused(engine: DuckEngine) -> None:
    rows = [(f"C{i}", 0, None, "2025-06-30") for i in range(19)]
    left: Row = ("L", 1, "2025-02-28", "2025-06-30")
    with pytest.raises(
        ContractError,
        match=r"(?s)churn_label.csv.*19 of 19 .*2025-06-30 .*2025-12-31 \(12 .*lower label_horizon_months",
    ):
        judged(engine, left, *rows)
    short, _ = judged(engine, left, *rows, horizon=6)
    assert short["churn"].sum() == 1
    some, counts = judged(engine, left, *rows, *((f"D{i}", 0, None, "2026-06-30") for i in range(3)))
    assert some["churn"].notna().sum() == 4
    assert counts["unused.not_observed_to_the_horizon"] == 19


def test_gold_keeps_months_beside_the_features_and_empty_dates_leave_it_as_it_was(tmp_path: Path) -> None:
    rows = [
        ("C1", 0, None, "2026-06-30"),
        ("C2", 1, "2025-02-28", "2026-06-30"),
        ("C3", 0, None, "2026-06-30"),
    ]
    dated = build_raw(tmp_path / "dated", churn_label=frame(*rows)).tables["gold_master"]
    names = ["churn_month", "observed_months", "horizon_months"]
    assert list(dated.columns) == [*contract("gold_master").fields, *names]
    assert dated["churn_month"].fillna(0).tolist() == [0, 2, 0]
    empty = build_raw(tmp_path / "empty", churn_label=frame(*((i, c, None, None) for i, c, *_ in rows)))
    pd.testing.assert_frame_equal(dated.drop(columns=names), empty.tables["gold_master"])


def test_dates_are_read_by_declaration(tmp_path: Path) -> None:
    rows = [
        ("C1", 0, None, "30/06/2026"),
        ("C2", 1, "28/02/2025", "30/06/2026"),
        ("C3", 0, None, "30/06/2026"),
    ]
    own = {"churn_date": "FECHA_BAJA", "observed_until": "OBSERVADO HASTA"}
    raw = write_raw(tmp_path / "raw", churn_label=frame(*rows).rename(columns=own))
    text = proposal(raw)
    assert "churn_date" not in "".join(line for line in text.splitlines() if line.startswith("# ?"))
    (raw / "mapping.yaml").write_text(
        "churn_label:\n  columns: {churn_date: FECHA_BAJA, observed_until: OBSERVADO HASTA}\n  dates: '%d/%m/%Y'\n"
    )
    source = open_source(raw)
    assert source.text("churn_label").column_names == ["customer_id", "churn", "churn_date", "observed_until"]
    checked = validate(source, AS_OF)
    assert checked.faults == []
    (raw / "churn_label.csv").write_text("customer_id,churn\nC1,0\nC2,1\nC3,0\n")
    assert any("missing column 'FECHA_BAJA'" in fault for fault in validate(source, AS_OF).faults)
    write_template(tmp_path / "template")
    assert "observed_until" in (tmp_path / "template" / "README.md").read_text()


def test_dated_extracts_differ_from_undated_ones_in_nothing_but_their_labels(tmp_path: Path) -> None:
    folders = {}
    for dated in (False, True):
        folders[dated] = tmp_path / f"raw {dated}"
        write_extract(
            folders[dated],
            customers=30,
            seed=5,
            as_of=AS_OF,
            labelled=True,
            dated=dated,
            truth=tmp_path / f"truth {dated}",
        )
    for file in folders[False].iterdir():
        same = file.read_bytes() == (folders[True] / file.name).read_bytes()
        assert same == (file.name != "churn_label.csv")
    labels = [pd.read_csv(folder / "churn_label.csv") for folder in folders.values()]
    assert labels[0]["customer_id"].tolist() == labels[1]["customer_id"].tolist()
    assert (labels[1]["churn_date"] <= "2025-12-31").astype(int).tolist() == labels[0]["churn"].tolist()
    truth = [{f.name for f in (tmp_path / f"truth {dated}").iterdir()} for dated in folders]
    assert truth[1] - truth[0] == {"churn_hazards.parquet"}


def test_dates_come_from_the_hazards_that_the_truth_keeps() -> None:
    """Chi-squared of leavers by month; the probability within a year is that of churn."""
    blocks = list(draw_blocks(6_000, seed=8, as_of=AS_OF))
    rows = pd.concat([dated_rows(b, AS_OF) for b in blocks], ignore_index=True)
    truth = pd.concat([hazard_rows(b) for b in blocks], ignore_index=True)
    assert rows["customer_id"].tolist() == truth["customer_id"].tolist()
    hazard = truth.filter(like="hazard").to_numpy()
    assert hazard.shape[1] == 12 * YEARS
    assert ((hazard >= 0) & (hazard <= 1)).all()
    left = 1 - np.cumprod(1 - hazard, axis=1)
    within = np.concatenate([b.after[b.keep] for b in blocks])
    np.testing.assert_allclose(left[:, 11], within, atol=1e-9)
    chance = np.diff(left, axis=1, prepend=0.0)[:, :18]
    month = (rows["churn_date"].dt.year - 2024) * 12 + rows["churn_date"].dt.month - 12
    counts = month.value_counts().reindex(range(1, 19), fill_value=0).to_numpy()
    error = (counts - chance.sum(axis=0)) / np.sqrt((chance * (1 - chance)).sum(axis=0))
    assert (error**2).sum() < 42.3  # 18 degrees of freedom, 0.1 %
    assert month.max() <= 18
    early = chance[:, :3].sum(axis=1) / left[:, 11].clip(1e-9)
    renewal = np.concatenate([b.seen["renewal_days"].to_numpy()[b.keep] for b in blocks])
    assert early[renewal < 60].mean() > 1.5 * early[renewal > 150].mean()


def test_dates_under_a_campaign_follow_the_response_of_those_it_reached() -> None:
    """Chi-squared of leavers by month: the offer changes how many leave within the year, and not when they do."""
    counts, chances, kept = [], [], []
    for block in draw_blocks(6_000, seed=8, as_of=AS_OF, effect=2.0):
        everybody = block.people["customer_id"]
        offers = pd.Series("offer_large", index=everybody.iloc[::2])
        rows, plain = dated_rows(block.under(offers), AS_OF), dated_rows(block, AS_OF)
        reached = everybody[block.keep].isin(offers.index).to_numpy()
        pd.testing.assert_frame_equal(rows[~reached], plain[~reached])
        month = (rows["churn_date"].dt.year - 2024) * 12 + rows["churn_date"].dt.month - 12
        within = (month <= 12).to_numpy()[reached]
        assert (within == block.response.churn[-1][block.keep][reached]).all()
        hazard = hazard_rows(block).filter(like="hazard").to_numpy()[:, :12][reached]
        chance = np.diff(1 - np.cumprod(1 - hazard, axis=1), axis=1, prepend=0.0)
        p = block.response.probability[-1][block.keep][reached]
        told = chance.sum(axis=1) > 0  # of the others the truth states no months
        chances.append(chance[told] * (p[told] / chance[told].sum(axis=1))[:, None])
        counts.append(month[reached][told].value_counts().reindex(range(1, 13), fill_value=0).to_numpy())
        kept.append(p.sum() - chance.sum())
    chance = np.concatenate(chances)
    error = (np.sum(counts, axis=0) - chance.sum(axis=0)) / np.sqrt((chance * (1 - chance)).sum(axis=0))
    assert (error**2).sum() < 32.9  # 12 degrees of freedom, 0.1 %
    assert sum(kept) < -20


def test_a_dated_campaign_changes_the_labels_of_those_it_reached_and_nothing_else(tmp_path: Path) -> None:
    drawn: dict[str, Any] = {"customers": 130, "seed": 5, "as_of": AS_OF, "labelled": True, "dated": True}
    write_extract(tmp_path / "plain", **drawn, truth=tmp_path / "plain-truth")
    response = pd.read_parquet(tmp_path / "plain-truth" / "response.parquet").set_index("customer_id")
    offers = pd.Series("offer_large", index=response.index[::2])
    write_extract(
        tmp_path / "treated", **drawn, treatments=offers, effect=2.0, truth=tmp_path / "treated-truth"
    )
    for file in (tmp_path / "plain").iterdir():
        same = file.read_bytes() == (tmp_path / "treated" / file.name).read_bytes()
        assert same == (file.name != "churn_label.csv")
    assert not (response.filter(like="churn_offer").eq(response["churn_offer_large"], axis=0)).all(axis=None)
    hazards = [
        (tmp_path / f"{name}-truth" / "churn_hazards.parquet").read_bytes() for name in ("plain", "treated")
    ]
    assert hazards[0] == hazards[1]


def dated_gold(*rows: tuple[str, int | None, int | None]) -> pd.DataFrame:
    """Gold of customers with the month in which they left, if they did, and the months that they were observed for."""
    names = ["customer_id", "churn_month", "observed_months"]
    ids, month, seen = (pd.Series(values) for values in zip(*rows, strict=True))
    told = dict(zip(names, (ids, month.astype("Int64"), seen.astype("Int64")), strict=True))
    return pd.DataFrame(told).assign(horizon_months=12, churn=month.notna().astype("Int64"))


def test_extracts_whose_label_windows_overlap_are_named_and_dates_that_contradict_each_other(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path)
    first: list[tuple[str, int | None, int | None]] = [
        ("same", 5, 18), ("gone", 2, 18), ("later", 5, 18), ("stays", None, 18), ("leaves", None, 18),
        ("lost", None, 2),
    ]  # fmt: skip
    second: list[tuple[str, int | None, int | None]] = [
        ("same", 2, 15), ("gone", 9, 15), ("later", 3, 15), ("stays", None, 15), ("leaves", 4, 15), ("lost", 4, 15),
        ("new", 1, 15), ("unknown", None, None),
    ]  # fmt: skip
    publish_gold(lake, dated_gold(*first), AS_OF)
    assert overlaps(lake, AS_OF) == []
    publish_gold(lake, dated_gold(*second), date(2025, 3, 31))
    [words] = overlaps(lake, AS_OF)
    assert words == overlaps(lake, date(2025, 3, 31))[0]
    assert "as of 2024-12-31 and 2025-03-31 overlap until 2025-12-31: who leaves" in words
    assert (
        "in both, of 6 customers. 3, such as 'gone', had left by one while the other still saw them: mend one"
        in words
    )


def test_an_extract_after_the_window_or_without_dates_overlaps_none(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    publish_gold(lake, dated_gold(("A", 12, 18), ("B", None, 12)), AS_OF)
    publish_gold(lake, dated_gold(("B", 1, 18)), date(2025, 12, 31))
    publish_gold(lake, gold_frame(20), date(2025, 3, 31))
    assert [overlaps(lake, day) for day in lake.dates("gold_master")] == [[], [], []]
    nobody = dated_gold(("A", None, None)).assign(horizon_months=pd.Series([None], dtype="Int64"))
    publish_gold(lake, nobody, date(2025, 2, 28))
    assert overlaps(lake, date(2025, 2, 28)) == overlaps(lake, AS_OF) == []
    left_on_the_day = dated_gold(("A", 3, 18), ("B", 3, 18))
    publish_gold(lake, left_on_the_day, AS_OF)
    publish_gold(lake, dated_gold(("A", 1, 18), ("B", 2, 18)), date(2025, 3, 31))
    assert "1, such as 'B'" in overlaps(lake, AS_OF)[0]

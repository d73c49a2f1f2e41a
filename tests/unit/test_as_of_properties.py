"""Gold as a function of what was known at its date: later rows, order and partitioning make no difference."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanishgas.etl.build import build
from spanishgas.lake import Lake
from tests.raw_builder import IDS, Row, contact, contract, cost, hour, price, rows, write_raw

AS_OF, EARLIER = date(2024, 9, 30), date(2024, 6, 30)
DATED = {
    "consumption_hourly_2024": "timestamp",
    "price_history": "pricing_date",
    "costs_by_province_month": "month",
    "customer_interactions": "date",
    "customer_contracts": "contract_start_date",
}
Raw = Mapping[str, Sequence[Row]]


def examples(number: int) -> settings:
    """Each takes a build or more, so a few go into every run of the tests and many into the long one."""
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.too_slow])


ids = st.sampled_from([*IDS, "C9"])
amounts = st.floats(0.0, 50.0, allow_nan=False)
days = st.dates(date(2024, 10, 1), date(2024, 12, 31)).map(str)
later = st.fixed_dictionaries(
    {
        "consumption_hourly_2024": st.lists(
            st.builds(
                lambda i, day, h, e: hour(i, f"{day} {h:02d}:00", e), ids, days, st.integers(0, 23), amounts
            ),
            min_size=1,
        ),
        "price_history": st.lists(
            st.builds(lambda i, day, e: price(i, day[:7], elec_fixed_fee_eur_month=e), ids, days, amounts),
            min_size=1,
        ),
        "costs_by_province_month": st.lists(
            st.builds(
                lambda p, day, e: cost(p, day[:7], peaje_elec_eur_kwh=e),
                st.sampled_from([8, 28]),
                days,
                amounts,
            ),
            min_size=1,
        ),
        "customer_interactions": st.lists(
            st.builds(contact, ids, days, st.sampled_from(["wants to cancel", "better deal", "all fine"])),
            min_size=1,
        ),
        "customer_contracts": st.lists(
            st.builds(lambda i, day: contract(i, contract_start_date=day), st.sampled_from(IDS), days),
            min_size=1,
        ),
    }
)


def known(raw: Raw, as_of: date) -> dict[str, list[Row]]:
    """The rows that are not dated after `as_of`."""
    return {
        name: [r for r in table if name not in DATED or str(r[DATED[name]])[:10] <= as_of.isoformat()]
        for name, table in raw.items()
    }


def gold(raw: Raw, as_of: date, parts: Sequence[pd.DataFrame] = ()) -> str:
    """Digest of gold, built in a lake of its own; `parts` replace the hours by a folder of files."""
    with tempfile.TemporaryDirectory() as folder:
        tables: dict[str, Any] = {name: list(table) for name, table in raw.items()}
        hours = "consumption_hourly_2024"
        place = write_raw(Path(folder) / "raw", omit=[hours] if parts else [], **tables)
        for number, part in enumerate(parts):
            (place / hours).mkdir(exist_ok=True)
            typed = part.assign(timestamp=pd.to_datetime(part["timestamp"]))
            typed.to_parquet(place / hours / f"part-{number}.parquet", index=False)
        return build(place, Lake(Path(folder) / "lake"), as_of).snapshots["gold_master"].manifest.digest


@cache
def undisturbed() -> str:
    """Gold of the plain rows at `AS_OF`."""
    return gold(known(rows(), AS_OF), AS_OF)


def rows_dated_after_as_of_change_nothing_in_gold(added: Raw) -> None:
    base = known(rows(), AS_OF)
    assert gold({n: [*table, *added.get(n, ())] for n, table in base.items()}, AS_OF) == undisturbed()


def row_order_and_partitioning_change_nothing_in_gold(random: Any, count: int) -> None:
    raw = known(rows(), AS_OF)
    shuffled = {name: random.sample(table, len(table)) for name, table in raw.items()}
    hours = pd.DataFrame(shuffled["consumption_hourly_2024"])
    parts = [hours.iloc[start::count] for start in range(count)]
    assert gold(shuffled, AS_OF, parts) == undisturbed()


def gold_of_a_long_history_equals_gold_of_the_history_cut_at_each_date(
    dates: Sequence[date], added: Raw, used: list[float]
) -> None:
    long = {name: [*table, *added.get(name, ())] for name, table in rows().items()}
    for row, amount in zip(long["consumption_hourly_2024"], used, strict=False):
        row["consumption_elec_kwh"] = amount
    for as_of in dates:
        assert gold(long, as_of) == gold(known(long, as_of), as_of)


draws = st.randoms(use_true_random=False)
readings = st.lists(amounts, min_size=12, max_size=12)


@examples(2)
@given(later)
def test_rows_dated_after_as_of_change_nothing_in_gold(added: Raw) -> None:
    rows_dated_after_as_of_change_nothing_in_gold(added)


@examples(2)
@given(draws, st.integers(2, 4))
def test_row_order_and_partitioning_change_nothing_in_gold(random: Any, count: int) -> None:
    row_order_and_partitioning_change_nothing_in_gold(random, count)


@examples(1)
@given(st.sampled_from([EARLIER, AS_OF]), later, readings)
def test_gold_of_a_long_history_equals_gold_of_the_history_cut_at_a_date(
    as_of: date, added: Raw, used: list[float]
) -> None:
    gold_of_a_long_history_equals_gold_of_the_history_cut_at_each_date([as_of], added, used)


@pytest.mark.slow
@examples(15)
@given(later)
def test_rows_dated_after_as_of_change_nothing_in_gold_at_length(added: Raw) -> None:
    rows_dated_after_as_of_change_nothing_in_gold(added)


@pytest.mark.slow
@examples(15)
@given(draws, st.integers(1, 4))
def test_row_order_and_partitioning_change_nothing_in_gold_at_length(random: Any, count: int) -> None:
    row_order_and_partitioning_change_nothing_in_gold(random, count)


@pytest.mark.slow
@examples(8)
@given(later, readings)
def test_gold_of_a_long_history_equals_gold_of_the_history_cut_at_each_date_at_length(
    added: Raw, used: list[float]
) -> None:
    gold_of_a_long_history_equals_gold_of_the_history_cut_at_each_date([EARLIER, AS_OF], added, used)

"""One extract of the utility as raw files, and apart from them the truth.

Customers are drawn block by block, each block is written before the next is kept, and the whole folder
appears by one rename at the end. The truth is replaced just before that, so a folder of raw files always has
its truth.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanishgas.errors import UsageError
from spanishgas.lake import RAW_FILES
from spanishgas.simulate import churn, contacts, population, texts
from spanishgas.simulate.hours import draw_hours, timestamps
from spanishgas.simulate.market import Energy, Prices, draw_energy, draw_prices, province_costs
from spanishgas.simulate.population import CHANNELS, PROVINCES, Floats
from spanishgas.simulate.streams import (
    BASE,
    BLOCK,
    LAST,
    Stream,
    last_month,
    month_start,
    months,
    rng,
    window,
)

SHIFTS = ("none", "prices", "channels", "concept")
"""Changes on top of ageing: prices 15 % up in the last three months; four in ten customers of the sales force
come through a comparison site instead; other reasons to churn."""
ORPHAN_SHARE = 21 / 20_099
"""Customers that only the price file has, without an id: 252 rows of 20,099 customers."""
TRUTH_FILE = "churn_probability.parquet"
_ORPHAN_BLOCK = 1_000_000
_CONTACT_SHARES = {"telefono": 0.55, "correo_electronico": 0.2, "oficina": 0.15, "chat": 0.1}
"""Ways of contact; not published, chosen."""
_HOURS = pa.schema(
    [
        ("customer_id", pa.dictionary(pa.int32(), pa.string())),
        ("timestamp", pa.timestamp("us")),
        ("consumption_elec_kwh", pa.float64()),
        ("consumption_gas_m3", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Block:
    """One block of customers as an extract shows them; `keep` marks those who are customers at its as-of."""

    cohort: int
    number: int
    people: pd.DataFrame
    energy: Energy
    prices: Prices
    seen: pd.DataFrame
    churn: NDArray[np.bool_]
    topic: NDArray[np.int64]
    before: Floats
    after: Floats
    keep: NDArray[np.bool_]


def write_extract(
    out: Path,
    *,
    customers: int,
    seed: int,
    as_of: date,
    labelled: bool,
    shift: str = "none",
    truth: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the raw files of one extract to the new folder `out`, and the truth to the folder `truth`.

    Guarantees:
    - equal arguments give equal bytes, and nothing stands in `out` until all of it does;
    - extracts of one seed and size at different `as_of` show the same customers, with equal readings and
      prices in shared months;
    - memory is bounded by the block, not by `customers`;
    - the truth has customer_id, churn, churn_probability (given everything the files show, the text included) and
      churn_probability_before_text (given contract and market alone), exact under the model the data is drawn from.

    `customers` counts the base date's; a later extract has lost and won some. Raises UsageError for arguments
    out of range, an unknown `shift`, or an `out` that exists.
    """
    _check(out, customers, seed, as_of, shift, truth)
    staging = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}"
    staging.mkdir(parents=True)
    total = customers + population.newcomers(customers, as_of)
    try:
        with _Files(staging, seed, as_of) as files:
            for done, block in enumerate(
                draw_blocks(customers, seed=seed, as_of=as_of, shift=shift), start=1
            ):
                files.add(block)
                if progress is not None:
                    progress(min(done * BLOCK, total), total)
            files.add_orphans(round(customers * ORPHAN_SHARE))
        province_costs(window(as_of)).to_csv(staging / RAW_FILES["costs_by_province_month"], index=False)
        outcomes = pd.concat(files.outcomes, ignore_index=True)
        if labelled:
            order = rng(seed, Stream.ORDER).permutation(len(outcomes))
            labels = outcomes.loc[order, ["customer_id", "churn"]]
            labels.to_csv(staging / RAW_FILES["churn_label"], index=False)
        if truth is not None:
            _replace_truth(truth, outcomes)
        _publish(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def draw_blocks(customers: int, *, seed: int, as_of: date, shift: str = "none") -> Iterator[Block]:
    """The customers of an extract, block by block, without their hours: base cohort first, then newcomers."""
    for cohort, size in enumerate((customers, population.newcomers(customers, as_of))):
        for number in range(-(-size // BLOCK)):
            yield _draw_block(cohort, number, size, customers, seed, as_of, shift)


def _draw_block(
    cohort: int, number: int, size: int, customers: int, seed: int, as_of: date, shift: str
) -> Block:
    people = population.draw_people(seed, cohort, number, customers)
    energy = draw_energy(people, seed, cohort, number)
    prices = draw_prices(people, seed, cohort, number)
    keep = np.arange(BLOCK) + number * BLOCK < size
    if cohort == 0 and as_of > BASE:  # churners of the base extract leave on their renewal date
        leaves = _outcome(
            churn.probability(churn.facts(people, energy, prices, BASE)), seed, cohort, number, BASE
        )
        keep &= ~(leaves & (population.days(people["renewal"], as_of) <= 0))
    if shift == "prices":
        end = last_month(as_of) + 1
        prices = draw_prices(people, seed, cohort, number, raised=slice(end - 3, end))
    if shift == "channels":
        moved = rng(seed, Stream.SHIFT, cohort, number).random(BLOCK) < 0.4
        sold = people["channel"] == CHANNELS.index("presencial_comercial")
        people = people.assign(channel=people["channel"].where(~(moved & sold), CHANNELS.index("comparador")))
    # The outcome of a later extract is drawn anew from what that extract shows, so its truth is exact as well.
    people = population.aged(people, as_of)
    seen = churn.facts(people, energy, prices, as_of)
    model = churn.concept_shift(churn.PUBLISHED) if shift == "concept" else churn.PUBLISHED
    before = churn.probability(seen, model)
    outcome = _outcome(before, seed, cohort, number, as_of)
    dual = seen["dual"].to_numpy()
    topic = contacts.draw_topics(rng(seed, Stream.CONTACT, cohort, number, as_of.toordinal()), outcome, dual)
    after = contacts.posterior(before, topic, dual)
    return Block(cohort, number, people, energy, prices, seen, outcome, topic, before, after, keep)


def _outcome(probability: Floats, seed: int, cohort: int, number: int, as_of: date) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = (
        rng(seed, Stream.OUTCOME, cohort, number, as_of.toordinal()).random(BLOCK) < probability
    )
    return out


class _Files:
    """The open raw files of one extract; hours are drawn in a second thread while the ones before are written."""

    def __init__(self, folder: Path, seed: int, as_of: date) -> None:
        self.folder, self.seed, self.as_of, self.span = folder, seed, as_of, window(as_of)
        self.outcomes: list[pd.DataFrame] = []
        self._clock = pa.array(timestamps(self.span))
        self._started: set[str] = set()
        self._contacts = 0

    def __enter__(self) -> Self:
        self._json: TextIO = (self.folder / RAW_FILES["customer_interactions"]).open(
            "w", encoding="utf-8", newline="\n"
        )
        self._json.write("[")
        self._hours = pq.ParquetWriter(
            self.folder / RAW_FILES["consumption_hourly_2024"], _HOURS, compression="zstd", store_schema=False
        )
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._next: Future[pa.Table] | None = None
        return self

    def __exit__(self, *failure: object) -> None:
        try:
            if failure[0] is None:
                self._write_hours()
                self._json.write("\n]\n")
        finally:
            self._worker.shutdown(cancel_futures=True)
            self._json.close()
            self._hours.close()

    def add(self, block: Block) -> None:
        """Write one block to every file."""
        if not block.keep.any():
            return
        self._write_hours()
        self._next = self._worker.submit(self._draw_hours, block)
        self._csv("customer_attributes", attributes(block))
        self._csv("customer_contracts", contracts(block))
        self._csv(
            "price_history", price_rows(block.people["customer_id"], block.prices, block.keep, self.span)
        )
        for record in interactions(block, self.seed, self.as_of):
            self._json.write((",\n" if self._contacts else "\n") + json.dumps(record))
            self._contacts += 1
        self.outcomes.append(truth_rows(block))

    def add_orphans(self, count: int) -> None:
        """Append the price rows of `count` customers without an id."""
        nobody = pd.Series([None] * BLOCK, dtype=object)
        for number in range(-(-count // BLOCK)):
            people = population.draw_people(self.seed, 0, _ORPHAN_BLOCK + number, 0)
            prices = draw_prices(people, self.seed, 0, _ORPHAN_BLOCK + number)
            keep = np.arange(BLOCK) + number * BLOCK < count
            whole = dataclasses.replace(prices, row=np.ones_like(prices.row))
            self._csv(
                "price_history",
                price_rows(nobody, whole, keep, self.span),
            )

    def _csv(self, table: str, rows: pd.DataFrame) -> None:
        rows.to_csv(
            self.folder / RAW_FILES[table],
            mode="a",
            index=False,
            header=table not in self._started,
            date_format="%Y-%m-%d",
            lineterminator="\n",
        )
        self._started.add(table)

    def _write_hours(self) -> None:
        if self._next is not None:
            self._hours.write_table(self._next.result(), row_group_size=BLOCK * len(self._clock))
            self._next = None

    def _draw_hours(self, block: Block) -> pa.Table:
        elec, gas = draw_hours(
            block.people, block.energy, block.keep, self.seed, block.cohort, block.number, self.span
        )
        ids = block.people.loc[block.keep, "customer_id"]
        codes = np.repeat(np.arange(len(ids), dtype=np.int32), len(self._clock))
        clock = pa.concat_arrays([self._clock] * len(ids))
        customer = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(list(ids), pa.string()))
        return pa.Table.from_arrays(
            [customer, clock, pa.array(elec.ravel()), pa.array(gas.ravel())], schema=_HOURS
        )


def attributes(block: Block) -> pd.DataFrame:
    """The block's rows of the attributes file."""
    people = block.people.loc[block.keep]
    province = PROVINCES.iloc[people["province"].to_numpy()].reset_index(drop=True)
    return pd.DataFrame(
        {
            "customer_id": people["customer_id"].to_numpy(),
            "contracted_power_kw": people["power"].to_numpy(),
            "is_industrial": (people["segment"].to_numpy() > 0).astype(int),
            "is_second_residence": people["second"].to_numpy().astype(int),
            "province_code": province["province_code"],
            "region": province["region"],
            "is_high_competition_province": province["high_competition"],
            "is_urban": people["urban"].to_numpy().astype(int),
            "sales_channel": np.array(CHANNELS)[people["channel"]],
        }
    )


def contracts(block: Block) -> pd.DataFrame:
    """The block's rows of the contracts file."""
    names = {
        "first": "customer_first_activation_date",
        "start": "contract_start_date",
        "changed": "last_product_change_date",
        "renewal": "next_renewal_date",
    }
    return block.people.loc[block.keep, ["customer_id", *names]].rename(columns=names)


def price_rows(ids: pd.Series[Any], prices: Prices, keep: NDArray[np.bool_], span: slice) -> pd.DataFrame:
    """Rows of the price file, one per customer and month that has one."""
    present = prices.row[:, span] & keep[:, None]
    dates = np.array([f"{month}-01" for month in months(span)])
    columns = {
        "variable_price_tier1_eur_kwh": prices.tier1,
        "variable_price_tier2_eur_kwh": prices.tier2,
        "variable_price_tier3_eur_kwh": prices.tier3,
        "elec_fixed_fee_eur_month": prices.fee,
        "elec_fixed_cost_eur_month": prices.fee_cost,
        "gas_variable_price_eur_m3": prices.gas,
        "gas_fixed_revenue_eur_year": prices.gas_fixed,
        "gas_fixed_cost_eur_year": prices.gas_fixed_cost,
    }
    customer, month = np.nonzero(present)
    return pd.DataFrame(
        {"customer_id": ids.to_numpy()[customer], "pricing_date": dates[month]}
        | {name: value[:, span][present] for name, value in columns.items()}
    )


def interactions(block: Block, seed: int, as_of: date) -> Iterator[dict[str, str]]:
    """The block's contacts, dated in the quarter that ends one month before `as_of`."""
    g = rng(seed, Stream.CONTACT, block.cohort, block.number, as_of.toordinal(), 1)
    first, after = month_start(last_month(as_of) - 3), month_start(last_month(as_of))
    ways, shares = list(_CONTACT_SHARES), np.cumsum(list(_CONTACT_SHARES.values()))
    for i in np.flatnonzero(block.topic != contacts.NONE):
        day = date.fromordinal(int(g.integers(first.toordinal(), after.toordinal())))
        way = ways[min(int(np.searchsorted(shares, g.random(), "right")), len(ways) - 1)]
        seen, elapsed = block.seen.iloc[i], (as_of - day).days
        record = texts.Record(
            days_to_renewal=int(seen["renewal_days"]) + elapsed,
            tenure_months=max(float(seen["tenure"]) - elapsed / 30, 0.0),
            price_rose=bool(seen["trend"] > 0),
            high_competition=bool(seen["high_competition"]),
            contact=way,
        )
        text = texts.write(g, *contacts.topic_name(int(block.topic[i])), record)
        if block.keep[i]:
            customer = str(block.people["customer_id"].iloc[i])
            yield {
                "customer_id": customer,
                "date": day.isoformat(),
                "channel": way,
                "interaction_summary": text,
            }


def truth_rows(block: Block) -> pd.DataFrame:
    """Outcome and probabilities of the block's customers."""
    return pd.DataFrame(
        {
            "customer_id": block.people.loc[block.keep, "customer_id"].to_numpy(),
            "churn": block.churn[block.keep].astype(np.int8),
            "churn_probability": block.after[block.keep],
            "churn_probability_before_text": block.before[block.keep],
        }
    )


def _replace_truth(folder: Path, outcomes: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{TRUTH_FILE}.{uuid.uuid4().hex[:8]}"
    pq.write_table(pa.Table.from_pandas(outcomes, preserve_index=False), part, compression="zstd")
    os.replace(part, folder / TRUTH_FILE)


def _publish(staging: Path, out: Path) -> None:
    try:
        staging.rename(out)
    except OSError as error:
        raise UsageError(
            f"{out} appeared while the extract was drawn: name a folder that does not exist"
        ) from error


def _check(out: Path, customers: int, seed: int, as_of: date, shift: str, truth: Path | None) -> None:
    if customers < 1:
        raise UsageError(
            f"customers must be at least 1, but got {customers}: ask for 200 or more to train on them"
        )
    if seed < 0:
        raise UsageError(f"seed must not be negative, but got {seed}: take 0 or any whole number above")
    if not BASE <= as_of <= LAST:
        raise UsageError(
            f"as_of must lie between {BASE} and {LAST}, the simulated year, but got {as_of}: name a day of it"
        )
    if shift not in SHIFTS:
        raise UsageError.unknown("shift", shift, SHIFTS)
    if out.exists():
        raise UsageError(f"{out} exists already: remove it or name a folder that does not exist")
    if truth is not None and truth.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"truth {truth} lies inside the raw folder {out}: name a folder apart from it")

"""The raw files of one extract, written block by block in the source's schema."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanishgas.lake import RAW_FILES
from spanishgas.simulate import contacts, population
from spanishgas.simulate.hours import draw_hours, timestamps
from spanishgas.simulate.market import Energy, Prices, draw_prices
from spanishgas.simulate.population import CHANNELS, PROVINCES, Floats
from spanishgas.simulate.response import OFFERS, Response
from spanishgas.simulate.streams import BLOCK, Draws, Stream, last_month, month_start, months, window

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

    draws: Draws
    people: pd.DataFrame
    energy: Energy
    prices: Prices
    seen: pd.DataFrame
    churn: NDArray[np.bool_]
    topic: NDArray[np.int64]
    before: Floats
    after: Floats
    response: Response
    keep: NDArray[np.bool_]

    def under(self, offers: pd.Series) -> Block:
        """The block with the outcomes of those to whom an offer was made (by customer); nothing else differs."""
        churn, made = self.churn, self.people["customer_id"].map(offers).to_numpy()
        for offer, outcome in zip(OFFERS, self.response.churn, strict=True):
            churn = np.where(made == offer, outcome, churn)
        return dataclasses.replace(self, churn=churn)


class RawFiles:
    """The open raw files of one extract."""

    def __init__(self, folder: Path, seed: int, as_of: date) -> None:
        self.folder, self.seed, self.as_of, self.span = folder, seed, as_of, window(as_of)
        self._clock = pa.array(timestamps(self.span))
        self._started: set[str] = set()

    def __enter__(self) -> Self:
        self._json = (self.folder / RAW_FILES["customer_interactions"]).open(
            "w", encoding="utf-8", newline="\n"
        )
        self._hours = pq.ParquetWriter(
            self.folder / RAW_FILES["consumption_hourly_2024"], _HOURS, compression="zstd", store_schema=False
        )
        return self

    def __exit__(self, *failure: object) -> None:
        self._json.write("\n]\n" if "customer_interactions" in self._started else "[\n]\n")
        self._json.close()
        self._hours.close()

    def add(self, block: Block) -> None:
        """Write one block to every file."""
        if not block.keep.any():
            return
        self._hours.write_table(self._hour_rows(block), row_group_size=BLOCK * len(self._clock))
        self._csv("customer_attributes", attributes(block))
        self._csv("customer_contracts", contracts(block))
        self._csv(
            "price_history", price_rows(block.people["customer_id"], block.prices, block.keep, self.span)
        )
        for record in interactions(block, self.as_of):
            self._json.write(
                (",\n" if "customer_interactions" in self._started else "[\n") + json.dumps(record)
            )
            self._started.add("customer_interactions")

    def add_orphans(self, count: int) -> None:
        """Append the price rows of `count` customers without an id."""
        nobody = pd.Series([None] * BLOCK, dtype=object)
        for number in range(-(-count // BLOCK)):
            draws = Draws(self.seed, 0, _ORPHAN_BLOCK + number)
            prices = draw_prices(population.draw_people(draws, 0), draws)
            keep = np.arange(BLOCK) + number * BLOCK < count
            whole = dataclasses.replace(prices, row=np.ones_like(prices.row))
            self._csv("price_history", price_rows(nobody, whole, keep, self.span))

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

    def _hour_rows(self, block: Block) -> pa.Table:
        elec, gas = draw_hours(block.people, block.energy, block.keep, block.draws, self.span)
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
    customer, month = np.nonzero(present)
    return pd.DataFrame(
        {"customer_id": ids.to_numpy()[customer], "pricing_date": dates[month]}
        | {name: value[:, span][present] for name, value in prices.columns.items()}
    )


def interactions(block: Block, as_of: date) -> Iterator[dict[str, str]]:
    """The block's contacts, dated in the quarter that ends one month before `as_of`."""
    g = block.draws.rng(Stream.CONTACT, as_of.toordinal(), 1)
    first, after = month_start(last_month(as_of) - 3), month_start(last_month(as_of))
    ways, shares = list(_CONTACT_SHARES), np.cumsum(list(_CONTACT_SHARES.values()))
    for i in np.flatnonzero(block.topic != contacts.NONE):
        day = date.fromordinal(int(g.integers(first.toordinal(), after.toordinal())))
        way = ways[min(int(np.searchsorted(shares, g.random(), "right")), len(ways) - 1)]
        seen, elapsed = block.seen.iloc[i], (as_of - day).days
        record = contacts.ContactText(
            days_to_renewal=int(seen["renewal_days"]) + elapsed,
            tenure_months=max(float(seen["tenure"]) - elapsed / 30, 0.0),
            price_rose=bool(seen["trend"] > 0),
            high_competition=bool(seen["high_competition"]),
            contact=way,
        )
        text = contacts.write_text(g, *contacts.topic_name(int(block.topic[i])), record)
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


def response_rows(block: Block) -> pd.DataFrame:
    """Outcome, probability of churn and type of the block's customers under each offer."""
    rows = pd.DataFrame({"customer_id": block.people.loc[block.keep, "customer_id"].to_numpy()})
    for offer, *under in zip(OFFERS, *vars(block.response).values(), strict=True):
        churn, probability, types = (values[block.keep] for values in under)
        rows[f"churn_{offer}"], rows[f"churn_probability_{offer}"] = churn.astype(np.int8), probability
        rows[f"type_{offer}"] = types
    return rows

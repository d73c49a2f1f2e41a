"""One extract of the utility as raw files, and apart from them the truth.

Customers are drawn block by block, each block is written before the next is kept, and the whole folder
appears by one rename at the end. The truth is replaced just before that, so a folder of raw files always has
its truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spanishgas.contracts import contract
from spanishgas.errors import UsageError
from spanishgas.lake import RAW_FILES
from spanishgas.lake.store import put_in_place, staged
from spanishgas.raw_files import LABELS
from spanishgas.simulate import churn, contacts, dates, population
from spanishgas.simulate.files import Block, RawFiles, response_rows, truth_rows
from spanishgas.simulate.market import draw_energy, draw_prices, province_costs
from spanishgas.simulate.population import Floats
from spanishgas.simulate.response import draw_response, refuse_strangers
from spanishgas.simulate.shifts import STRONGEST, Shift
from spanishgas.simulate.streams import BASE, BLOCK, LAST, Draws, Stream, last_month, rng, window

ORPHAN_SHARE = 21 / 20_099
"""Customers that only the price file has, without an id: 252 rows of 20,099 customers."""
TRUTH_FILE, RESPONSE_FILE, HAZARDS_FILE = (
    f"{name}.parquet" for name in ("churn_probability", "response", "churn_hazards")
)


def write_extract(
    out: Path,
    *,
    customers: int,
    seed: int,
    as_of: date,
    labelled: bool,
    dated: bool = False,
    shift: str = "none",
    effect: float = 1.0,
    treatments: pd.Series | None = None,
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
      churn_probability_before_text (given contract and market alone), exact under the model the data is drawn from;
      beside it lies what becomes of each customer under each offer, with effects of the strength `effect`;
    - `treatments` (the offer made, by customer) changes the labels of those customers and nothing else: not the truth,
      not the texts, and no later extract, which knows of no campaign;
    - with `dated`, labels say when customers left, under `treatments` with the offer's probability for the first year;
      the truth has the hazards without offers that this was drawn from; no other byte differs.

    `customers` counts the base date's; a later extract has lost and won some. Raises UsageError for arguments
    out of range, an unknown `shift` (see shifts.py), or an `out` that exists.
    """
    _check(out, customers, seed, as_of, shift, effect, truth)
    if dated and not labelled:
        raise UsageError("dated labels are labels: leave --dated out, or give --labelled true")
    offers = pd.Series(dtype="str") if treatments is None else treatments
    tables = {TRUTH_FILE: truth_rows, RESPONSE_FILE: response_rows, LABELS: truth_rows}
    if dated:
        tables |= {HAZARDS_FILE: dates.hazard_rows, LABELS: partial(dates.dated_rows, as_of=as_of)}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in tables}
    total = customers + population.newcomers(customers, as_of)
    with staged(out.parent) as staging:
        with RawFiles(staging, seed, as_of) as files:
            blocks = draw_blocks(customers, seed=seed, as_of=as_of, shift=shift, effect=effect)
            for done, block in enumerate(blocks, start=1):
                files.add(block)
                for name, rows_of in tables.items():
                    parts[name].append(rows_of(block.under(offers) if name == LABELS else block))
                if progress is not None:
                    progress(min(done * BLOCK, total), total)
            files.add_orphans(round(customers * ORPHAN_SHARE))
        costs = province_costs(window(as_of), opened=Shift.of(shift).scale("province") > 0)
        costs.to_csv(staging / RAW_FILES["costs_by_province_month"], index=False)
        rows = {name: pd.concat(of_name, ignore_index=True) for name, of_name in parts.items()}
        labels = rows.pop(LABELS)
        refuse_strangers(offers, labels["customer_id"])
        if labelled:
            order = rng(seed, Stream.ORDER).permutation(len(labels))
            told = labels.filter([*contract(LABELS).every]).loc[order]
            told.to_csv(staging / RAW_FILES[LABELS], index=False)
        if truth is not None:
            _replace_truth(truth, rows)
        try:
            staging.rename(out)
        except OSError as error:
            raise UsageError(
                f"{out} appeared while the extract was drawn: name a folder that does not exist"
            ) from error


def draw_blocks(
    customers: int, *, seed: int, as_of: date, shift: str = "none", effect: float = 1.0
) -> Iterator[Block]:
    """The customers of an extract, block by block, without their hours: base cohort first, then newcomers."""
    change = Shift.of(shift)
    for cohort, size in enumerate((customers, population.newcomers(customers, as_of))):
        for number in range(-(-size // BLOCK)):
            yield _draw_block(Draws(seed, cohort, number), size, customers, as_of, change, effect)


def _draw_block(draws: Draws, size: int, customers: int, as_of: date, shift: Shift, effect: float) -> Block:
    people = population.draw_people(draws, customers)
    energy, prices = draw_energy(people, draws), draw_prices(people, draws)
    keep = np.arange(BLOCK) + draws.block * BLOCK < size
    # Those whom the extract of a year's end calls churners leave on their next renewal.
    for year in range(BASE.year, as_of.year):
        then = BASE.replace(year=year)
        at = population.aged(people, then)
        leaves = _outcome(churn.probability(churn.facts(at, energy, prices, then)), draws, then)
        joined = population.days(at["first"], then) <= 0
        keep &= ~(leaves & joined & (population.days(at["renewal"], as_of) <= 0))
    end = last_month(as_of) + 1
    prices = draw_prices(people, draws, raised=(slice(end - 3, end), shift.raised()))
    people = shift.moved(people, draws.rng(Stream.SHIFT).random(BLOCK))
    # The outcome of a later extract is drawn anew from what that extract shows, so its truth is exact as well.
    people = population.aged(people, as_of)
    seen = churn.facts(people, energy, prices, as_of)
    before = churn.probability(seen, shift.coefficients())
    outcome = _outcome(before, draws, as_of)
    dual = seen["dual"].to_numpy()
    topic = contacts.draw_topics(draws.rng(Stream.CONTACT, as_of.toordinal()), outcome, dual)
    after = contacts.posterior(before, topic, dual)
    response = draw_response(draws, as_of, seen, topic, outcome, after, effect)
    return Block(draws, people, energy, prices, seen, outcome, topic, before, after, response, keep)


def _outcome(probability: Floats, draws: Draws, as_of: date) -> NDArray[np.bool_]:
    return np.asarray(draws.rng(Stream.OUTCOME, as_of.toordinal()).random(BLOCK) < probability)


def _replace_truth(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    with staged(folder) as staging:
        for name, rows in tables.items():
            pq.write_table(
                pa.Table.from_pandas(rows, preserve_index=False), staging / name, compression="zstd"
            )
            put_in_place(staging / name, folder / name)


def _check(
    out: Path, customers: int, seed: int, as_of: date, shift: str, effect: float, truth: Path | None
) -> None:
    if customers < 1:
        raise UsageError(
            f"customers must be at least 1, but got {customers}: ask for 200 or more to train on them"
        )
    if seed < 0:
        raise UsageError(f"seed must not be negative, but got {seed}: take 0 or any whole number above")
    if not BASE <= as_of <= LAST:
        raise UsageError(
            f"as_of must lie between {BASE} and {LAST}, the simulated years, but got {as_of}: name a day of it"
        )
    if not 0 <= effect <= STRONGEST:
        raise UsageError(
            f"effect must lie between 0 and {STRONGEST:g}, but got {effect:g}: 1 is what policy assumes"
        )
    Shift.of(shift)
    if out.exists():
        raise UsageError(f"{out} exists already: remove it or name a folder that does not exist")
    if truth is not None and truth.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"truth {truth} lies inside the raw folder {out}: name a folder apart from it")

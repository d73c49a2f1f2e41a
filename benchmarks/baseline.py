"""`python -m benchmarks.baseline [FOLDER]`: what the shipped alarm knows of baseline variation, learned anew.

One utility of 50,000 simulated customers at the ends of 21 months, December 2024 to August 2026. From each of the first
twelve on, one to twelve months later, it is divided at random into utilities of 1,000 customers: some fifty pairs of
tables without drift for each calendar month and lag. An hour of one core.

What befalls all customers alike is drawn apart, since dividing one history repeats it in every part: an extract of 500
customers beside itself after a shock common to all, so often that the root mean square of a part's change is known to
a seventh. `--common` learns that alone, in some minutes, and keeps the rest of the record.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks.pools import BASE, divided, month_end, pool
from spanishgas.etl.build import build
from spanishgas.features import load_tiers
from spanishgas.lake import Lake
from spanishgas.monitoring import baseline
from spanishgas.monitoring.parts import shares
from spanishgas.simulate import write_extract

CUSTOMERS, SIZE, SEED = 50_000, 1_000, 11
STARTS, LAGS, LAST = range(12), range(1, 13), 20
"""Months from December 2024 to the earlier table, from there to the later one, and to the latest that is drawn."""


def kinds() -> dict[str, str]:
    """Every feature of the data dictionary."""
    tiers = load_tiers()
    return {name: tiers.kind(name) for name in tiers.features()}


def pairs(seed: int, start: int, lag: int, size: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Tables of small utilities `lag` months apart."""
    rng = np.random.default_rng([seed, start, lag, size])
    yield from divided(pool(CUSTOMERS, seed, start), pool(CUSTOMERS, seed, start + lag), size, rng)


def learned() -> baseline.Baseline:
    """Baseline variation of the simulated utility."""
    changes = {
        (month_end(start).month, lag): [shares(a, b, kinds()) for a, b in pairs(SEED, start, lag, SIZE)]
        for start in STARTS
        for lag in LAGS
        if start + lag <= LAST
    }
    return baseline.learn(changes, SIZE, source=f"simulated utilities of {SIZE:,} customers")


SHOCKED, SHOCKS = 500, 24
"""Customers of an extract, and how many common shocks are drawn."""
DEVIATIONS = {"electricity": 0.04, "gas": 0.08, "prices": 0.02, "costs": 0.02, "contacts": 0.05}
"""Standard deviation of a common shock, as a share of the quantity; of contacts, as the share that is missing."""


def common() -> pd.Series[float]:
    """Root mean square change of share by (feature, bin), of shocks in consumption, prices, costs and contacts."""
    rng = np.random.default_rng(SEED)
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        write_extract(raw, customers=SHOCKED, seed=SEED, as_of=BASE, labelled=True, shift="none")
        before = _gold(raw, Path(scratch) / "lake")
        changes = []
        for _ in range(SHOCKS):
            shaken = Path(scratch) / "shaken"
            shutil.copytree(raw, shaken)
            _shake(shaken, rng)
            moved = shares(before, _gold(shaken, Path(scratch) / "another"), kinds())
            changes.append((moved["after"] - moved["before"]) ** 2)
            shutil.rmtree(shaken)
            shutil.rmtree(Path(scratch) / "another")
    mean: pd.Series[float] = pd.concat(changes, axis=1).fillna(0.0).mean(axis=1) ** 0.5
    return mean


def _gold(raw: Path, lake: Path) -> pd.DataFrame:
    return build(raw, Lake(lake), BASE).snapshots["gold_master"].pandas()


def _shake(raw: Path, rng: np.random.Generator) -> None:
    """One draw of every shock, in the files themselves."""
    shock = {name: deviation * rng.standard_normal() for name, deviation in DEVIATIONS.items()}
    [hours] = raw.glob("consumption_hourly_*.parquet")
    table = pq.read_table(hours).to_pandas()
    for name, kind in (("consumption_elec_kwh", "electricity"), ("consumption_gas_m3", "gas")):
        table[name] = table[name] * np.exp(shock[kind])
    table.to_parquet(hours, index=False)
    prices = pd.read_csv(raw / "price_history.csv")
    rising = pd.to_datetime(prices["pricing_date"]).rank(pct=True)  # a trend over the window, not a step
    for name in prices.filter(regex="variable_price").columns:
        prices[name] *= np.exp(shock["prices"] * rising)
    prices.to_csv(raw / "price_history.csv", index=False)
    costs = pd.read_csv(raw / "costs_by_province_month.csv")
    for name in costs.columns[2:]:
        costs[name] *= np.exp(shock["costs"])
    costs.to_csv(raw / "costs_by_province_month.csv", index=False)
    contacts = pd.read_json(raw / "customer_interactions.json", dtype=False, convert_dates=False)
    kept = contacts[rng.random(len(contacts)) > abs(shock["contacts"])]
    kept.to_json(raw / "customer_interactions.json", orient="records")


if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if argument != "--common"]
    place = Path(names[0]) if names else baseline.SHIPPED
    record = baseline.read(place) if "--common" in sys.argv else learned()
    replace(record, common=common()).write(place)

"""Hourly readings that add up to the monthly totals.

A day's shape depends on the kind of customer and on working day or weekend; every hour is shaken. Readings have every
digit of a double, as the source's do: its CSV takes 49 to 53 bytes an hour, its Parquet file 10 to 11. Negative
readings come at the published rates and stand in hours that carry nothing of the total.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.simulate.figures import figures
from spanishgas.simulate.market import Energy
from spanishgas.simulate.population import Floats
from spanishgas.simulate.streams import BLOCK, Draws, Stream, month_start

_SHAPES = pd.read_csv(Path(__file__).with_name("shapes.csv"), dtype=np.float32)
SHAPES = _SHAPES[["home", "shop", "plant"]].to_numpy().T.copy()
"""Electricity by hour of the day: Residential, SME, Corporate."""
BOILER = _SHAPES["boiler"].to_numpy()
"""Gas by hour of the day."""
HOURS = figures("hours")
WEEKEND = HOURS.weekend.astype(np.float32)


def timestamps(span: slice) -> NDArray[np.datetime64]:
    """Every hour of the months in `span`."""
    start, stop = np.datetime64(month_start(span.start), "h"), np.datetime64(month_start(span.stop), "h")
    return np.arange(start, stop).astype("datetime64[us]")


def draw_hours(
    people: pd.DataFrame, energy: Energy, keep: NDArray[np.bool_], draws: Draws, span: slice
) -> tuple[Floats, Floats]:
    """Readings of the customers `keep` of a block, customer x hour: electricity (kWh) and gas (m3).

    A month's readings depend on the block's draws and the month alone, not on `keep` or `span`.
    """
    elec, gas = [], []
    segment = people["segment"].to_numpy()
    for month in range(span.start, span.stop):
        g = draws.rng(Stream.HOURS, month)
        first, after = month_start(month), month_start(month + 1)
        size = (after - first).days * 24
        hour = np.arange(size) % 24
        weekend = (np.arange(size) // 24 + first.weekday()) % 7 >= 5
        daily = SHAPES[:, hour] * np.where(weekend, WEEKEND[:, None], np.float32(1))
        shake = g.random((BLOCK, size), dtype=np.float32) + np.float32(0.4)
        weight = daily[segment] * shake
        rows, columns = _places(g, HOURS.elec_negative_rate, BLOCK, size)
        weight[rows, columns] = 0
        readings = _spread(weight, energy.elec[:, month])
        mean = energy.elec[rows, month] / size
        readings[rows, columns] = -np.maximum(
            g.exponential(HOURS.elec_negative_size, len(rows)) * mean, HOURS.least
        )
        elec.append(readings[keep])
        dipped = readings < 0
        with_gas = np.flatnonzero(people["gas"])
        burned = np.zeros((BLOCK, size))
        weight = BOILER[hour] * (g.random((len(with_gas), size), dtype=np.float32) + np.float32(0.4))
        rows, columns = _places(g, HOURS.gas_negative_rate, len(with_gas), size)
        stands = ~dipped[with_gas[rows], columns] | (g.random(len(rows)) < HOURS.both_negative_share)
        rows, columns = rows[stands], columns[stands]
        weight[rows, columns] = 0
        readings = _spread(weight, energy.gas[with_gas, month])
        dip = np.exp(
            np.log(HOURS.gas_negative_median) + HOURS.gas_negative_spread * g.standard_normal(len(rows))
        )
        readings[rows, columns] = -np.minimum(dip, HOURS.gas_negative_limit)
        burned[with_gas] = readings
        gas.append(burned[keep])
    return np.concatenate(elec, axis=1), np.concatenate(gas, axis=1)


def _places(
    g: np.random.Generator, rate: float, rows: int, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of a table that are hit, each with probability `rate`; sorted, no cell twice."""
    hits = np.unique(g.integers(0, max(rows * columns, 1), g.binomial(rows * columns, rate)))
    return hits // columns, hits % columns


def _spread(weight: NDArray[np.float32], total: Floats) -> Floats:
    """`total` of each row over its columns in proportion to `weight`."""
    parts = weight.astype(np.float64)
    parts *= (total / parts.sum(axis=1))[:, None]
    return parts

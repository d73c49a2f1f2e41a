"""Make the table of the page "From your own table", and a later one: `python docs/shop.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd


def customers(rows: int, seed: int) -> pd.DataFrame:
    """Customers of a shop: whoever comes seldom, on the basic plan, leaves more often."""
    rng = np.random.default_rng(seed)
    visits, member = rng.poisson(6, rows), rng.integers(0, 2, rows)
    plan = rng.choice(["basic", "full", "family"], rows)
    odds = 0.3 - 0.35 * visits + 1.3 * (plan == "basic") + 1.3 * member
    return pd.DataFrame(
        {
            "Customer No": [f"{seed}-{n:05d}" for n in range(rows)],
            "Visits": visits,
            "Plan": plan,
            "IsMember": member,
            "Last Basket": rng.gamma(2.0, 20.0, rows).round(2),
            "Since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), unit="D"),
            "Country": "ES",
            "Margin": rng.gamma(2.0, 5.0, rows).round(2),
            "Left": np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no"),
        }
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    customers(3_000, 1).to_csv(folder / "shop.csv", index=False)
    customers(1_000, 2).drop(columns="Left").to_csv(folder / "march.csv", index=False)

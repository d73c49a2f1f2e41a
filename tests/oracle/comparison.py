"""Tables side by side, nulls included."""

from __future__ import annotations

import numpy as np
import pandas as pd

RELATIVE = 1e-6


def assert_equal_columns(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Every column of `theirs` stands in `ours` with the same values, nulls included."""
    differing = []
    for name in theirs.columns:
        a, b = ours[name], theirs[name]
        if pd.api.types.is_numeric_dtype(b):
            left, right = a.astype("float64").to_numpy(), b.astype("float64").to_numpy()
            same = np.isclose(left, right, rtol=RELATIVE, atol=1e-9, equal_nan=True)
        else:
            same = (a.fillna("<null>").astype(str).to_numpy()) == (b.fillna("<null>").astype(str).to_numpy())
        if not same.all():
            rows = np.flatnonzero(~same)[:5]
            shown = (
                pd.DataFrame({"id": ours["customer_id"], "ours": a, "theirs": b})
                .iloc[rows]
                .to_dict("records")
            )
            differing.append(f"{name}: {len(np.flatnonzero(~same))} rows, {shown}")
    assert not differing, "\n".join(differing)

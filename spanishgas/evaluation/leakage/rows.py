"""Checks of the rows: what is dated after as_of, and who stands on both sides."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from spanishgas.evaluation.leakage.finding import ALPHA, LeakageFinding
from spanishgas.evaluation.metrics import Array

BESIDE = ("customer_id", "churn", "as_of", "model_version")
AGES = {"ago", "since", "tenure", "age"}
PLANS = {"next", "renewal", "end", "ends", "expiry", "expires", "due", "until", "planned", "to"}
"""Words of a column's name: of a time counted back from as_of, and of a date that may lie beyond it."""
DAYS = ("%Y%m%d", "%d/%m/%Y", "%d-%m-%Y", "ISO8601")
NEAR, NEIGHBOURS, FEWEST_DIMENSIONS, DECIMALS = 0.2, 5, 5.0, 2
"""A copy's distance to its origin over that to the fifth nearest row, at most (the least of 21,000 honest customers was
0.31); dimensions from which closeness is no chance; decimals of a standard deviation that count."""


def dated_after(rows: pd.DataFrame, as_of: date) -> LeakageFinding:
    """Customers with an age below zero, or with a date beyond `as_of`, in any column that holds ages or dates.

    Dates are timestamps, and text or whole numbers that all read as days. A column that names a plan, such as
    next_renewal_date, may lie ahead.
    """
    limit, hit = pd.Timestamp(as_of) + pd.Timedelta(days=1), dict[str, pd.Series]()
    for name in map(str, rows.columns.drop([c for c in BESIDE if c in rows])):
        words = set(name.lower().split("_"))
        if words & AGES and pd.api.types.is_numeric_dtype(rows[name]):
            late = rows[name] < 0
        elif not words & PLANS and (days := dates(rows[name])) is not None:
            late = days >= limit
        else:
            continue
        late = late.fillna(False).astype(bool)
        hit |= {name: late} if late.any() else {}
    return LeakageFinding(
        name="dated_after_as_of",
        value=float(pd.DataFrame(hit, index=rows.index).any(axis=1).sum()),
        limit=0,
        words=f"customers with something that happened after {as_of}",
        way_out="build gold again as of the date of the extract; rows dated later must not reach it",
        features=tuple(hit),
    )


def dates(column: pd.Series) -> pd.Series | None:
    """The days that a column holds, without time zone; None where some value is no day of 1900 to 2199."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return pd.to_datetime(column, utc=True).dt.tz_localize(None)
    some = column.dropna()
    if some.empty or pd.api.types.is_bool_dtype(column):
        return None
    if pd.api.types.is_numeric_dtype(column):
        if not some.between(19000101, 21991231).all() or (some % 1 != 0).any():
            return None
        some = some.astype("int64")
    text = some.astype(str).str.strip()
    if not text.str.match(r"\d{8}$|\d{4}-\d\d-\d\d|\d\d[/-]\d\d[/-]\d{4}$").all():
        return None
    for form in DAYS:
        days = pd.Series(pd.to_datetime(text, format=form, errors="coerce", utc=True))
        if days.notna().all():
            return days.dt.tz_localize(None).reindex(column.index)
    return None


def duplicates(trained: pd.DataFrame, held_out: pd.DataFrame) -> LeakageFinding:
    """Held-out customers whose id, or whose every gold value, stands among the training rows too.

    All columns of gold are compared, not the model's alone: in few columns of few values customers agree by chance.
    """
    columns = [c for c in trained.columns if c not in BESIDE[:2]]
    seen = set(pd.util.hash_pandas_object(trained[columns], index=False))
    again = pd.util.hash_pandas_object(held_out[columns], index=False).isin(seen)
    again |= held_out["customer_id"].isin(set(trained["customer_id"]))
    return LeakageFinding(
        name="duplicates",
        value=float(again.sum()),
        limit=0,
        words="held-out customers that the model was trained on, under the same id or another",
        way_out="give each customer one id in the raw files and build gold again",
    )


def near_copies(trained: pd.DataFrame, held_out: pd.DataFrame) -> LeakageFinding:
    """Held-out customers who lie far closer to their nearest training row than to their fifth nearest.

    Columns are compared by ranks among the training rows. In D dimensions chance brings a distance below r times the
    fifth with probability 1 - (1 - r^D)^4, and the fourth over the fifth, to the power of D, has the median 0.5^(1/4),
    from which D follows (Facco et al. 2017). Ratios count that chance would bring in ALPHA of the tables.
    """
    near, far = _ranks(trained, held_out)
    distance, _ = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(near).kneighbors(far)
    apart = distance[distance[:, -1] > 0]
    ratio = apart / apart[:, -1:]
    typical = float(np.median(ratio[:, -2])) if len(ratio) else 0.0
    dimensions = np.log(0.5) / (4 * np.log(typical)) if 0 < typical < 1 else 0.0
    few = dimensions < FEWEST_DIMENSIONS
    near_by = 0.0 if few else min(NEAR, (ALPHA / (4 * len(far))) ** (1 / dimensions))
    return LeakageFinding(
        name="near_copies",
        value=float((ratio[:, 0] < near_by).sum()),
        limit=0,
        words="held-out customers that are all but one of the training rows",
        way_out="give each customer one id in the raw files and build gold again",
    )


def _ranks(trained: pd.DataFrame, held_out: pd.DataFrame) -> tuple[Array, Array]:
    """Both sides in ranks from 0 to 1 among the training rows, and beside them where values are missing."""
    sides: tuple[list[Array], list[Array]] = ([], [])
    for name in trained.columns.drop([c for c in BESIDE if c in trained]):
        both = pd.concat([trained[name], held_out[name]], ignore_index=True)
        if pd.api.types.is_numeric_dtype(both) and not pd.api.types.is_bool_dtype(both):
            values = both.to_numpy(dtype="float64", na_value=np.nan)
            scale = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
            values = (values / (scale or 1.0)).round(DECIMALS)
            order = np.sort(values[: len(trained)][~np.isnan(values[: len(trained)])])
            between = [np.searchsorted(order, values, side=side) for side in ("left", "right")]
            placed = np.where(np.isnan(values), 0.0, (between[0] + between[1]) / (2 * max(1, len(order))))
            parts = [placed, np.isnan(values).astype(float)] if np.isnan(values).any() else [placed]
        else:
            codes = pd.factorize(both.astype(str))[0]
            parts = [codes / max(1, codes.max())]
        for part in parts:
            sides[0].append(part[: len(trained)])
            sides[1].append(part[len(trained) :])
    return np.column_stack(sides[0]), np.column_stack(sides[1])

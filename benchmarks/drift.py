"""How often the alarm rings for nothing, and what it hears: ours, Evidently's default, and any KS test below 0.01.

Without drift, twice: small utilities of 1,000 customers, one to twelve months after December, judged by ordinary change
that was learned from the other half of the customers (600 extracts, both halves in turn); and small utilities of a seed
that the shipped ordinary change has not seen. With drift: the shifts of the simulator at graded strengths, three months
after. And the same at 20,000 customers, of which there are few.

Evidently's default is computed by its documented rule on the same tests (Kolmogorov-Smirnov, chi-squared and a z-test
at 0.05 up to 1,000 reference rows; above, Wasserstein and Jensen-Shannon distances from 0.1 on; drift where half of
the columns drift), and held against Evidently itself on some tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare, ks_2samp, wasserstein_distance

from benchmarks.ordinary import CUSTOMERS, LAGS, pairs
from benchmarks.ordinary import SEED as LEARNED
from benchmarks.pools import divided, month_end, pool
from spanishgas.evaluation.simultaneous import critical, wilson
from spanishgas.features import load_tiers
from spanishgas.monitoring import ordinary
from spanishgas.monitoring.alarm import judge
from spanishgas.monitoring.bins import shares
from spanishgas.monitoring.ordinary import Ordinary, learn
from spanishgas.training.experiment import load_experiment, load_policy
from spanishgas.training.matrix import is_text

SEED, SMALL, LARGE, LAG = 12, 1_000, 20_000, 3
FRESH = (3,)
"""Months after December for which the fresh seed is drawn without drift."""
SHIFTED = 20_000
STRENGTHS = ("0.1", "0.25", "0.5", "1")
SHIFTS = ("prices", "channels", "province", "concept")
CHECKED = 6
Pair = tuple[pd.DataFrame, pd.DataFrame]
Rule = Callable[[pd.DataFrame, pd.DataFrame], bool]


def kinds() -> dict[str, str]:
    """The inputs of the full model for trees."""
    tiers = load_tiers()
    return {f: tiers.kind(f) for f in load_experiment("E5").features(tiers, linear=False)}


KINDS, LIMITS = kinds(), load_policy().drift


def ours(before: pd.DataFrame, after: pd.DataFrame, lag: int, usual: Ordinary) -> bool:
    """The project's alarm."""
    dates = (month_end(0), month_end(lag))
    return judge(shares(before, after, KINDS), (len(before), len(after)), dates, usual, LIMITS).alarm


def any_ks(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """The replaced system's rule, on the inputs: one number whose KS test is below 0.01."""
    numbers = [f for f, kind in KINDS.items() if not is_text(kind)]
    known = ((before[f].dropna().astype(float), after[f].dropna().astype(float)) for f in numbers)
    return any(len(a) and len(b) and ks_2samp(a, b, method="asymp").pvalue < 0.01 for a, b in known)


def evidently_rule(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """Evidently 0.7's default, by its documentation."""
    drifted = [_column(before[f], after[f], is_text(kind), len(before)) for f, kind in KINDS.items()]
    return sum(drifted) / len(drifted) >= 0.5


def _column(before: pd.Series, after: pd.Series, text: bool, rows: int) -> bool:
    a: pd.Series
    b: pd.Series
    if text:
        a, b = (s.astype(object).fillna("missing").astype(str) for s in (before, after))
    else:
        a, b = (s.dropna().astype(float) for s in (before, after))
    few = a.nunique() <= 5
    counts = pd.concat([a.value_counts(), b.value_counts()], axis=1).fillna(0).to_numpy().T
    if rows > 1_000:
        if text or few:
            return bool(
                jensenshannon(counts[0] / counts[0].sum(), counts[1] / counts[1].sum(), base=2) >= 0.1
            )
        return bool(wasserstein_distance(a, b) / max(float(a.to_numpy(dtype=float).std()), 0.001) >= 0.1)
    if not (text or few):
        return bool(ks_2samp(a, b, method="asymp").pvalue <= 0.05)
    if counts.shape[1] > 2:
        return bool(_chi(counts) < 0.05)
    return bool(_z(counts) < 0.05)


def _chi(counts: np.ndarray) -> float:
    """Chi-squared test of the current counts against the reference's shares."""
    expected = counts[0] / counts[0].sum() * counts[1].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(chisquare(counts[1], expected).pvalue) if (expected > 0).all() else 0.0


def _z(counts: np.ndarray) -> float:
    """Two-sided z-test of two proportions, not pooled."""
    total = counts.sum(axis=1)
    share = counts[:, 0] / total
    error = float(np.sqrt((share * (1 - share) / total).sum()))
    return 1.0 if error == 0 else 2 * NormalDist().cdf(-abs(share[0] - share[1]) / error)


def evidently_itself(before: pd.DataFrame, after: pd.DataFrame) -> bool:
    """What Evidently answers."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    texts = [f for f, kind in KINDS.items() if is_text(kind)]
    numbers = [f for f in KINDS if f not in texts]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    then, now = (
        Dataset.from_pandas(
            t[numbers]
            .astype("float64")
            .join(t[texts].astype(object).fillna("missing"))
            .reset_index(drop=True),
            data_definition=definition,
        )
        for t in (before, after)
    )
    found = Report([DataDriftPreset()]).run(current_data=now, reference_data=then).dict()["metrics"]
    return float(found[0]["value"]["share"]) >= 0.5


OTHERS: dict[str, Rule] = {"Evidently's default": evidently_rule, "any KS p < 0.01": any_ks}


class Count:
    """For how many of how many extracts each rule rang."""

    def __init__(self) -> None:
        self.total, self.rung = 0, dict.fromkeys(("ours", *OTHERS), 0)

    def add(self, lag: int, pair: Pair, usual: Ordinary) -> None:
        """One extract more."""
        self.total += 1
        self.rung["ours"] += ours(*pair, lag, usual)
        for name, rule in OTHERS.items():
            self.rung[name] += rule(*pair)

    def row(self, words: str) -> str:
        """A line of the table: shares with their 95 % intervals."""
        cells = []
        for hits in self.rung.values():
            low, high = wilson(hits, self.total, critical(1))
            cells.append(f"{hits / self.total:.1%} ({low:.1%} to {high:.1%})")
        return f"| {words} | {self.total} | " + " | ".join(cells) + " |"


def half(table: pd.DataFrame, side: int) -> pd.DataFrame:
    """The customers of one side, for ever on it."""
    kept: pd.DataFrame = table.loc[
        pd.util.hash_array(table["customer_id"].to_numpy(dtype=object)) % 2 == side
    ]
    return kept


def halves(lag: int, side: int, division: int) -> Iterator[Pair]:
    """Small utilities of one half of the customers that the shipped record was learned from."""
    before, after = pool(CUSTOMERS, LEARNED, 0), pool(CUSTOMERS, LEARNED, lag)
    rng = np.random.default_rng([LEARNED, lag, side, division])
    yield from divided(half(before[before["churn"].notna()], side), half(after, side), SMALL, rng)


def learned(side: int, lags: Sequence[int]) -> Ordinary:
    """Ordinary change of one half."""
    changes = {
        lag: [[shares(a, b, KINDS) for a, b in halves(lag, side, division)] for division in (0, 1)]
        for lag in lags
    }
    return learn(changes, SMALL, month=12, source="one half")


def crossed(lags: Sequence[int]) -> Count:
    """Each half judged by what the other half has taught."""
    count = Count()
    for side in (0, 1):
        usual = learned(1 - side, lags)
        for lag in lags:
            for pair in halves(lag, side, 2):
                count.add(lag, pair, usual)
    return count


def fresh(lags: Sequence[int], size: int) -> Count:
    """Utilities of the fresh seed, judged by the shipped record."""
    count, usual = Count(), ordinary.read(ordinary.SHIPPED)
    for lag in lags:
        for pair in pairs(SEED, lag, size, 0):
            count.add(lag, pair, usual)
    return count


def shifted(shift: str, size: int) -> Count:
    """Utilities of the fresh seed to which something happened."""
    count, usual = Count(), ordinary.read(ordinary.SHIPPED)
    before = pool(CUSTOMERS, SEED, 0)
    kept = before[before["churn"].notna()].head(SHIFTED)
    after = pool(SHIFTED, SEED, LAG, shift)
    for pair in divided(kept, after, size, np.random.default_rng([SEED, LAG, size])):
        count.add(LAG, pair, usual)
    return count


def run(quick: bool) -> None:
    """Print the table, then how often Evidently itself says what its rule says."""
    months, lags, sizes = ([LAG], FRESH[:1], (SMALL,)) if quick else (LAGS, FRESH, (SMALL, LARGE))
    print("| what | extracts | ours | " + " | ".join(OTHERS) + " |")
    print("|---|---|---" + "|---" * len(OTHERS) + "|")
    for size in sizes:
        print(fresh(lags, size).row(f"no drift, fresh seed, {size:,} customers"), flush=True)
        for shift in SHIFTS:
            for strength in STRENGTHS[-1:] if quick else STRENGTHS:
                asked = shift if strength == "1" else f"{shift}:{strength}"
                print(shifted(asked, size).row(f"{shift} x {strength}, {size:,} customers"), flush=True)
    print(crossed(months).row(f"no drift, learned from the other half, {SMALL:,} customers"), flush=True)
    some = [pair for number, pair in enumerate(pairs(SEED, LAG, SMALL, 0)) if number < CHECKED]
    agree = sum(evidently_rule(*pair) == evidently_itself(*pair) for pair in some)
    print(f"Evidently itself says what its rule says for {agree} of {CHECKED} tables without drift")

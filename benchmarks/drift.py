"""How often the alarm rings for nothing, and what it hears: ours, Evidently's default, and any KS test below 0.01.

Without drift, twice: small utilities of 1,000 customers, one, three, six and nine months after each calendar month,
judged by baseline variation that was learned from the other half of the customers (both halves in turn, 576 extracts);
and small utilities of a seed that the shipped baseline variation has not seen, three months after December and March.
With drift: the shifts of the simulator at graded strengths, three months after December. And the same at 10,000
customers, of which there is one each.

Evidently's default is computed by its documented rule on the same tests (Kolmogorov-Smirnov, chi-squared and a z-test
at 0.05 up to 1,000 reference rows; above, Wasserstein and Jensen-Shannon distances from 0.1 on; drift where half of
the columns drift), and held against Evidently itself on some tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare, ks_2samp, wasserstein_distance

from benchmarks.baseline import CUSTOMERS, STARTS
from benchmarks.baseline import SEED as LEARNED
from benchmarks.pools import divided, month_end, pool
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.evaluation.inference import Z, wilson
from spanishgas.features import load_tiers
from spanishgas.monitoring import baseline
from spanishgas.monitoring.alarm import judge
from spanishgas.monitoring.baseline import Baseline, learn
from spanishgas.monitoring.parts import shares
from spanishgas.training.matrix import is_text

SEED, SMALL, LARGE, LAG = 12, 1_000, 10_000, 3
FRESH = (0, 3)
"""Months from December to the earlier table of the fresh seed without drift, LAG months before the later one."""
CROSSED, TESTED = (1, 3, 6, 9), 6
"""Lags at which halves judge each other, and how many utilities of each half at one start and lag: it takes time."""
GRADES = ("0.1", "0.25", "1")
SHIFTS = {"prices": GRADES, "channels": GRADES, "province": GRADES, "concept": GRADES[-1:]}
CHECKED = 6
Pair = tuple[pd.DataFrame, pd.DataFrame]
Rule = Callable[[pd.DataFrame, pd.DataFrame], bool]


def kinds() -> dict[str, str]:
    """The inputs of the full model for trees."""
    tiers = load_tiers()
    return {f: tiers.kind(f) for f in load_experiment("E5").features(tiers, linear=False)}


KINDS, LIMITS = kinds(), load_policy().drift


def ours(before: pd.DataFrame, after: pd.DataFrame, start: int, lag: int, usual: Baseline) -> bool:
    """The project's alarm."""
    dates = (month_end(start), month_end(start + lag))
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

    def add(self, start: int, lag: int, pair: Pair, usual: Baseline) -> None:
        """One extract more."""
        self.total += 1
        self.rung["ours"] += ours(*pair, start, lag, usual)
        for name, rule in OTHERS.items():
            self.rung[name] += rule(*pair)

    def __add__(self, other: Count) -> Count:
        both = Count()
        both.total = self.total + other.total
        both.rung = {name: hits + other.rung[name] for name, hits in self.rung.items()}
        return both

    def row(self, words: str) -> str:
        """A line of the table: shares with their 95 % intervals."""
        cells = []
        for hits in self.rung.values():
            low, high = wilson(hits, self.total, Z)
            cells.append(f"{hits / self.total:.1%} ({low:.1%} to {high:.1%})")
        return f"| {words} | {self.total} | " + " | ".join(cells) + " |"


def half(table: pd.DataFrame, side: int) -> pd.DataFrame:
    """The customers of one side, for ever on it."""
    kept: pd.DataFrame = table.loc[
        pd.util.hash_array(table["customer_id"].to_numpy(dtype=object)) % 2 == side
    ]
    return kept


def halves(start: int, lag: int, side: int) -> Iterator[Pair]:
    """Small utilities of one half of the customers that the shipped record was learned from."""
    before, after = (half(pool(CUSTOMERS, LEARNED, at), side) for at in (start, start + lag))
    yield from divided(before, after, SMALL, np.random.default_rng([LEARNED, start, lag, side]))


def crossed(starts: Sequence[int], lags: Sequence[int]) -> dict[int, Count]:
    """Each half judged by what the other half has taught: by start."""
    usual = [_learned(side, starts, lags) for side in (0, 1)]
    counts = {start: Count() for start in starts}
    for start, lag, side in product(starts, lags, (0, 1)):
        for pair in islice(halves(start, lag, side), TESTED):
            counts[start].add(start, lag, pair, usual[1 - side])
    return counts


def _learned(side: int, starts: Sequence[int], lags: Sequence[int]) -> Baseline:
    changes = {
        (month_end(start).month, lag): [shares(a, b, KINDS) for a, b in halves(start, lag, side)]
        for start, lag in product(starts, lags)
    }
    return learn(changes, SMALL, source="one half")


def fresh(start: int, size: int, shift: str = "none") -> Iterator[Pair]:
    """Utilities of the fresh seed, and what becomes of them in LAG months."""
    before, after = pool(LARGE, SEED, start), pool(LARGE, SEED, start + LAG, shift)
    # in March a few have left
    yield from divided(before, after, min(size, len(before)), np.random.default_rng([SEED, start, size]))


def by_shipped(start: int, size: int, shift: str = "none") -> Count:
    """They, judged by the shipped record."""
    count, usual = Count(), baseline.read(baseline.SHIPPED)
    for pair in fresh(start, size, shift):
        count.add(start, LAG, pair, usual)
    return count


def run(quick: bool) -> None:
    """Print the table, the false alarms by month, and how often Evidently itself says what its rule says."""
    starts, lags, sizes = ((0,), (LAG,), (SMALL,)) if quick else (STARTS, CROSSED, (SMALL, LARGE))
    print("| what | extracts | ours | " + " | ".join(OTHERS) + " |")
    print("|---|---|---" + "|---" * len(OTHERS) + "|")
    counts = crossed(starts, lags)
    whole = sum(counts.values(), Count())
    print(whole.row(f"no drift, learned from the other half, {SMALL:,} customers"), flush=True)
    for size in sizes:
        for start in starts[:1] if quick else FRESH:
            words = f"no drift, a fresh seed after {month_end(start):%B}, {size:,} customers"
            print(by_shipped(start, size).row(words), flush=True)
        for shift, grades in SHIFTS.items():
            for grade in grades[-1:] if quick else grades:
                asked = shift if grade == "1" else f"{shift}:{grade}"
                print(by_shipped(0, size, asked).row(f"{shift} x {grade}, {size:,} customers"), flush=True)
    by_month = (f"{month_end(start):%B} {count.rung['ours']}" for start, count in counts.items())
    print(f"Ours rang for nothing, of {whole.total // len(counts)} after each month: {', '.join(by_month)}")
    some = list(islice(fresh(0, SMALL), CHECKED))
    agree = sum(evidently_rule(*pair) == evidently_itself(*pair) for pair in some)
    print(f"Evidently itself says what its rule says for {agree} of {CHECKED} tables without drift")

"""How often the alarm rings for nothing, and what it hears: ours, Evidently's default, and any KS test below 0.01.

Simulated utilities of a seed that the shipped ordinary change has not seen, divided into small ones. Without drift:
fifty utilities of 1,000 customers at each of several months after December. With drift: the shifts of the simulator at
graded strengths, three months after. And the same at 20,000 customers, of which there are few.

Evidently's default is computed by its documented rule on the same tests (Kolmogorov-Smirnov, chi-squared and a z-test
at 0.05 up to 1,000 reference rows; above, Wasserstein and Jensen-Shannon distances from 0.1 on; drift where half of
the columns drift), and held against Evidently itself on some tables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon
from scipy.stats import chisquare, ks_2samp, wasserstein_distance

from benchmarks.ordinary import CUSTOMERS, pairs
from benchmarks.pools import divided, month_end, pool
from spanishgas.features import load_tiers
from spanishgas.monitoring import ordinary
from spanishgas.monitoring.alarm import judge
from spanishgas.monitoring.bins import shares
from spanishgas.training.experiment import load_experiment, load_policy
from spanishgas.training.matrix import is_text

SEED, SMALL, LARGE, LAG = 12, 1_000, 20_000, 3
LAGS = tuple(int(lag) for lag in os.environ.get("SPANISHGAS_BENCH_LAGS", "1,2,3,4,6,8,9,10,11,12").split(","))
SHIFTED = 20_000
STRENGTHS = ("0.1", "0.25", "0.5", "1")
SHIFTS = ("prices", "channels", "province", "concept")
CHECKED = 6
Pair = tuple[pd.DataFrame, pd.DataFrame]
Rule = Callable[[pd.DataFrame, pd.DataFrame, int], bool]


def kinds() -> dict[str, str]:
    """The inputs of the full model for trees."""
    tiers = load_tiers()
    return {f: tiers.kind(f) for f in load_experiment("E5").features(tiers, linear=False)}


KINDS, USUAL, LIMITS = kinds(), ordinary.read(ordinary.SHIPPED), load_policy().drift


def ours(before: pd.DataFrame, after: pd.DataFrame, lag: int) -> bool:
    """The project's alarm."""
    dates = (month_end(0), month_end(lag))
    return judge(shares(before, after, KINDS), (len(before), len(after)), dates, USUAL, LIMITS).alarm


def any_ks(before: pd.DataFrame, after: pd.DataFrame, lag: int) -> bool:
    """The replaced system's rule, on the inputs: one number whose KS test is below 0.01."""
    numbers = [f for f, kind in KINDS.items() if not is_text(kind)]
    known = ((before[f].dropna().astype(float), after[f].dropna().astype(float)) for f in numbers)
    return any(len(a) and len(b) and ks_2samp(a, b).pvalue < 0.01 for a, b in known)


def evidently_rule(before: pd.DataFrame, after: pd.DataFrame, lag: int) -> bool:
    """Evidently 0.7's default, by its documentation."""
    drifted = [_column(before[f], after[f], is_text(kind), len(before)) for f, kind in KINDS.items()]
    return sum(drifted) / len(drifted) >= 0.5


def _column(before: pd.Series, after: pd.Series, text: bool, rows: int) -> bool:
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
        return bool(wasserstein_distance(a, b) / max(float(a.std(ddof=0)), 0.001) >= 0.1)
    if not (text or few):
        return bool(ks_2samp(a, b).pvalue <= 0.05)
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


def evidently_itself(before: pd.DataFrame, after: pd.DataFrame, lag: int) -> bool:
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


RULES: dict[str, Rule] = {"ours": ours, "Evidently's default": evidently_rule, "any KS p < 0.01": any_ks}


def later(lag: int, size: int, shift: str) -> Iterator[Pair]:
    """Tables of small utilities, of which the later ones are shifted."""
    before = pool(CUSTOMERS, SEED, 0)
    kept = before[before["churn"].notna()].head(SHIFTED)
    yield from divided(kept, pool(SHIFTED, SEED, lag, shift), size, np.random.default_rng([SEED, lag, size]))


def counted(tables: Iterator[tuple[int, Pair]]) -> tuple[int, dict[str, int]]:
    """How many pairs there were, and for how many of them each rule rang."""
    total, rung = 0, dict.fromkeys(RULES, 0)
    for lag, (before, after) in tables:
        total += 1
        for name, rule in RULES.items():
            rung[name] += rule(before, after, lag)
    return total, rung


def wilson(hits: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    middle, spread = hits + z**2 / 2, z * np.sqrt(hits * (total - hits) / total + z**2 / 4)
    return float((middle - spread) / (total + z**2)), float((middle + spread) / (total + z**2))


def row(words: str, total: int, rung: dict[str, int]) -> str:
    """A line of the table."""
    cells = []
    for hits in rung.values():
        low, high = wilson(hits, total)
        cells.append(f"{hits / total:.1%} ({low:.1%} to {high:.1%})")
    return f"| {words} | {total} | " + " | ".join(cells) + " |"


def still(lags: tuple[int, ...], size: int) -> Iterator[tuple[int, Pair]]:
    """Tables without drift."""
    for lag in lags:
        yield from ((lag, pair) for pair in pairs(SEED, lag, size, 0))


def run(quick: bool) -> None:
    """Print both tables."""
    lags, sizes = (LAGS[:1], (SMALL,)) if quick else (LAGS, (SMALL, LARGE))
    strengths = STRENGTHS[-1:] if quick else STRENGTHS
    print("| what | extracts | " + " | ".join(RULES) + " |")
    print("|---|---" + "|---" * len(RULES) + "|")
    for size in sizes:
        words = f"no drift, {size:,} customers"
        print(row(f"{words}, {', '.join(map(str, lags))} months", *counted(still(lags, size))), flush=True)
        for shift in SHIFTS:
            for strength in strengths:
                asked = f"{shift}:{strength}" if strength != "1" else shift
                tables = ((LAG, pair) for pair in later(LAG, size, asked))
                print(row(f"{shift} {strength}, {size:,} customers", *counted(tables)), flush=True)
    agree = 0
    for number, pair in enumerate(pairs(SEED, lags[0], SMALL, 0)):
        if number == CHECKED:
            break
        agree += evidently_rule(*pair, lags[0]) == evidently_itself(*pair, lags[0])
        print(f"Evidently itself, table {number}: agrees so far {agree} of {number + 1}", file=sys.stderr)
    print(f"Evidently itself says what its rule says for {agree} of {CHECKED} tables without drift")

"""The coefficients of the simulator's churn model, fitted to the published tables: what `churn.PUBLISHED` is made of.

Chosen by hand, since nothing is published about them: the shapes of the market effects (SHAPES), strong enough for the
published ladder. Everything else is least squares between expected and published rates over drawn customers, with all
effects present; the log odds are linear in the coefficients, so a few Gauss-Newton steps do it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from spanishgas.simulate import churn
from spanishgas.simulate.churn import Coefficients
from spanishgas.simulate.extract import draw_blocks
from spanishgas.simulate.population import CHANNELS
from spanishgas.simulate.streams import BASE, window

Floats = NDArray[np.float64]
CUSTOMERS, SEED = 60_000, 2_024
SHAPES: Coefficients = {
    "intercept": -3.0,
    "renewal": (0.7, 1.9, 1.9, 2.3, 2.2, 1.3, 0.7, 0.0, -0.8, -1.5, -1.0),
    "tenure": (0.0,) * 6 + (-7.0,),
    "channel": (0.0,) * 6,
    "segment": (0.0,) * 3,
    "competition": (0.0,) * 3,
    "dual": 0.0,
    "heavy_gas": -2.35,
    "pull": 1.15,
    "size": (-0.1, -0.1, -0.1, 0.1, 0.48, 0.48, -1.15, -1.15),
    "trend": (1.378, -0.689, -1.378, 1.034, -0.345, 0.345, 1.378),
    "change": (0.84, 0.42, 0.0, -0.42, -0.84, -0.84),
}
"""Where the fit begins; market effects stay near it, contract effects are free."""
LOOSE, FIRM, FIXED = 3.0, 0.35, 1e-4
FREEDOM: Coefficients = {
    "intercept": LOOSE,
    "renewal": (FIRM,) * 11,
    "tenure": (FIXED,) + (LOOSE,) * 5 + (FIXED,),
    "channel": (FIXED,) + (LOOSE,) * 4 + (FIRM,),
    "segment": (FIXED, LOOSE, LOOSE),
    "competition": (LOOSE, LOOSE, FIXED),
    "dual": LOOSE,
    "heavy_gas": FIRM,
    "pull": FIXED,
    "size": (FIRM,) * 8,
    "trend": (FIXED,) * 7,
    "change": (0.15,) * 6,
}
"""Standard deviation of each coefficient around its start."""


@dataclass(frozen=True)
class Target:
    """Churners `hits` of `of` customers where `where` holds; or the share of churners for whom `where` holds."""

    where: str
    hits: float
    of: int
    among_churners: bool = False


RATES = {
    "renewal_days <= 0": (63, 581),
    "0 < renewal_days <= 90": (1_047, 4_244),
    "90 < renewal_days <= 180": (750, 9_212),
    "renewal_days > 180": (142, 6_062),
    "-29 <= renewal_days <= 75": (893, 4_020),
    "75 < renewal_days <= 130": (650, 4_085),
    "130 < renewal_days <= 163": (252, 4_042),
    "163 < renewal_days <= 203": (109, 4_014),
    "renewal_days > 203": (98, 3_938),
    "segment == 0 and high_competition": (789, 5_482),
    "segment == 0 and not high_competition": (1_033, 12_608),
    "segment == 1 and high_competition": (67, 544),
    "segment == 1 and not high_competition": (95, 1_288),
    "segment == 2": (18, 177),
    "dual": (293, 3_602),
    "high_competition and 0 <= renewal_days <= 90": (430, 1_403),
    "not high_competition and 0 <= renewal_days <= 90": (617, 2_842),
    "dual and high_competition": (138, 1_093),
}
"""Churners and customers, published tables of renewal, competition, segment and fuel."""
TENURE = {
    "tenure <= 6": (118, 371, 95, 1_233),
    "6 < tenure <= 12": (112, 369, 96, 1_227),
    "12 < tenure <= 24": (203, 668, 170, 2_295),
    "24 < tenure <= 60": (392, 1_455, 378, 5_324),
    "tenure > 60": (222, 1_382, 216, 5_775),
}
"""Churners and customers within three months of renewal, and the others."""
CHANNEL = {
    "presencial_comercial": (661, 6_346, 482, 2_812),
    "oficina": (95, 1_275, 97, 561),
    "telemarketing": (57, 859, 47, 359),
    "desconocido": (237, 3_690, 168, 1_577),
    "comparador": (89, 1_828, 68, 769),
}
"""Churners and customers where competition is low, and where it is high."""
OF_CHURNERS = {
    "tenure <= 14.5167": 0.25,
    "tenure <= 31.9667": 0.5,
    "tenure <= 51.05": 0.75,
    "renewal_days <= 52": 0.25,
    "renewal_days <= 82": 0.5,
    "renewal_days <= 126": 0.75,
    "since_change <= 4.9333": 0.5 * (1 - 0.3032),
    "bill_sd <= 1.115": 0.25,
    "bill_sd <= 3.3723": 0.5,
    "bill_sd <= 12.49": 0.75,
}
"""Shares of the 2,002 churners: published quantiles of tenure, renewal, product change and monthly bills."""


def targets() -> Iterator[Target]:
    """Everything that the fit is held against."""
    near = "(0 <= renewal_days <= 90)"
    for where, counts in RATES.items():
        yield Target(where, *counts)
    for where, (hits, of, other_hits, others) in TENURE.items():
        yield Target(f"{where} and {near}", hits, of)
        yield Target(f"{where} and not {near}", other_hits, others)
    for name, (hits, of, high_hits, high) in CHANNEL.items():
        code = CHANNELS.index(name)
        yield Target(f"channel == {code} and not high_competition", hits, of)
        yield Target(f"channel == {code} and high_competition", high_hits, high)
    for where, share in OF_CHURNERS.items():
        yield Target(where, share * 2_002, 2_002, among_churners=True)


def drawn(customers: int, seed: int) -> pd.DataFrame:
    """What the model sees of drawn customers, and the deviation of their monthly bills (EUR, at even prices)."""
    frames = []
    for block in draw_blocks(customers, seed=seed, as_of=BASE):
        span = window(BASE)
        bill = block.energy.elec[:, span] * 0.13 + block.energy.gas[:, span] * 0.84
        frames.append(block.seen.assign(bill_sd=bill.std(axis=1, ddof=1)))
    return pd.concat(frames, ignore_index=True)


def flat(c: Coefficients) -> Floats:
    """Coefficients as one vector."""
    return np.hstack([np.atleast_1d(value) for value in c.values()])


def named(vector: Floats) -> Coefficients:
    """One vector as coefficients, rounded to three decimals."""
    values = iter(np.round(vector, 3).tolist())
    return {
        name: tuple(next(values) for _ in old) if isinstance(old, tuple) else next(values)
        for name, old in SHAPES.items()
    }


def _among(seen: pd.DataFrame, where: str) -> NDArray[np.bool_]:
    return np.asarray(seen.eval(where, engine="python"), dtype=bool)


def fit(seen: pd.DataFrame) -> Coefficients:
    """The coefficients whose expected rates over the customers `seen` come nearest to the published ones."""
    size = len(flat(SHAPES))
    unit = np.eye(size)
    X = np.stack([churn.log_odds(seen, named(row)) for row in unit], axis=1)
    wanted = list(targets())
    member = np.stack([_among(seen, t.where).astype(float) for t in wanted])
    share = np.array([t.hits / t.of for t in wanted])
    error = np.sqrt(share * (1 - share) / np.array([t.of for t in wanted]))
    of_churners = np.array([t.among_churners for t in wanted])[:, None]
    overall = 2_002 / 20_099
    # A share among churners is linear in the probabilities too: sum p (member - share) = 0.
    rate_weight = (member / np.maximum(member.sum(axis=1, keepdims=True), 1)) / error[:, None]
    churner_weight = (member - share[:, None]) / (len(seen) * overall) / error[:, None]
    weight = np.where(of_churners, churner_weight, rate_weight)
    aim = np.where(of_churners[:, 0], 0.0, share / error)
    start, spread = flat(SHAPES), flat(FREEDOM)

    def probability(beta: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(X @ beta))))

    def residuals(beta: Floats) -> Floats:
        return np.append(weight @ probability(beta) - aim, (beta - start) / spread)

    def slopes(beta: Floats) -> Floats:
        p = probability(beta)
        return np.vstack([weight @ ((p * (1 - p))[:, None] * X), np.diag(1 / spread)])

    return named(least_squares(residuals, start, jac=slopes, x_scale=spread).x)


def table(seen: pd.DataFrame, c: Coefficients) -> pd.DataFrame:
    """Expected beside published, in standard errors of the published figure."""
    p, rows = churn.probability(seen, c), []
    for t in targets():
        member = _among(seen, t.where)
        got = p[member].sum() / p.sum() if t.among_churners else p[member].mean()
        share = t.hits / t.of
        rows.append((t.where, share, got, (got - share) / np.sqrt(share * (1 - share) / t.of)))
    return pd.DataFrame(rows, columns=["figure", "published", "expected", "standard errors"])


def main(customers: int = CUSTOMERS, seed: int = SEED) -> None:
    """Fit, print the coefficients, how well they do, and how far `churn.PUBLISHED` lies from them."""
    seen = drawn(customers, seed)
    fitted = fit(seen)
    print(table(seen, fitted).round(3).to_string(index=False))
    print(fitted)
    print(f"largest difference from PUBLISHED: {np.abs(flat(fitted) - flat(churn.PUBLISHED)).max():.3f}")


def run(quick: bool) -> None:
    """A named benchmark: few customers if `quick`."""
    main(10_000 if quick else CUSTOMERS)


if __name__ == "__main__":
    main()

"""`python -m benchmarks offers`: do intervals of what offers do hold the truth, and how many campaigns find it.

Campaigns are drawn as `spanishgas score` draws them, by the design of policy.yaml, on customers whose probability of
churn under each offer is known: those of the simulator, and those of a world that its author did not draw, where
effects follow no risk score, some offers do harm and the score is off. Each repeat takes other customers, draws the
arms and labels of one or more campaigns, and estimates as `spanishgas outcomes` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from spanishgas.config.policy import ACTIONS, Control, Offers, load_policy
from spanishgas.evaluation.effects import ALL, BALANCE_LEVEL, average_effects, balance, comparable
from spanishgas.scoring.recommend import at_risk, choose
from spanishgas.simulate.extract import draw_blocks
from spanishgas.simulate.streams import BASE
from spanishgas.training.model import TIER, risk_tier
from tests.worlds import world

Array = NDArray[np.float64]
POPULATION, CUSTOMERS, REPEATS = 60_000, 10_000, 300
SEGMENTS = np.array(["Residential", "SME", "Corporate"], dtype=object)
SHIPPED = load_policy().offers
TRIED = SHIPPED.model_copy(
    update={"explore": 0.2, "control": Control(share=0.1, minimum=40, salt="offers"), "strata": ["risk_tier"]}
)
DESIGNS = {"a tenth of controls": SHIPPED, "40 controls a tier, a fifth tried out": TRIED}


@dataclass(frozen=True)
class Population:
    """Customers as `choose` takes them, and their churn probability under each option, shape (options, customers)."""

    customers: pd.DataFrame
    churn: Array


def customers(score: Array, segment: NDArray[np.object_], margin: Array) -> pd.DataFrame:
    """Customers at one date."""
    tiers = load_policy().risk_tiers
    return pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(len(score))],
            "churn_probability": score,
            TIER: risk_tier(score, tiers),
            "segment": segment,
            "avg_monthly_margin": margin,
            "months_to_renewal": 2.0,
        }
    )


@cache
def simulated(rows: int = POPULATION, effect: float = 1.0) -> Population:
    """The simulator's customers, scored by their true probability."""
    blocks = list(draw_blocks(rows, seed=11, as_of=BASE, effect=effect))
    kept = [block.keep for block in blocks]
    before = np.concatenate([b.after[k] for b, k in zip(blocks, kept, strict=True)])
    under = np.hstack([b.response.probability[:, k] for b, k in zip(blocks, kept, strict=True)])
    segment = np.concatenate([b.people["segment"].to_numpy()[k] for b, k in zip(blocks, kept, strict=True)])
    margin = np.random.default_rng(1).lognormal(1.9, 0.6, len(before))
    return Population(customers(before, SEGMENTS[segment], margin), np.vstack([before, under]))


@cache
def elsewhere(rows: int = POPULATION) -> Population:
    """A world whose score is off, and where what an offer does follows a number that no estimate sees."""
    drawn = world("heavy", rows, seed=3)
    z = drawn.frame[["score_0", "score_3"]].to_numpy().T
    odds = logit(drawn.truth.clip(1e-6, 1 - 1e-6)) + 1.2
    score = expit(0.8 * odds + 0.5 * z[1] - 0.1)
    under = [expit(odds - size * (1 + 1.5 * z[0])) for size in (0.1, 0.25, 0.5)]
    rng = np.random.default_rng(2)
    people = customers(score, rng.choice(SEGMENTS, rows, p=[0.6, 0.3, 0.1]), rng.lognormal(1.9, 0.6, rows))
    return Population(people, np.vstack([expit(odds), *under]))


@cache
def as_assumed(rows: int = POPULATION) -> Population:
    """The simulator's customers, on whom each offer does what policy.yaml assumes."""
    plain, menu = simulated(rows), SHIPPED.menu.values()
    left = [1.0, *(1 - offer.acceptance * offer.uplift for offer in menu)]
    return Population(plain.customers, np.outer(left, plain.churn[0]))


def campaign(population: Population, rows: NDArray[np.int64], offers: Offers, day: date) -> pd.DataFrame:
    """The log of one campaign on some of the population, without labels: as `Campaigns.rows`, with `row`."""
    people = population.customers.iloc[rows].assign(as_of=day, row=rows)
    people = people[people[TIER].ne("Low")]  # nothing is drawn of the others
    chosen = choose(people.reset_index(drop=True), offers, at_risk(people, load_policy().risk_tiers))
    log = chosen[chosen["arm"].notna()].rename(columns={"avg_monthly_margin": "margin"})
    return log.assign(treatment=log["offer"].where(log["arm"].eq("offer"), ACTIONS[0]))


def labelled(log: pd.DataFrame, population: Population, rng: np.random.Generator) -> pd.DataFrame:
    """The same with the churn that each customer's treatment leads to."""
    made = [ACTIONS.index(treatment) for treatment in log["treatment"]]
    p = population.churn[made, log["row"].to_numpy()]
    return log.assign(churn=(rng.random(len(log)) < p).astype("int64"))


def truth(population: Population, offers: Offers) -> Mapping[tuple[str, str], float]:
    """The churn avoided in the whole population, by comparison."""
    log = campaign(population, np.arange(len(population.customers)), offers, BASE)
    churn = population.churn[:, log["row"].to_numpy()]
    effects = dict[tuple[str, str], float]()
    for name in (ALL, *offers.menu):
        shares = log[[f"propensity_{option}" for option in ACTIONS[1:]]].to_numpy().T
        if name != ALL:
            shares = np.repeat([[float(option == name)] for option in ACTIONS[1:]], len(log), axis=1)
        both = comparable(log, name)
        with np.errstate(invalid="ignore", divide="ignore"):
            avoided = churn[0] - (churn[1:] * shares).sum(axis=0) / shares.sum(axis=0)
        effects["offer", name] = float(avoided[both].mean())
        if name == ALL:
            for by in (TIER, "segment"):
                of = pd.Series(avoided, log.index)[both].groupby(log[by][both]).mean()
                effects |= {(by, str(value)): float(mean) for value, mean in of.items()}
    return effects


def repeated(
    population: Population, offers: Offers, campaigns: int, repeats: int, seed: int, n: int = CUSTOMERS
) -> tuple[pd.DataFrame, Array]:
    """The estimates of every repeat, and the p-value of each repeat's test of balance."""
    rng, told, p = np.random.default_rng(seed), [], []
    for repeat in range(repeats):
        rows = rng.choice(len(population.customers), n, replace=False)
        days = [date(2025, 1 + month, 1 + repeat % 28) for month in range(campaigns)]
        drawn = offers.model_copy(
            update={"control": offers.control.model_copy(update={"salt": f"{seed} {repeat}"})}
        )
        logs = [labelled(campaign(population, rows, drawn, day), population, rng) for day in days]
        pooled = pd.concat(logs, ignore_index=True)
        told.append(average_effects(pooled, offers))
        p.append(balance(pooled)[1])
    return pd.concat(told, ignore_index=True), np.array(p)


def held(told: pd.DataFrame, true: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """How often the intervals hold the truth, by comparison."""
    aim = np.array([true[key] for key in zip(told["about"], told["value"], strict=True)])
    told = told.assign(
        truth=aim, holds=(told["low"] <= aim) & (aim <= told["high"]), positive=told["low"] > 0
    )
    told["width"] = told["high"] - told["low"]
    by = told.groupby(["about", "value"], sort=False)
    table = by[["truth", "avoided", "holds", "positive", "width", "customers", "controls"]].mean()
    return table.assign(n=by.size()).reset_index()


def run(quick: bool) -> None:
    """Print the coverage by world and design, then the power by number of campaigns."""
    repeats, rejected = 20 if quick else REPEATS, list[str]()
    print(
        "| world | design | about | truth | mean estimate | intervals hold it | width | controls | repeats |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, population in {"the simulator": simulated(), "elsewhere": elsewhere()}.items():
        for design, offers in DESIGNS.items():
            told, p = repeated(population, offers, 3, repeats, 1)
            for row in held(told, truth(population, offers)).to_dict("records"):
                noise = np.sqrt(row["holds"] * (1 - row["holds"]) / row["n"])
                figures = f"{row['truth']:.4f} | {row['avoided']:.4f} | {row['holds']:.3f} +- {noise:.3f}"
                counts = f"{row['width']:.3f} | {row['controls']:.0f} | {row['n']}"
                print(f"| {name} | {design} | {row['about']} {row['value']} | {figures} | {counts} |")
            rejected.append(f"{name}, {design}: {(p < BALANCE_LEVEL).mean():.3f} of {len(p)}")
    print("\nSound campaigns that the joint test of balance calls unbalanced:", *rejected, sep="\n- ")
    print(
        f"\n| design | campaigns of {CUSTOMERS:,} | about | the policy's own uplift | seen in | width | repeats |"
    )
    print("|---|---|---|---|---|---|---|")
    for design, offers in DESIGNS.items():
        for campaigns in (1, 3, 12):
            told, _ = repeated(as_assumed(), offers, campaigns, repeats // 3, 2)
            for row in held(told, truth(as_assumed(), offers)).to_dict("records"):
                if row["about"] == "offer":
                    share, n = float(row["positive"]), int(row["n"])
                    noise = np.sqrt(share * (1 - share) / n)
                    figures = f"{row['truth']:.4f} | {share:.3f} +- {noise:.3f} | {row['width']:.3f} | {n}"
                    print(f"| {design} | {campaigns} | {row['value']} | {figures} |")

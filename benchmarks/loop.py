"""`python -m benchmarks loop`: what learned offers bring after so many campaigns, beside the risk rule and the oracle.

Each seed is a utility of the simulator whose customers are scored by their true probability of churn each month. Offers
are made by the design of policy.yaml, with a share tried out by chance; `spanishgas uplift` learns from the labels what
each offer changes. On the customers of the month after the last one, whose churn under each offer is known, stand the
risk rule, the learned rule and the rule that knows every effect, all at the risk rule's budget.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.offers import SEGMENTS, Population, campaign, customers, labelled
from spanishgas.config.policy import ACTIONS, Control, Offers, OfferTerms, load_policy
from spanishgas.evaluation.budget import for_no_more, within_budget
from spanishgas.evaluation.offer_rules import judged
from spanishgas.evaluation.value import kept_values, option_values, protected_margin
from spanishgas.simulate.extract import draw_blocks
from spanishgas.simulate.response import draw_response
from spanishgas.training.model import TIER
from spanishgas.training.sides import in_holdout
from spanishgas.uplift import UpliftInputs, learn

Array = NDArray[np.float64]
CUSTOMERS, CAMPAIGNS, SEEDS, TRIALS, EXPLORE, REACHED, AGAIN = 20_099, 12, 5, 25, 0.3, 0.6, 100
POLICY = load_policy()
OFFERS = POLICY.offers.model_copy(
    update={"explore": EXPLORE, "control": Control(share=0.1, minimum=40, salt="loop")}
)
FEATURES = ("tenure", "channel", "high_competition", "dual", "trend", "renewal_days", "elec", "topic")


def month(number: int) -> date:
    """Last day of the month `number` months after December 2024."""
    return date(2025 + number // 12, number % 12 + 1, 1) - timedelta(days=1)


def utility(rows: int, seed: int, as_of: date, effect: float) -> tuple[Population, pd.DataFrame]:
    """The customers of a month, and what gold would know of them."""
    blocks = list(draw_blocks(rows, seed=seed, as_of=as_of, effect=effect))
    seen = pd.concat([b.seen[b.keep].assign(topic=b.topic[b.keep], after=b.after[b.keep]) for b in blocks])
    under = np.hstack([b.response.probability[:, b.keep] for b in blocks])
    ids = pd.concat([b.people["customer_id"][b.keep] for b in blocks]).to_numpy()
    margin = np.random.default_rng(seed).lognormal(1.9, 0.6, len(seen))
    people = customers(seen["after"].to_numpy(), SEGMENTS[seen["segment"]], margin)
    known = seen[list(FEATURES)].astype("float64").assign(topic=seen["topic"].astype("str"))
    return (
        Population(people.assign(customer_id=ids), np.vstack([seen["after"].to_numpy(), under])),
        known.reset_index(drop=True),
    )


def choices(people: pd.DataFrame, effects: dict[str, Array], offers: Offers) -> dict[str, NDArray[np.intp]]:
    """The option of each customer by risk, and by these effects for no more money."""
    margin, costs = (
        people["avg_monthly_margin"].to_numpy(),
        np.array([0.0, *(o.cost_eur for o in offers.menu.values())]),
    )
    assumed = option_values(people["churn_probability"].to_numpy(), margin, offers)
    assumed[1:, people[TIER].eq("Low").to_numpy()] = -np.inf
    kept = kept_values(effects, margin, offers)
    by_risk, kept, spent = for_no_more(kept, assumed, costs, offers.total_budget_eur)
    return {"risk": by_risk, "effects": within_budget(kept, costs, spent)}


def knowable(rows: int, seed: int, as_of: date, untreated: Array) -> dict[str, Array]:
    """The mean effect of each offer over what no file shows: the temperament of a customer, drawn anew each time."""
    told = list[Array]()
    for block in draw_blocks(rows, seed=seed, as_of=as_of):
        shown = block.seen, block.topic, block.churn, block.after
        others = [block.draws._replace(seed=seed + 1_000 * (1 + n)) for n in range(AGAIN)]
        drawn = [draw_response(other, as_of, *shown, 1.0).probability for other in others]
        told.append(np.mean(drawn, axis=0)[:, block.keep])
    return dict(zip(ACTIONS[1:], np.hstack(told) - untreated, strict=True))


def play(seed: int, rows: int, campaigns: int, trials: int, effect: float = 1.0) -> dict[str, float]:
    """EUR of margin that each rule keeps in the month after the campaigns, per customer at risk."""
    rng, logs = np.random.default_rng(seed), []
    for number in range(1, campaigns + 1):
        population, known = utility(rows, seed, month(number), effect)
        log = labelled(campaign(population, np.arange(len(known)), OFFERS, month(number)), population, rng)
        logs.append(log.join(known, on="row"))
    terms, pool = (
        OfferTerms(offers=OFFERS, lowest="Low", holdout=POLICY.holdout),
        pd.concat(logs, ignore_index=True),
    )
    model = learn(pool, UpliftInputs((), FEATURES, terms, trials, seed))
    held = pool[in_holdout(pool["customer_id"], terms.holdout)].reset_index(drop=True)
    verdict = judged(held, model.predict(held), terms)
    population, known = utility(rows, seed, month(campaigns + 1), effect)
    people, churn = population.customers, population.churn
    names = {"churn_probability": "risk_score", "avg_monthly_margin": "margin"}
    told = {
        str(n): of.to_numpy() for n, of in model.predict(people.rename(columns=names).join(known)).items()
    }
    by = {
        "learned": told,
        "best of the files": knowable(rows, seed, month(campaigns + 1), churn[0]),
        "oracle": dict(zip(ACTIONS[1:], churn[1:] - churn[0], strict=True)),
    }
    protected = protected_margin(people["avg_monthly_margin"].to_numpy(), OFFERS.horizon_months)
    saved, everyone = (churn[0] - churn) * protected, np.arange(len(people))
    rules = {"risk rule": choices(people, told, OFFERS)["risk"]}
    rules |= {name: choices(people, effects, OFFERS)["effects"] for name, effects in by.items()}
    risky = people[TIER].ne("Low").sum()
    value = {name: float(saved[option, everyone].sum() / risky) for name, option in rules.items()}
    return value | {"labelled": float(len(pool)), "passed": float(verdict.passed)}


def run(quick: bool) -> None:
    """Print a row per seed, and how far the learned rule comes from the risk rule to the oracle."""
    seeds, campaigns, rows = (2, 3, 4_000) if quick else (SEEDS, CAMPAIGNS, CUSTOMERS)
    print(
        "| seed | labelled rows | gate | risk rule, EUR | learned | oracle | of the way |\n"
        "|---|---|---|---|---|---|---|"
    )
    ways, ceilings = list[float](), list[float]()
    for seed in range(seeds):
        v = play(100 + seed, rows, campaigns, 5 if quick else TRIALS)
        ways.append((v["learned"] - v["risk rule"]) / (v["oracle"] - v["risk rule"]))
        ceilings.append((v["best of the files"] - v["risk rule"]) / (v["oracle"] - v["risk rule"]))
        gate = "passed" if v["passed"] else "refused"
        figures = " | ".join(f"{v[name]:.2f}" for name in ("risk rule", "learned", "oracle"))
        print(f"| {100 + seed} | {v['labelled']:,.0f} | {gate} | {figures} | {ways[-1]:.2f} |", flush=True)
    verdict = "kept" if np.mean(ways) >= REACHED else "MISSED"
    spread = float(np.std(ways, ddof=1))
    print(
        f"\nof the way to the oracle: {np.mean(ways):.2f}, standard deviation {spread:.2f} of {seeds} seeds; "
        f"{verdict}, {REACHED}. Who knew all that the files show would come {np.mean(ceilings):.2f} of it"
    )

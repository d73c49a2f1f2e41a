"""All campaigns whose labels are there, as one experiment on customers: what was done to whom, with which probability.

    treatments (what was done, by which draw) + outcomes (labels, scores) + gold (segment, margin) -> Campaigns

Only what was left to chance can be told apart from what would have happened anyway, so a campaign whose log does not
say with which probability each customer was treated is left out, with a message that says why.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from spanishgas.config.policy import ACTIONS, Offers
from spanishgas.errors import LakeError
from spanishgas.evaluation.effects import (
    ALL,
    BALANCE_LEVEL,
    EFFECTS,
    PROPENSITIES,
    average_effects,
    balance,
    outcome_models,
    worth,
)
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake, Snapshot
from spanishgas.monitoring.labels import ID, LABEL, WHEN, named
from spanishgas.training.model import PROBABILITY, TIER

MARGIN = "avg_monthly_margin"
COLUMNS = (
    *(ID, "as_of", "stratum", "treatment", "propensity", *PROPENSITIES),
    *(LABEL, "risk_score", "margin", TIER, "segment", "in_training"),
)
SURE = 1e-9
TABLES = ("treatments", "outcomes", "gold_master")


@dataclass(frozen=True)
class Campaigns:
    """Labelled customers of whom chance decided what they were offered, over all campaigns."""

    rows: pd.DataFrame
    """A row per customer and campaign, COLUMNS: treatment is the offer made or `no_offer`, propensity its probability,
    margin in EUR a month; customer_id joins gold of the row's as_of."""
    refused: Mapping[date, str]
    """Campaigns that are left out, and why."""


@dataclass(frozen=True)
class Logged:
    """The tables of one campaign."""

    treatments: Snapshot
    outcomes: Snapshot
    gold: Snapshot | None
    """None where it is gone: customers then have neither segment nor margin."""

    @classmethod
    def found(cls, lake: Lake, digests: Mapping[str, str]) -> Logged:
        """The campaign of these `digests`; LakeError where a table of it is gone."""
        return cls(*(lake.by_digest(digests[name], name) for name in TABLES))

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each table, by its name."""
        there = [one for one in (self.treatments, self.outcomes, self.gold) if one]
        return {one.manifest.table: one.manifest.digest for one in there}

    def rows(self) -> pd.DataFrame:
        """The labelled customers of the log."""
        return joined(self.outcomes.pandas(), self.treatments.pandas(), self.gold)


def campaigns(lake: Lake) -> Campaigns:
    """Every campaign of the lake that has labels."""
    return pooled(one.rows() for one in logged(lake))


def logged(lake: Lake, before: date | None = None) -> list[Logged]:
    """The tables of the campaigns with labels, oldest first; only those earlier than `before`, if one is named."""
    days = [day for day in lake.dates("outcomes") if before is None or day < before]
    tables = ((lake.find("treatments", day), lake.find("outcomes", day)) for day in days)
    return [Logged(log, labelled, _gold(lake, labelled)) for log, labelled in tables if log and labelled]


def _gold(lake: Lake, outcomes: Snapshot) -> Snapshot | None:
    try:
        return lake.by_digest(outcomes.manifest.built_from["gold_master"], "gold_master")
    except (KeyError, LakeError):
        return None


def joined(outcomes: pd.DataFrame, log: pd.DataFrame, gold: Snapshot | None) -> pd.DataFrame:
    """The labelled customers of a log, as `Campaigns.rows` has them; what an old log lacks is null."""
    there = [c for c in (ID, MARGIN, "segment") if gold and c in gold.manifest.columns]
    beside = gold.pandas(there) if gold else pd.DataFrame({ID: pd.Series(dtype="str")})
    labelled = outcomes[[ID, LABEL, WHEN, PROBABILITY, TIER, "in_training"]]
    rows = log.reindex(columns=[ID, "as_of", "arm", "offer", "stratum", "propensity", *PROPENSITIES])
    rows = rows.merge(labelled, on=ID).merge(beside, on=ID, how="left")
    made = rows["arm"].eq("offer")
    return (
        rows.assign(treatment=rows["offer"].astype(object).where(made, NO_OFFER))
        .rename(columns={PROBABILITY: "risk_score", MARGIN: "margin"})
        .reindex(columns=[*COLUMNS, WHEN])
    )


def pooled(tables: Iterable[pd.DataFrame]) -> Campaigns:
    """The campaigns that can be estimated from, as one table, and why others cannot."""
    kept, refused = [], dict[date, str]()
    for rows in tables:
        if rows.empty:
            continue
        fault, day = next(faults(rows), None), rows["as_of"].iloc[0]
        if fault:
            refused[day] = f"The campaign of {day} is left out: {fault}."
        else:
            kept.append(rows[list(COLUMNS)])
    empty = pd.DataFrame(columns=list(COLUMNS))
    return Campaigns(pd.concat(kept, ignore_index=True) if kept else empty, refused)


def faults(rows: pd.DataFrame) -> Iterator[str]:
    """Why one campaign says nothing of what offers do."""
    day, twice = rows["as_of"].iloc[0], rows[ID].duplicated()
    if twice.any():
        yield f"{int(twice.sum()):,} customers are in two arms at once ({named(rows[ID][twice])}); give each one row"
    early = rows[WHEN].fillna(day) < day
    if early.any():
        yield f"{int(early.sum()):,} labels are dated before it ({named(rows[ID][early])})"
    chances = rows[PROPENSITIES].astype("float64").fillna(0.0)
    if rows["propensity"].isna().any():
        yield (
            "its log does not say with which probability each customer was treated, so those with an offer may differ "
            "from those without in other ways. Campaigns recommended from now on log it"
        )
        return
    done = chances.to_numpy()[np.arange(len(rows)), [ACTIONS.index(made) for made in rows["treatment"]]]
    off = ~np.isclose(done, rows["propensity"].astype("float64")) | ~np.isclose(chances.sum(axis=1), 1)
    if (off | (done <= 0)).any():
        yield (
            f"the probabilities in its log contradict what was done ({named(rows[ID][off | (done <= 0)])}): those of a "
            "customer sum to 1, and what was done has one above 0"
        )
    elif (chances.max(axis=1) > 1 - SURE).all():
        yield (
            "the score alone decided who got which offer, and nothing was left to chance. Set offers.control.share or "
            "offers.explore in policy.yaml"
        )
    for words, arm in (
        ("an offer", rows["treatment"].ne(NO_OFFER)),
        ("no offer", rows["treatment"].eq(NO_OFFER)),
    ):
        if not arm.any():
            yield f"none of its {len(rows):,} labelled customers got {words}, so there is nobody to compare with"


@dataclass(frozen=True)
class OfferEffects:
    """What the offers of all campaigns did on average, and how far chance decided who got them."""

    campaigns: int
    table: pd.DataFrame
    """As `average_effects` has it; empty where the campaigns are too small, or their arms unlike."""
    worth: tuple[float, float, float] | None
    """EUR, with its interval."""
    balance: pd.DataFrame
    p: float
    refused: list[str]

    @classmethod
    def of(cls, pool: Campaigns, offers: Offers) -> OfferEffects:
        """The effects over the pooled campaigns."""
        rows, refused = pool.rows, list(pool.refused.values())
        alike, p = balance(rows)
        table, earned = pd.DataFrame(columns=EFFECTS), None
        if p >= BALANCE_LEVEL and len(alike):
            models = outcome_models(rows)
            table = average_effects(rows, offers, models)
            earned = worth(rows, offers, models) if len(table) else None
        return cls(rows["as_of"].nunique(), table, earned, alike, p, refused)

    @property
    def balanced(self) -> bool:
        """Whether the arms differ by no more than the draw leaves."""
        return self.p >= BALANCE_LEVEL

    @property
    def lines(self) -> list[dict[Hashable, Any]]:
        """The rows of the table."""
        return self.table.to_dict("records")

    @property
    def metrics(self) -> dict[str, float]:
        """Flat, under `uplift.`; those of all offers have no further name."""
        metrics = {"uplift.campaigns": float(self.campaigns), "uplift.balance_p": self.p}
        for line in self.lines:
            name = "" if line["value"] == ALL else f".{line['about']}.{str(line['value']).lower()}"
            points = {key: float(line[key]) for key in ("offered", "controls", "avoided", "assumed")}
            metrics |= with_intervals(f"uplift{name}", points, {"avoided": (line["low"], line["high"])})
        if self.worth:
            value, *ends = self.worth
            metrics |= with_intervals("uplift", {"worth_eur": value}, {"worth_eur": (ends[0], ends[1])})
        return metrics

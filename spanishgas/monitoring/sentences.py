"""A sentence per finding of a cohort: figures with their intervals, and what may not be read out of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import pandas as pd

from spanishgas.monitoring.cohort import Cohort, Figures, Uplift
from spanishgas.monitoring.concept import FEWEST, OVERALL, Concept

MAIN = {"average_precision": "average precision", "roc_auc": "ROC-AUC", "ece": "calibration error"}
FLAGGED = {"recall": "recall", "precision": "precision"}


def performance(
    figures: Mapping[str, Figures], cohort: Cohort, holdout: Mapping[str, float], as_of: date
) -> list[str]:
    """How well the cohort was ranked and flagged, beside what the verdict's holdout promised."""
    if "all" not in figures:
        return [
            f"Every labelled customer of {as_of} was on the model's own training side: the labels say nothing of its "
            "performance."
        ]
    points, _ = figures["all"]
    before = holdout.get("holdout.average_precision")
    beside = f" (the verdict's holdout: {before:.3f})" if before is not None else ""
    unseen = len(cohort.unseen.rows)
    lines = [
        f"On {unseen:,} labelled customers of {as_of} that the model did not learn from, "
        f"{points['churn_rate']:.1%} of whom left: {_listed(figures['all'], MAIN)}{beside}.",
        f"At the flag: {_listed(figures['all'], FLAGGED)}; offers to the flagged would have brought "
        f"{_interval(figures['all'], 'value_eur', ',.0f')} EUR by the policy's assumptions.",
    ]
    if seen := len(cohort.rows) - unseen:
        lines.append(f"{seen:,} customers of the training side are kept apart; the figures leave them out.")
    return lines + _untreated(figures, cohort)


def _untreated(figures: Mapping[str, Figures], cohort: Cohort) -> list[str]:
    offered = int(cohort.unseen.rows["arm"].eq("offer").sum())
    if not offered:
        return []
    if "untreated" not in figures:
        return [
            f"{offered:,} of them got an offer, which may be why they stayed, and there is no control who could stand "
            "for them: what the figures would be without offers cannot be told."
        ]
    return [
        f"{offered:,} of them got an offer, which may be why they stayed. Had nobody got one (controls stand for "
        f"them): {_listed(figures['untreated'], {**MAIN, **FLAGGED})}."
    ]


def expected(figures: Figures, customers: int) -> str:
    """What is to be expected of so many customers while there are no labels."""
    return (
        f"Without labels, from the probabilities of {customers:,} customers that the model did not learn from and that "
        f"get no offer: {_listed(figures, {**MAIN, **FLAGGED}) or 'nothing can be said'}."
    )


def estimated(expected: Figures | None, figures: Mapping[str, Figures]) -> list[str]:
    """What the label-free estimate had said, beside what the labels say."""
    name, group = "average_precision", "untreated" if "untreated" in figures else "all"
    if expected is None or name not in expected[0] or name not in figures[group][0]:
        return []
    low, high = expected[1][name]
    real = figures[group][0][name]
    out = "" if low <= real <= high else ": more than chance leaves, so the probabilities are off"
    return [
        f"Without labels {expected[0][name]:.3f} ({low:.3f} to {high:.3f}) was to be expected; it is {real:.3f}{out}."
    ]


def concept(test: Concept | None) -> list[str]:
    """Whether label given score changed."""
    if test is None:
        return [
            "Concept drift was not tested: the champion's training table, its reference, is gone from the lake."
        ]
    if not test.p:
        few = f"fewer than {FEWEST} churners or stayers without an offer in one of the samples"
        return [f"Concept drift was not tested: {few}."]
    p = min(test.p.values())
    beside = (
        f"{test.churners:,} left where the holdout's experience with such scores says {test.expected:,.0f}"
    )
    if not test.drifted:
        return [
            f"No concept drift: of customers without an offer, {beside} (p = {p:.2g} over {len(test.p)} tests)."
        ]
    where = ", ".join("all scores" if name == OVERALL else name for name in test.where)
    return [
        f"Concept drift: label given score has changed ({where}); {beside} (p = {p:.2g}). Either the reasons to leave "
        "changed, or inputs moved to where the model had little to learn from: see the drift report."
    ]


def calibration(table: pd.DataFrame) -> list[str]:
    """The tiers whose probabilities the labels contradict."""
    wrong = table[~table["holds"].astype(bool)]
    return [
        f"{line['tier']}: {line['observed']:.1%} left ({line['low']:.1%} to {line['high']:.1%}) where the scores said "
        f"{line['predicted']:.1%}."
        for line in wrong.to_dict(orient="records")
    ]


def uplift(effect: Uplift | None, cohort: Cohort) -> list[str]:
    """What the offers did."""
    if cohort.rows["arm"].isna().all():
        return []
    if effect is None:
        return ["Uplift was not measured: it takes two labelled customers with an offer and two controls."]
    low, high = effect.avoided_interval
    worth = (
        f"{effect.worth_eur:,.0f} EUR ({effect.worth_interval[0]:,.0f} to {effect.worth_interval[1]:,.0f})"
    )
    sure = "" if low > 0 or high < 0 else ", which may be chance"
    return [
        f"Of {effect.offered:,} customers with an offer {100 * effect.avoided:.1f} points ({100 * low:.1f} to "
        f"{100 * high:.1f}) fewer left than of {effect.controls:,} controls{sure}; the policy assumes "
        f"{100 * effect.assumed:.1f}. Less what the offers cost, that is worth {worth}."
    ]


def _listed(figures: Figures, names: Mapping[str, str]) -> str:
    return ", ".join(
        f"{words} {_interval(figures, name)}" for name, words in names.items() if name in figures[0]
    )


def _interval(figures: Figures, name: str, form: str = ".3f") -> str:
    low, high = figures[1][name]
    return f"{figures[0][name]:{form}} ({low:{form}} to {high:{form}})"

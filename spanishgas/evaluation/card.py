"""The model card: everything that an evaluation found, on a page that people read, as Markdown and as HTML.

Customers appear in it as counts and rates alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import jinja2
import numpy as np
import pandas as pd

from spanishgas import rendering
from spanishgas.config.experiment import Experiment
from spanishgas.config.policy import Judgement
from spanishgas.evaluation import leakage, slices
from spanishgas.evaluation.study import HoldoutResult, Study
from spanishgas.rendering import as_markdown

SHOWN_FEATURES = 15
BESIDE = ("E5", "E8")
"""With the texts of contacts and without: each card tells their figures."""
METRICS = (
    *("average_precision", "roc_auc", "brier", "log_loss", "ece", "precision", "recall"),
    *("lift_05", "lift_10", "lift_20", "value_eur"),
)


@dataclass(frozen=True)
class Subject:
    """The model that a card is about, and the table that it was made from."""

    experiment: Experiment
    model: str
    features: Sequence[str]
    threshold: float
    cv: float
    """Average precision in cross-validation."""
    as_of: date
    digest: str


@dataclass(frozen=True)
class Evaluation:
    """What is known of a model once its holdout was opened."""

    subject: Subject
    policy: Judgement
    holdout: HoldoutResult
    openings: int
    metrics: Mapping[str, float]
    """`holdout.*` with `.low` and `.high`."""
    study: Study
    beside: Mapping[str, tuple[float, float, float]]
    """Cross-validated average precision with its interval of E5 and E8, as far as they were run."""


def markdown(evaluation: Evaluation, verdict: str) -> str:
    """The card as Markdown; `verdict` is the gate's, in words."""
    subject, study, sides = evaluation.subject, evaluation.study, evaluation.holdout
    judged = [s for s in study.slices if s.p_ranking is not None]
    texts = _texts(pd.concat([sides.trained, sides.rows], ignore_index=True))
    declared = [w for w in evaluation.policy.waivers if not w.features or {*w.features} & {*subject.features}]
    constant = [name for name in subject.features if sides.trained[name].nunique() <= 1]
    return (
        _environment()
        .get_template("card.md.jinja")
        .render(
            **vars(subject),
            **vars(evaluation),
            verdict=verdict,
            sides={"training": sides.trained, "holdout": sides.rows},
            metrics_table=as_markdown(metrics_table(evaluation.metrics)),
            judged=len(judged),
            unjudged=len(study.slices) - len(judged),
            worse=[rendering.markdown(f"{s.dimension} {s.value} ({s.words})") for s in judged if s.worse],
            by_province=any(s.dimension == "province" for s in study.slices),
            slices_table=as_markdown(slices.table(judged)),
            rates_table=as_markdown(slices.rates(judged, evaluation.policy.protected)),
            leakage_table=as_markdown(leakage.table(study.findings)),
            waivers=declared,
            not_beside=[name for name in BESIDE if texts and name not in evaluation.beside],
            tiers_table=as_markdown(study.importance.tiers),
            importance_table=as_markdown(study.importance.features.head(SHOWN_FEATURES)),
            texts=texts,
            constant=constant,
            alike=_alike(sides.trained, [name for name in subject.features if name not in constant]),
        )
    )


def short(evaluation: Evaluation, gate: str, checks: str, where: str) -> str:
    """The version's description: what it is, what it reached, what was found, the verdict, and where the card is."""
    template = _environment().get_template("short.md.jinja")
    table = as_markdown(metrics_table(evaluation.metrics))
    rendered = template.render(**vars(evaluation), gate=gate, checks=checks, where=where, metrics_table=table)
    return rendered.removesuffix("\n")


def html(card: str, title: str, pictures: Sequence[bytes] = ()) -> str:
    """The card as one page that needs nothing else; `pictures` are PNGs and stand at its end."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    encoded = [base64.b64encode(png).decode() for png in pictures]
    return _environment().get_template("page.html.jinja").render(title=title, body=body, pictures=encoded)


def metrics_table(metrics: Mapping[str, float]) -> pd.DataFrame:
    """Holdout metrics with their intervals, as far as the labels defined them."""
    rows = []
    for name in METRICS:
        ends = [metrics[key] for end in ("", ".low", ".high") if (key := f"holdout.{name}{end}") in metrics]
        value, *interval = (f"{end:,.4f}" for end in ends) if ends else ("undefined",)
        rows.append({"holdout metric": name, "value": value, "95 % interval": " to ".join(interval)})
    return pd.DataFrame(rows)


def _texts(rows: pd.DataFrame) -> dict[str, int | float]:
    """How contacts' texts read, by what their customers did; nothing of a table from elsewhere, which has none."""
    if not {"sentiment_label", "customer_intent"} <= {*rows}:
        return {}
    stayed, left = (rows.loc[rows["churn"] == churn, "sentiment_label"].dropna() for churn in (0, 1))
    complaints = rows.loc[rows["customer_intent"] == "Complaint / Escalation", "sentiment_label"]
    return {
        "stayers": len(stayed),
        "negative": int((stayed == "negative").sum()),
        "churners": len(left),
        "positive": int((left == "positive").sum()),
        "complaints": len(complaints),
        "moody": float((complaints == "negative").mean()),
    }


def _alike(rows: pd.DataFrame, features: Sequence[str]) -> list[str]:
    """Pairs of numeric columns of which one repeats the other up to a factor."""
    numbers = rows[list(features)].select_dtypes("number").astype("float64")
    alike = np.triu(numbers.corr().abs().to_numpy() > 1 - 1e-9, k=1)
    return [f"{numbers.columns[i]} and {numbers.columns[j]}" for i, j in zip(*np.nonzero(alike), strict=True)]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spanishgas.evaluation"),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = rendering.markdown
    return environment

"""The gate: what is gathered of a version, and one verdict on it, fail closed.

A check that cannot be computed has failed. Every refusal names the value, the limit and the way out; what the policy
tolerates is a named, dated waiver that is shown with the verdict. A first champion has nobody to be compared with: in
place of that, the lower end of its average precision must lie above twice the churn rate, which is what chance reaches,
or a stated share of the way from there to 1.
"""

from __future__ import annotations

import math
import timeit
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature

from spanishgas.config.policy import TOO_GOOD, GateLimits, Judgement, Offers
from spanishgas.config.search import LOGISTIC
from spanishgas.config.tiers import Tiers
from spanishgas.contracts import check_pandas
from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.evaluation.card import Evaluation
from spanishgas.evaluation.inference import Difference, Predictions, calibration_by_chance, differences
from spanishgas.evaluation.leakage import LeakageFinding
from spanishgas.evaluation.metrics import Labels
from spanishgas.evaluation.slices import Slice
from spanishgas.evaluation.study import Candidate
from spanishgas.evaluation.value import realised_value
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.records import Bound, Check, Verdict
from spanishgas.lifecycle.version import Version
from spanishgas.training.matrix import matrix
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel

CHANCE_TIMES = 2.0
"""A first champion's average precision must surely exceed the churn rate this many times."""
TIMED = 1000
"""Rows that are scored to take the time."""
FIRST, SIGNATURE = "first champion", "signature"
SMALLER = "fewer or smaller trees"


class Figure(NamedTuple):
    """What was measured, with the ends of its interval; None is what could not be."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Against:
    """The candidate less the champion, on the same held-out customers."""

    champion: str
    differences: Mapping[str, Difference]
    champion_value: float
    """EUR that the champion's offers would have brought."""
    signature_changes: int
    """Columns of the signature that came, went or changed their type."""


@dataclass(frozen=True)
class Evidence:
    """What a version is judged by; None is what could not be computed, and fails."""

    metrics: Mapping[str, float]
    """`holdout.*`, as evaluate logs them."""
    churn_rate: float | None = None
    calibration_by_chance: float | None = None
    contract_faults: int | None = None
    findings: Sequence[LeakageFinding] | None = None
    slices: Sequence[Slice] | None = None
    megabytes: float | None = None
    seconds_per_thousand: float | None = None
    dirty: bool = True
    first: bool = False
    """Whether there is no champion to be compared with."""
    against: Against | None = None
    baseline: Difference | None = None
    """Average precision less that of a logistic regression on the same features, where the policy asks for it."""

    def figure(self, name: str) -> Figure:
        """A metric of the holdout with its interval."""
        return Figure(*(self.metrics.get(f"holdout.{name}{end}") for end in ("", ".low", ".high")))


def gather(
    evaluation: Evaluation, candidate: Candidate, folder: Path, champion: Version | None, **beside: Any
) -> Evidence:
    """Everything that the gate judges an evaluated candidate by, whose artefact lies in `folder`.

    `beside` is what the caller knows of the data and the code: contract_faults and dirty.
    """
    model, holdout, seed = candidate.model, evaluation.holdout, candidate.training.seed
    rows, y, offers = holdout.rows, holdout.y, evaluation.policy.offers
    return Evidence(
        metrics=evaluation.metrics,
        churn_rate=float(y.mean()),
        calibration_by_chance=calibration_by_chance(holdout.probability, seed),
        findings=evaluation.study.findings,
        slices=evaluation.study.slices,
        megabytes=sum(file.stat().st_size for file in folder.glob("model.*")) / 1e6,
        seconds_per_thousand=seconds_per_thousand(model, rows),
        first=champion is None,
        against=against(champion, model, rows, y, offers, seed) if champion else None,
        baseline=beside_baseline(candidate, rows, y) if evaluation.policy.gate.beside_baseline else None,
        **beside,
    )


def contract_faults(gold: pd.DataFrame, tiers: Tiers) -> int:
    """Ways in which a gold table breaks its contract; 0 where it keeps it."""
    try:
        check_pandas("gold_master", gold, tiers)
    except ContractError as fault:
        return str(fault).count("\n  - ")
    return 0


def seconds_per_thousand(model: ChurnModel, rows: pd.DataFrame) -> float:
    """The least of three times that scoring 1,000 customers takes: other work on the machine only adds to it."""
    thousand = rows.iloc[np.arange(TIMED) % len(rows)]
    return min(timeit.repeat(lambda: model.predict(thousand), repeat=3, number=1))


def predictions(model: ChurnModel, rows: pd.DataFrame, y: Labels, offers: Offers) -> Predictions:
    """What a model says of labelled customers, and what `offers` to whom it flags would have brought."""
    scored = model.predict(rows)
    probability = scored[PROBABILITY].to_numpy()
    margin = rows["avg_monthly_margin"].to_numpy()
    return Predictions(probability, realised_value(probability, scored[FLAG].to_numpy(), y, margin, offers))


def against(
    champion: Version, model: ChurnModel, rows: pd.DataFrame, y: Labels, offers: Offers, seed: int
) -> Against | None:
    """What the model is beside the champion on the same held-out customers.

    None where the champion cannot be loaded or cannot score these rows: the gate then refuses.
    """
    try:
        incumbent = champion.model
        theirs = predictions(incumbent, rows, y, offers)
    except (SpanishGasError, MlflowException, OSError):
        return None
    ours = predictions(model, rows, y, offers)
    changes = _changes(registry.signature(model), registry.signature(incumbent))
    return Against(champion.number, differences(y, ours, theirs, seed), float(theirs.value.sum()), changes)


def beside_baseline(candidate: Candidate, rows: pd.DataFrame, y: Labels) -> Difference:
    """Average precision of the candidate less that of a logistic regression fitted on the same rows and features."""
    training = replace(candidate.training, model=LOGISTIC)
    weighed = training.weighed(step="model__")
    fitted = training.unfitted({"max_iter": 2000}).fit(training.X, training.y, **weighed)
    none = np.zeros(len(y))
    ours = Predictions(candidate.model.predict_proba(rows)[:, 1], none)
    theirs = Predictions(fitted.decision_function(matrix(rows, training.features, training.kinds)), none)
    return differences(y, ours, theirs, training.seed)["average_precision"]


def _changes(ours: ModelSignature, theirs: ModelSignature) -> int:
    sides: Sequence[set[tuple[str, str]]] = [
        {(str(c.name), str(c.type)) for part in (s.inputs, s.outputs) for c in part} for s in (ours, theirs)
    ]
    return len({name for name, _ in sides[0] ^ sides[1]})


def judge(evidence: Evidence, policy: Judgement) -> Verdict:
    """The verdict on a version from its evidence; every check is there whether or not it could be computed."""
    limits, seconds = policy.gate, evidence.seconds_per_thousand
    checks = [
        *_quality(evidence, limits, policy.threshold.min_recall),
        _most(
            "input.contract",
            Figure(evidence.contract_faults),
            0,
            "build gold again: it breaks its own contract",
        ),
        *_leakage(evidence, policy),
        _slices(evidence.slices, limits),
        _most("artefact.megabytes", Figure(evidence.megabytes), limits.max_megabytes, SMALLER),
        _most(
            "artefact.seconds_per_1000",
            Figure(seconds),
            limits.max_seconds_per_thousand,
            f"{SMALLER}, or evaluate on a machine that is less busy",
        ),
        *([_first(evidence, limits)] if evidence.first else _against(evidence.against, policy)),
        *([_baseline(evidence.baseline)] if limits.beside_baseline else []),
    ]
    if limits.clean_work_tree:
        way_out = "commit the work tree, then evaluate again"
        checks.append(_most("code.dirty", Figure(evidence.dirty), 0, way_out))
    return Verdict(checks=checks, waivers=policy.waivers)


def _quality(evidence: Evidence, limits: GateLimits, min_recall: float) -> list[Check]:
    by_chance = evidence.calibration_by_chance
    tolerated = max(limits.max_calibration_error, by_chance or 0.0)
    return [
        _least(
            "holdout.average_precision",
            evidence.figure("average_precision"),
            limits.min_average_precision,
            "train on more customers or trials, or evaluate another experiment",
        ),
        _most(
            "holdout.ece",
            evidence.figure("ece") if by_chance is not None else Figure(),
            tolerated,
            "recalibrate: look at the calibration curve of the run",
            note="chance alone reaches more than the policy's limit" if tolerated == by_chance else "",
        ),
        _least(
            "holdout.recall",
            evidence.figure("recall"),
            min_recall,
            "lower the threshold's min_recall, or find a model that ranks better",
            decides="high",
            note="judged by the interval's upper end",
        ),
        _least(
            "holdout.value_eur",
            evidence.figure("value_eur"),
            limits.min_value_eur,
            "its offers cost more than they bring: look at the threshold and the offers in policy.yaml",
        ),
    ]


def _leakage(evidence: Evidence, policy: Judgement) -> list[Check]:
    too_good = _most(
        f"leakage.{TOO_GOOD}",
        evidence.figure("average_precision"),
        policy.gate.max_average_precision,
        f"look for what the model cannot have known, or declare it, a waiver '{TOO_GOOD}' in policy.yaml",
        decides="low",
        note="judged by the lower end of average precision",
        declared=any(w.check == TOO_GOOD for w in policy.waivers),
    )
    if not evidence.findings:
        return [_most("leakage", Figure(), 0, "run the leakage checks: spanishgas evaluate does"), too_good]
    by_name = [
        _most(f"leakage.{f.name}", Figure(f.value), f.limit, f.way_out, declared=f.declared)
        for f in evidence.findings
    ]
    return [*by_name, too_good]


def _slices(slices: Sequence[Slice] | None, limits: GateLimits) -> Check:
    worse = [f"{s.dimension} {s.value}" for s in slices or [] if s.worse]
    return _most(
        "slices.worse",
        Figure(len(worse) if slices else None),
        limits.max_worse_slices,
        "look at slices.json of the run: more rows or features for these customers",
        note=", ".join(worse),
    )


def _first(evidence: Evidence, limits: GateLimits) -> Check:
    rate, skill = evidence.churn_rate, limits.min_skill
    floor = CHANCE_TIMES * (rate or 0) if skill is None else (rate or 0) + skill * (1 - (rate or 0))
    return _least(
        FIRST,
        evidence.figure("average_precision") if rate is not None else Figure(),
        math.nan if rate is None else floor,
        "it is hardly better than chance: look at features and labels",
        decides="low",
        note="nobody to compare it with, judged by the interval's lower end",
    )


def _baseline(difference: Difference | None) -> Check:
    return _least(
        "baseline.average_precision.difference",
        Figure(*astuple(difference)) if difference else Figure(),
        0,
        "evaluate a logistic regression instead, or search more trials",
        decides="high",
        note="against a logistic regression; its upper end decides",
    )


def _against(against: Against | None, policy: Judgement) -> list[Check]:
    """Not surely worse is not enough: the interval's lower end must lie above the margin."""
    limits, changes = policy.gate.champion, against.signature_changes if against else None
    margins = {
        "average_precision": limits.average_precision_margin,
        "value_eur": limits.value_margin * abs(against.champion_value) if against else 0.0,
    }
    note = f"against version {against.champion}" if against else "the champion could not be asked"
    compared = [
        _least(
            f"champion.{name}.difference",
            Figure(*astuple(against.differences[name])) if against else Figure(),
            -margin,
            "keep the champion, or gather more held-out customers if the interval is wide",
            decides="low",
            note=f"{note}, judged by the interval's lower end",
        )
        for name, margin in margins.items()
    ]
    signature = _most(
        SIGNATURE,
        Figure(changes),
        0,
        f"callers send other columns: declare it, a waiver '{SIGNATURE}' in policy.yaml",
        declared=changes is not None and any(w.check == SIGNATURE for w in policy.waivers),
    )
    return [*compared, signature]


def _check(
    bound: Bound,
    name: str,
    figure: Figure,
    limit: float,
    way_out: str,
    *,
    decides: str = "value",
    note: str = "",
    declared: bool = False,
) -> Check:
    """Passes if the value is a number, and the end of the interval that decides lies within the limit, or is waived."""
    deciding = getattr(figure, decides)
    finite = all(v is not None and math.isfinite(v) for v in (figure.value, deciding))
    within = finite and (deciding >= limit if bound is Bound.AT_LEAST else deciding <= limit)
    return Check(
        name=name,
        value=figure.value if finite else None,
        limit=limit,
        interval=None if figure.low is None or figure.high is None else (figure.low, figure.high),
        passed=within or declared,
        way_out=way_out,
        bound=bound,
        note="declared, waived" if declared and not within else note,
    )


_least, _most = partial(_check, Bound.AT_LEAST), partial(_check, Bound.AT_MOST)

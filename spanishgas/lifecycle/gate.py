"""The gate: one verdict per version, fail closed.

A check that cannot be computed has failed. Every refusal names the value, the limit and the way out; what the policy
tolerates is a named, dated waiver that is shown with the verdict. A first champion has nobody to be compared with: in
place of that, the lower end of its average precision must lie above twice the churn rate, which is what chance reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spanishgas.config.policy import GateLimits, Judgement
from spanishgas.evaluation.inference import Difference
from spanishgas.evaluation.leakage import LeakageFinding
from spanishgas.evaluation.slices import Slice
from spanishgas.lifecycle.verdict import Bound, Check, Verdict

CHANCE_TIMES = 2.0
"""A first champion's average precision must surely exceed the churn rate this many times."""
FIRST, SIGNATURE = "first champion", "signature"


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


def judge(evidence: Evidence, policy: Judgement) -> Verdict:
    """The verdict on a version from its evidence; every check is there whether or not it could be computed."""
    limits = policy.gate
    checks = [
        *_quality(evidence, limits, policy.threshold.min_recall),
        _most("input.contract", evidence.contract_faults, 0, "build gold again: it breaks its own contract"),
        *_leakage(evidence.findings),
        _slices(evidence.slices, limits),
        _most("artefact.megabytes", evidence.megabytes, limits.max_megabytes, "fewer or smaller trees"),
        _most(
            "artefact.seconds_per_1000",
            evidence.seconds_per_thousand,
            limits.max_seconds_per_thousand,
            "fewer or smaller trees, or evaluate on a machine that is less busy",
        ),
        *([_first(evidence)] if evidence.first else _against(evidence, policy)),
    ]
    if limits.clean_work_tree:
        checks.append(
            _most("code.dirty", float(evidence.dirty), 0, "commit the work tree, then evaluate again")
        )
    return Verdict(checks=checks, waivers=policy.waivers)


def _quality(evidence: Evidence, limits: GateLimits, min_recall: float) -> list[Check]:
    known = evidence.metrics
    by_chance = evidence.calibration_by_chance
    tolerated = (
        limits.max_calibration_error if by_chance is None else max(limits.max_calibration_error, by_chance)
    )
    recall = known.get("holdout.recall.high")
    return [
        _least(
            "holdout.average_precision",
            known.get("holdout.average_precision"),
            limits.min_average_precision,
            "train on more customers or trials, or evaluate another experiment",
            interval=_interval(known, "holdout.average_precision"),
        ),
        _most(
            "holdout.ece",
            known.get("holdout.ece") if by_chance is not None else None,
            tolerated,
            "recalibrate: look at the calibration curve of the run",
            interval=_interval(known, "holdout.ece"),
            note="chance alone reaches more than the policy's limit" if tolerated == by_chance else "",
        ),
        _least(
            "holdout.recall",
            known.get("holdout.recall"),
            min_recall,
            "lower the threshold's min_recall, or find a model that ranks better",
            interval=_interval(known, "holdout.recall"),
            decides=recall,
            note="its upper end decides",
        ),
        _least(
            "holdout.value_eur",
            known.get("holdout.value_eur"),
            limits.min_value_eur,
            "its offers cost more than they bring: look at the threshold and the offers in policy.yaml",
            interval=_interval(known, "holdout.value_eur"),
        ),
    ]


def _leakage(findings: Sequence[LeakageFinding] | None) -> list[Check]:
    if not findings:
        return [_most("leakage", None, 0, "run the leakage checks: spanishgas evaluate does")]
    return [
        Check(
            name=f"leakage.{f.name}",
            value=f.value if math.isfinite(f.value) else None,
            limit=f.limit,
            interval=None,
            passed=not f.refuses,
            way_out=f.way_out,
            bound=Bound.AT_MOST,
            note="declared, waived" if f.found and f.declared else "",
        )
        for f in findings
    ]


def _slices(slices: Sequence[Slice] | None, limits: GateLimits) -> Check:
    worse = [f"{s.dimension} {s.value}" for s in slices or [] if s.worse]
    return _most(
        "slices.worse",
        float(len(worse)) if slices else None,
        limits.max_worse_slices,
        "look at slices.json of the run: more rows or features for these customers",
        note=", ".join(worse),
    )


def _first(evidence: Evidence) -> Check:
    low = evidence.metrics.get("holdout.average_precision.low")
    rate = evidence.churn_rate
    return _least(
        FIRST,
        evidence.metrics.get("holdout.average_precision") if rate is not None else None,
        math.nan if rate is None else CHANCE_TIMES * rate,
        "it is hardly better than chance: look at features and labels",
        interval=_interval(evidence.metrics, "holdout.average_precision"),
        decides=low,
        note="nobody to compare it with; its lower end decides",
    )


def _against(evidence: Evidence, policy: Judgement) -> list[Check]:
    """Not surely worse is not enough: the interval's lower end must lie above the margin."""
    against, limits = evidence.against, policy.gate.champion
    out = "keep the champion, or gather more held-out customers if the interval is wide"
    ranked = against.differences["average_precision"] if against else None
    valued = against.differences["value_eur"] if against else None
    loss = limits.value_margin * abs(against.champion_value) if against else 0.0
    declared = any(w.check == SIGNATURE for w in policy.waivers)
    note = f"against version {against.champion}" if against else "the champion could not be asked"
    signature = _most(
        SIGNATURE,
        float(against.signature_changes) if against else None,
        0,
        f"callers send other columns: declare it, a waiver '{SIGNATURE}' in policy.yaml",
        note="declared, waived" if declared and against and against.signature_changes else "",
    )
    if declared and against:
        signature = signature.model_copy(update={"passed": True})
    return [
        _difference("champion.average_precision", ranked, -limits.average_precision_margin, out, note),
        _difference("champion.value_eur", valued, -loss, out, note),
        signature,
    ]


def _difference(name: str, difference: Difference | None, limit: float, way_out: str, note: str) -> Check:
    return _least(
        f"{name}.difference",
        difference.value if difference else None,
        limit,
        way_out,
        interval=(difference.low, difference.high) if difference else None,
        decides=difference.low if difference else None,
        note=f"{note}; its lower end decides",
    )


def _least(
    name: str,
    value: float | None,
    limit: float,
    way_out: str,
    *,
    interval: tuple[float, float] | None = None,
    decides: float | None = math.inf,
    note: str = "",
) -> Check:
    """Passes if `value`, or `decides` where it is given, is a number of at least `limit`."""
    judged = value if decides == math.inf else decides
    known = all(v is not None and math.isfinite(v) for v in (value, judged))
    return Check(
        name=name,
        value=value if known else None,
        limit=limit,
        interval=interval,
        passed=bool(known and judged is not None and judged >= limit),
        way_out=way_out,
        note=note,
    )


def _most(
    name: str,
    value: float | None,
    limit: float,
    way_out: str,
    *,
    interval: tuple[float, float] | None = None,
    note: str = "",
) -> Check:
    known = value is not None and math.isfinite(value)
    return Check(
        name=name,
        value=value if known else None,
        limit=limit,
        interval=interval,
        passed=bool(known and value is not None and value <= limit),
        way_out=way_out,
        bound=Bound.AT_MOST,
        note=note,
    )


def _interval(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return (low, high) if low is not None and high is not None else None

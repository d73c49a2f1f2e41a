"""The gate: one verdict per version, fail closed.

A check that cannot be computed has failed. Every refusal names the value, the limit and the way out; what the policy
tolerates is a named, dated waiver that is shown with the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from spanishgas.training.experiment import Policy, Waiver


class Check(BaseModel):
    """One check: its value, its limit and whether it passed."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    limit: float
    interval: tuple[float, float] | None
    passed: bool
    way_out: str


class Verdict(BaseModel):
    """All checks of one version; `passed` only if there are checks and each passed."""

    model_config = ConfigDict(frozen=True)

    checks: list[Check]
    waivers: list[Waiver]

    @property
    def passed(self) -> bool:
        """Whether the version may become champion."""
        return bool(self.checks) and all(c.passed for c in self.checks)

    @property
    def words(self) -> str:
        """The verdict in a line: what passed, or each refusal with its value, limit and way out."""
        if self.passed:
            return "passed: " + ", ".join(
                f"{c.name} {c.value:.3f} (limit {c.limit:.2f})" for c in self.checks
            )
        return "refused: " + "; ".join(
            f"{c.name} is {'missing' if c.value is None else f'{c.value:.3f}'}, the limit is {c.limit:.2f}: {c.way_out}"
            for c in self.checks
            if not c.passed
        )

    def table(self) -> str:
        """The verdict as a Markdown table, for the version's description."""
        lines = ["| check | value | interval | limit | |", "|---|---|---|---|---|"]
        for c in self.checks:
            value = "missing" if c.value is None else f"{c.value:.4f}"
            interval = f"{c.interval[0]:.4f} to {c.interval[1]:.4f}" if c.interval else ""
            lines.append(
                f"| {c.name} | {value} | {interval} | {c.limit} | {'passed' if c.passed else 'refused'} |"
            )
        lines += [f"\nWaived ({w.date}): {w.check}. {w.reason}" for w in self.waivers]
        return "\n".join(lines)


def judge(metrics: Mapping[str, float], policy: Policy) -> Verdict:
    """The verdict on a version from its holdout metrics (`holdout.*`, as evaluate logs them)."""
    floor = at_least(
        metrics,
        "holdout.average_precision",
        policy.gate.min_average_precision,
        "train on more customers or trials, or evaluate another experiment",
    )
    return Verdict(checks=[floor], waivers=policy.waivers)


def at_least(metrics: Mapping[str, float], name: str, limit: float, way_out: str) -> Check:
    """Passes if the metric is there, is a number and reaches `limit` as a point."""
    value = metrics.get(name)
    known = value is not None and math.isfinite(value)
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    return Check(
        name=name,
        value=value if known else None,
        limit=limit,
        interval=(low, high) if low is not None and high is not None else None,
        passed=bool(known and value is not None and value >= limit),
        way_out=way_out,
    )

"""Probation: a new champion beside the one before it, on customers that neither learned from, by newer labels.

    labels of a cohort newer than its training -> both score the same gold rows -> paired intervals -> worse? -> policy

A difference counts where the whole interval lies below zero, of average precision or of value. The policy's chance of
error is shared between the cohorts and halved between the two, so a champion as good as the one before it stays with
the policy's confidence (Bonferroni). Customers who got an offer are left out: offers follow the champion's scores, so
their outcomes speak against it; controls stand for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from spanishgas.config.policy import Offers, Policy, ProbationRules, Remedy
from spanishgas.errors import LakeError
from spanishgas.evaluation.inference import Difference, differences
from spanishgas.evaluation.metrics import with_intervals
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import promotion, registry, runs
from spanishgas.lifecycle.gate import predictions
from spanishgas.lifecycle.history import PROBATION
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring.cohort import Cohort

KEPT = "probation.cohorts"
"""Tag of a version that holds its `Record`."""
FEWEST = 10
"""Churners, and stayers, from which two versions are compared."""
SEED = 0
NAMES = {"average_precision": "average precision", "value_eur": "value in EUR"}


class CohortJudgement(BaseModel):
    """What one cohort's labels said."""

    digest: str
    """Digest of the cohort's outcomes table."""
    move: int
    """Number of the move that had made the version champion."""
    worse: bool
    words: str


class ProbationRecord(BaseModel):
    """Judgements by as-of date."""

    cohorts: dict[str, CohortJudgement] = {}

    def of(self, move: int) -> list[CohortJudgement]:
        """Those since a move."""
        return [one for one in self.cohorts.values() if one.move == move]


@dataclass(frozen=True)
class Probation:
    """A champion on probation, and the version before it."""

    champion: Version
    previous: str
    move: int
    record: ProbationRecord
    rules: ProbationRules

    @classmethod
    def running(cls, policy: Policy) -> Probation | None:
        """The trial of the champion; None where there is no way back from it, or it came back by a rollback."""
        moves = promotion.seen()
        previous, arrival = promotion.way_back(moves), moves.arrival
        if previous is None or arrival is None or moves.champion is None:
            return None
        version = registry.resolve(moves.champion)
        record = ProbationRecord.model_validate_json(version.tags.get(KEPT, "{}"))
        return cls(version, previous, arrival.number, record, policy.probation)

    @property
    def number(self) -> str:
        """Number of the champion."""
        return self.champion.number

    @property
    def worse(self) -> bool:
        """Whether some cohort said that it is worse."""
        return any(one.worse for one in self.record.of(self.move))

    def takes(self, day: date, digest: str) -> bool:
        """Whether a cohort is to be judged: newer than the training, in time, not judged with these labels yet."""
        cohort = self.record.cohorts.get(day.isoformat())
        if self.worse or (cohort and (cohort.digest == digest or cohort.move != self.move)):
            return False
        age = (day - self.champion.record.chosen.as_of).days
        room = cohort is not None or len(self.record.of(self.move)) < self.rules.cohorts
        return room and 0 < age <= (self.rules.days or age)

    @property
    def level(self) -> float:
        """Level of the intervals of one cohort."""
        return 1 - (1 - self.rules.confidence) / self.rules.cohorts

    def judged(self, day: date, judgement: CohortJudgement) -> Probation:
        """With one more judgement, written to the version's tags."""
        record = ProbationRecord(cohorts=self.record.cohorts | {day.isoformat(): judgement})
        trial = replace(self, record=record)
        client, name = MlflowClient(), self.champion.name
        client.set_model_version_tag(name, self.number, KEPT, record.model_dump_json())
        client.set_model_version_tag(name, self.number, PROBATION, trial.words(judgement))
        return trial

    def words(self, last: CohortJudgement) -> str:
        """How far the probation is."""
        count = len(self.record.of(self.move))
        state = "worse" if self.worse else "passed" if count >= self.rules.cohorts else "on"
        return f"{state}, {count} of {self.rules.cohorts} cohorts; {last.words}"


def probation(outcomes: Snapshot, gold: Snapshot, cohort: Cohort, policy: Policy, lake: Lake) -> list[str]:
    """Judge the champion by one more cohort where its probation asks for it, and do what the policy says.

    A sentence or two if there is something to tell. What was judged is not judged again; a rollback that a kill
    prevented is made by the next call.
    """
    trial = Probation.running(policy)
    if trial is None:
        return []
    told: list[str] = []
    if trial.takes(outcomes.manifest.as_of, outcomes.manifest.digest):
        try:
            trial, told = _judge(trial, outcomes, gold, cohort, policy.offers, lake)
        except LakeError as fault:
            return [f"The probation of version {trial.number} cannot be judged: {fault}."]
    return told + (_remedy(trial) if trial.worse else [])


def _judge(
    trial: Probation, outcomes: Snapshot, gold: Snapshot, cohort: Cohort, offers: Offers, lake: Lake
) -> tuple[Probation, list[str]]:
    versions, day = (trial.champion, registry.resolve(trial.previous)), outcomes.manifest.as_of
    seen = set[str]().union(*(version.training_table(lake).customers for version in versions))
    fresh = cohort.where(~cohort.rows["customer_id"].isin(seen))
    fair = fresh.untreated
    y = fair.rows["churn"].to_numpy(dtype="int64")
    if min(y.sum(), len(y) - y.sum()) < FEWEST or not fresh.replaceable:
        return trial, [
            f"The probation of version {trial.number} waits: of the customers that neither version {trial.number} nor "
            f"version {trial.previous} learned from and that got no offer, {int(y.sum()):,} of {len(y):,} left, too "
            "few or without controls to judge by."
        ]
    rows = gold.pandas().set_index("customer_id").loc[fair.rows["customer_id"]].reset_index()
    ours, theirs = (predictions(version.model, rows, y, offers) for version in versions)
    gaps = differences(y, ours, theirs, SEED, counts=fair.weights, level=trial.level)
    listed = ", ".join(f"{NAMES[name]} {_words(gap)}" for name, gap in gaps.items())
    judgement = CohortJudgement(
        digest=outcomes.manifest.digest,
        move=trial.move,
        worse=any(gap.high < 0 for gap in gaps.values()),
        words=f"as of {day} against version {trial.previous}: {listed}",
    )
    _log(trial, day, judgement, gaps, len(y))
    trial = trial.judged(day, judgement)
    return trial, [f"Probation of version {trial.number}: {trial.words(judgement)}."]


def _words(one: Difference) -> str:
    form = "+,.0f" if abs(one.value) >= 10 else "+.3f"
    return f"{one.value:{form}} ({one.low:{form}} to {one.high:{form}})"


def _log(
    trial: Probation, day: date, judgement: CohortJudgement, gaps: Mapping[str, Difference], rows: int
) -> None:
    title = f"probation of version {trial.number} as of {day}"
    tags = {"as_of": day, "version": trial.number, "worse": "yes" if judgement.worse else "no"}
    params = {"against": trial.previous, "level": trial.level}
    with runs.stage("probation", title, params=params, tags=tags) as run:
        values = {"rows": float(rows)} | {name: gap.value for name, gap in gaps.items()}
        intervals = {name: (gap.low, gap.high) for name, gap in gaps.items()}
        run.log(metrics=with_intervals("probation", values, intervals))
        run.describe(judgement.words)


def _remedy(trial: Probation) -> list[str]:
    reason = next(one.words for one in trial.record.of(trial.move) if one.worse)
    if trial.rules.action is Remedy.PROPOSE:
        return [
            f"Version {trial.number} is worse than the champion before it. To go back: "
            f'spanishgas rollback --reason "probation, {reason}"'
        ]
    move = promotion.rollback(f"probation, {reason}", of=trial.number)
    return [f"Rolled back to version {move.version}. To score with it: spanishgas score"]

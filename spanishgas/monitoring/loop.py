"""From alarms to a retrain: once policy calls them serious, labels are at hand and the last one is long enough ago.

    k of the last n windows rang -> a labelled table newer than the champion's own -> no retrain within the cool-down
      -> the state machine that SPANISHGAS_RETRAIN_STATE_MACHINE names, else this process

What was done is the tag `retrain` of the window's drift run. A retrain that was killed is taken up by the next report:
it does again only what is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.config.adopted import bring_labels
from spanishgas.config.policy import DriftLimits, load_policy
from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.experiments import training_gold
from spanishgas.lifecycle.promotion_lock import promotion_lock
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring.alerts import region_of
from spanishgas.monitoring.drift import Drift
from spanishgas.monitoring.history import RETRAIN, Window, windows
from spanishgas.settings import settings


class RetrainStep(StrEnum):
    """What the loop does about a window; those after QUIET are kept as its tag."""

    QUIET = "nothing"
    COOLING = "cooling down"
    UNLABELLED = "waits for labels"
    PROPOSED = "proposed"
    BEGUN = "begun"
    DONE = "done"


STARTED = (RetrainStep.BEGUN, RetrainStep.DONE)


@dataclass(frozen=True)
class Decision:
    """What is to be done about a window, and why."""

    step: RetrainStep
    words: str


def decide(
    now: Window, others: Sequence[Window], limits: DriftLimits, trained: date, labels: date | None
) -> Decision:
    """What policy says of the newest window of the champion.

    Args:
        now: the window.
        others: all other windows, of any version.
        limits: k of n, the cool-down in days between as-of dates, and whether a retrain starts by itself.
        trained: as-of date of the champion's training table.
        labels: as-of date of the newest labelled table, None without one.
    """
    last = [*(w for w in others if w.version == now.version and w.as_of < now.as_of), now]
    last = sorted(last, key=lambda w: w.as_of)[-limits.windows.of :]
    rang = sum(w.alarm for w in last)
    counted = f"{rang} of the last {len(last)} windows rang"
    if now.retrain in STARTED:
        return Decision(RetrainStep(now.retrain), f"{counted}; a retrain was started for this window")
    if any(w.version == now.version and w.as_of > now.as_of for w in others):
        return Decision(RetrainStep.QUIET, f"a later window than {now.as_of} was watched already")
    if not now.alarm or rang < limits.windows.k:
        return Decision(
            RetrainStep.QUIET, f"{counted}; {limits.windows.k} of {limits.windows.of} are serious"
        )
    before = [w.as_of for w in others if w.retrain in STARTED]
    if before and (now.as_of - max(before)).days < limits.cooldown_days:
        return Decision(
            RetrainStep.COOLING,
            f"{counted}, but the window of {max(before)} had a retrain: the next one may start "
            f"{limits.cooldown_days} days after it",
        )
    if labels is None or labels <= trained:
        return Decision(
            RetrainStep.UNLABELLED,
            f"{counted}, but no labels are newer than the champion's own, of {trained}: {bring_labels()}, "
            "then run drift again",
        )
    if not limits.retrain:
        return Decision(
            RetrainStep.PROPOSED, f"{counted}: run `spanishgas retrain` to train on the labels of {labels}"
        )
    return Decision(RetrainStep.BEGUN, f"{counted}: a retrain starts on the labels of {labels}")


def close(
    report: Drift, lake: Lake, retrain: Callable[[str], str], say: Callable[[str], None]
) -> RetrainStep:
    """Do what policy says of a drift report of the champion, and record it; `retrain` trains here.

    `retrain` is given the run that set it off, and gives in words what came of it.
    """
    champion, watched = registry.aliases().get(Alias.CHAMPION), windows()
    if interrupted := next((w for w in watched if _cut_short(w)), None):
        say(f"the retrain of the window of {interrupted.as_of} was cut short and goes on")
        return _start(interrupted.run_id, registry.resolve(interrupted.version), interrupted, retrain, say)
    if champion != report.version:
        return RetrainStep.QUIET
    now = next(w for w in watched if (w.as_of, w.version) == (report.as_of, report.version))
    version = registry.resolve(champion)
    others = [w for w in watched if w is not now]
    decision = decide(now, others, load_policy().drift, version.record.chosen.as_of, _labels(lake))
    if decision.step is not RetrainStep.QUIET:
        say(decision.words)
    if decision.step is not RetrainStep.BEGUN or now.retrain in STARTED:
        _keep(report.run_id, decision.step)
        return decision.step
    MlflowClient().set_tag(report.run_id, f"{RETRAIN}.triggered_by", decision.words)
    return _start(report.run_id, version, now, retrain, say)


def _labels(lake: Lake) -> date | None:
    """The as-of date of the newest labelled table."""
    try:
        return training_gold(lake).manifest.as_of
    except UsageError:
        return None


def _cut_short(window: Window) -> bool:
    ours = window.process == provenance.process()
    return window.retrain == RetrainStep.BEGUN and (ours or provenance.is_gone(window.process))


def _keep(run_id: str, step: RetrainStep) -> None:
    if step is not RetrainStep.QUIET:
        MlflowClient().set_tag(run_id, RETRAIN, step)


def _start(
    run_id: str, version: Version, window: Window, here: Callable[[str], str], say: Callable[[str], None]
) -> RetrainStep:
    if not _claimed(run_id, window):
        say("another process retrains for this window")
        return RetrainStep.BEGUN
    machine = settings().retrain_state_machine
    words = start_execution(machine, version, window) if machine else here(run_id)
    MlflowClient().set_tag(run_id, f"{RETRAIN}.result", words)
    _keep(run_id, RetrainStep.DONE)
    say(words)
    return RetrainStep.DONE


def _claimed(run_id: str, window: Window) -> bool:
    """Whether this process is the one that retrains: False where another one was faster."""
    client = MlflowClient()
    with promotion_lock(settings().registered_model):
        tags = client.get_run(run_id).data.tags
        if tags.get(RETRAIN) in STARTED and tags.get(f"{RETRAIN}.process") != window.process:
            return False
        client.set_tag(run_id, f"{RETRAIN}.process", provenance.process())
        client.set_tag(run_id, RETRAIN, RetrainStep.BEGUN)
    return True


def start_execution(machine: str, version: Version, window: Window) -> str:
    """Start the state machine in mode train, once per window: the execution is named after it.

    Raises SpanishGasError where AWS refuses.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    name = re.sub(r"[^\w-]", "-", f"drift-{window.as_of}-v{window.version}-{version.name}")[:80]
    order = {
        "id": f"drift/{window.as_of}/{window.version}",
        "mode": "train",
        "experiment": version.record.chosen.experiment,
        "model": version.record.chosen.model,
    }
    try:
        client = boto3.client("stepfunctions", region_name=region_of(machine))
        with suppress(client.exceptions.ExecutionAlreadyExists):
            client.start_execution(stateMachineArn=machine, name=name, input=json.dumps(order))
    except (BotoCoreError, ClientError) as fault:
        raise SpanishGasError(
            f"the state machine {machine} could not be started ({fault}): look at SPANISHGAS_RETRAIN_STATE_MACHINE and "
            "the role's permission states:StartExecution, then run drift again"
        ) from fault
    return f"execution {name} of {machine}"

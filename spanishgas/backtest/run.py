"""`spanishgas backtest`: policies over the same extracts, each in a place of its own, and beside each other."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from spanishgas.backtest.replay import Replay
from spanishgas.backtest.report import Replayed, compared, picture
from spanishgas.config.adopted import of_adopted
from spanishgas.config.policy import Policy
from spanishgas.config.reading import read
from spanishgas.errors import DataError, UsageError
from spanishgas.etl.source import extract_date
from spanishgas.lake import Lake, location
from spanishgas.lake.digests import json_digest
from spanishgas.lake.store import make_folder
from spanishgas.lifecycle import runs
from spanishgas.settings import settings

ARGUMENTS, PAGE, PICTURE = "backtest.yaml", "backtest.md", "backtest.png"
OWN = {"EXPERIMENT_NAME": "experiment_name", "REGISTERED_MODEL": "registered_model"}
"""Settings whose values a replay must not share."""


def steps(first: date, last: date, every: str) -> list[date]:
    """The days from `first` to `last`, so many months (`1M`) or days (`14D`) apart; month ends from one on."""
    if not (match := re.fullmatch(r"([1-9]\d{0,2})([MD])", every)):
        raise UsageError(f"--every must be months or days, such as 1M or 14D, but got '{every}'")
    if first > last:
        raise UsageError(f"--from {first} lies after --to {last}: swap them")
    begin, number = pd.Timestamp(first), int(match[1])
    apart = pd.DateOffset(months=number) if match[2] == "M" else pd.DateOffset(days=number)
    stays = pd.offsets.MonthEnd(0) if begin.is_month_end and match[2] == "M" else pd.Timedelta(0)
    days = ((begin + apart * i + stays).date() for i in count())
    return list(takewhile(lambda day: day <= last, days))


def backtest(
    first: date, last: date, every: str, *, lake: Lake, out: Path, policies: Sequence[Path] = (), **how: Any
) -> list[Replayed]:
    """Replay the lifecycle over the extracts of `lake` by each policy (that of policy.yaml if none is named) in `out`.

    `how` says what else a `Replay` is to know: trials, seed, and if wanted override, say and progress. The same command
    goes on where an earlier one was cut short. Page and picture lie in `out`.

    Raises `UsageError` for arguments that make no replay, an adopted table, extracts that are not there, a policy that
    cannot be read, and a place that holds another backtest or one at work; DataError where no champion came of it.
    """
    if of_adopted():
        raise UsageError(
            f"{settings().experiments} is of an adopted table, but a backtest replays raw extracts: name experiments "
            "for those (SPANISHGAS_EXPERIMENTS), or judge on a later day by `holdout: {by: time}` in policy.yaml"
        )
    days, extracts = steps(first, last, every), [extract_date(raw) for raw in lake.raw_extracts()]
    if not [day for day in extracts if first <= day <= last]:
        there = ", ".join(map(str, extracts)) or "none: run `spanishgas simulate`, or bring your own"
        raise UsageError(f"{lake.root} holds no extract from {first} to {last}; there are {there}")
    files = list(policies) or [settings().experiments / "policy.yaml"]
    by_name = {file.stem: read(file, Policy, "name a policy file, such as policy.yaml") for file in files}
    if len(by_name) < len(files):
        raise UsageError("two policies have one file name: name their files apart, they name the replays")
    asked = {"from": first, "to": last, "every": every, "lake": location(lake.root)}
    asked |= {name: how[name] for name in ("trials", "seed", "override") if name in how}
    asked |= {f"policy {n}": json_digest(policy.model_dump(mode="json")) for n, policy in by_name.items()}
    replayed = list[Replayed]()
    with _begun(out / ARGUMENTS, {name: str(value) for name, value in asked.items()}) as number:
        for name, policy in by_name.items():
            own = {key: f"{getattr(settings(), of)}-backtest-{name}-{number}" for key, of in OWN.items()}
            replay = Replay(_place(out.resolve() / name, policy), lake, policy, own, **how)
            replayed.append(Replayed(replay, done := replay.run(days)))
            if not any(step["champion"] for step in done):
                raise DataError(f"{name}: no champion came of it. {' '.join(done[-1]['words'])}")
        _leave(replayed, out, days)
    return replayed


@contextmanager
def _begun(file: Path, asked: dict[str, str]) -> Iterator[str]:
    """A number of the place's own, for names in MLflow, and nobody else at work there until the block ends.

    UsageError where another process is, or where the place was begun with other arguments. A kill frees it.
    """
    make_folder(file.parent)
    with file.open("a+") as place:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise UsageError(
                f"another backtest is at work in {file.parent}: wait for it, or name another place with --out"
            ) from fault
        if not file.stat().st_size:
            file.write_text(yaml.safe_dump(asked | {"number": uuid.uuid4().hex[:8]}, sort_keys=False))
        begun: dict[str, str] = yaml.safe_load(file.read_text())
        number = begun.pop("number")
        for name in sorted(n for n in {*begun, *asked} if begun.get(n) != asked.get(n)):
            raise UsageError(
                f"{file.parent} holds a backtest of another {name} ({begun.get(name, 'none')}, now "
                f"{asked.get(name, 'none')}): name another place with --out, or remove that one"
            )
        yield number


def _place(place: Path, policy: Policy) -> Path:
    """The folder of a replay, with a copy of experiments/ in which the policy stands."""
    if not (own := place / "experiments").exists():
        shutil.copytree(settings().experiments, fresh := place / ".experiments", dirs_exist_ok=True)
        content = policy.model_dump(mode="json")
        if policy.drift.baseline:
            content["drift"]["baseline"] = str(policy.drift.baseline.resolve())
        (fresh / "policy.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        fresh.rename(own)
    return place


def _leave(replayed: Sequence[Replayed], out: Path, days: Sequence[date]) -> None:
    """Page and picture, in `out`, in each replay's run, and in the run that `mlflow run` opened, if one is there."""
    tables = [f"## {one.replay.place.name}\n\n{one.table()}\n" for one in replayed]
    text = "\n".join([*tables, *(compared(replayed[0], other) for other in replayed[1:])])
    (out / PAGE).write_text(f"{text}\n")
    (drawn := picture(replayed)).savefig(out / PICTURE, dpi=80)
    of_project = [runs.stage("backtest", "backtest")] if "MLFLOW_RUN_ID" in os.environ else []
    for opened in (*of_project, *(one.replay.resumed(days) for one in replayed)):
        with opened as run:
            run.text(text, PAGE)
            run.figure(drawn, PICTURE)
            run.describe(text)

"""One policy over a lake's extracts, step by step, in a place of its own; a step that is done is not done again.

    what was known on the day -> labels -> outcomes of earlier cohorts -> the first champion, if there is none
      -> the newest extract scored, offers, drift -> the retrain that the policy asks for

The replay works in its own lake, MLflow experiment and registered model, and alerts nobody. What a step did and saw is
steps/<day>.json: nothing that was not known then, and no customer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from spanishgas import pipeline
from spanishgas.backtest.view import View
from spanishgas.config.policy import Policy
from spanishgas.errors import DataError, TooEarly
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake
from spanishgas.lake.store import make_folder, put_in_place
from spanishgas.lifecycle import promotion, registry, runs
from spanishgas.lifecycle.data import etl
from spanishgas.lifecycle.experiments import Progress, silent
from spanishgas.lifecycle.registry import Alias
from spanishgas.monitoring.history import windows
from spanishgas.monitoring.outcomes import estimate, outcomes
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.score import score
from spanishgas.settings import settings

PROJECT_RUN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
SILENCED = ("RETRAIN_STATE_MACHINE", "ALERT_SNS_TOPIC", "ALERT_WEBHOOK", "ALERT_CLOUDWATCH")
Step = dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """One policy's replay: where it works, and by what."""

    place: Path
    """A folder of its own, with experiments/ as the policy has them; its name is the policy's."""
    source: Lake
    policy: Policy
    names: Mapping[str, str]
    """Its own EXPERIMENT_NAME and REGISTERED_MODEL."""
    trials: int
    seed: int
    override: str = ""
    """Why the first champion may be promoted whatever its gate says; empty: it may not."""
    say: Callable[[str], None] = print
    progress: Progress = silent

    @cached_property
    def view(self) -> View:
        """What was known, as a lake in the place."""
        return View(self.source, Lake(self.place / "lake"), self.policy.label_horizon_months)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within, this process works in the replay's own lake, experiment and registered model, and alerts nobody."""
        own = {
            **dict.fromkeys(SILENCED, ""),
            **self.names,
            "LAKE": str(self.place / "lake"),
            "EXPERIMENTS": str(self.place / "experiments"),
            "STUDY_STORAGE": f"sqlite:///{self.place}/optuna.db",
            "ALERT_FILE": str(self.place / "alerts.jsonl"),
        }
        with _environment({f"SPANISHGAS_{name}": value for name, value in own.items()}):
            yield

    def run(self, days: Sequence[date]) -> list[Step]:
        """Every step that is not done yet, then the labels that came after the last one; gives all steps."""
        steps = list[Step]()
        with self.installed(), self.resumed(days):
            for day in days:
                file = self.place / "steps" / f"{day}.json"
                if not file.exists():
                    _put(file, json.dumps(self._step(day, steps), indent=1))
                steps.append(json.loads(file.read_text()))
            self._learn(date.max, self.view.extracts(days[-1]))
        return steps

    @contextmanager
    def resumed(self, days: Sequence[date]) -> Iterator[runs.StageRun]:
        """The replay's one run: where an earlier process made it, the same one goes on."""
        file, begun = self.place / "run_id", dict[str, str]()
        if file.exists() and runs.status(file.read_text()) != "GONE":
            begun = {"MLFLOW_RUN_ID": file.read_text()}
        params = {"policy": self.place.name, "from": days[0], "to": days[-1], "steps": len(days)}
        with _environment(begun), runs.stage("backtest", f"backtest {self.place.name}", params=params) as run:
            _put(file, run.run_id)
            yield run

    def _step(self, day: date, before: Sequence[Step]) -> Step:
        step: Step = {"day": str(day), "extract": "", "champion": "", "words": []}
        with runs.stage("step", f"step {day}", params={"day": day}) as run:
            self._learn(day, extracts := self.view.extracts(day))
            if extracts:
                self._act(extracts[-1], before, step)
            judged = {number for earlier in before for number in earlier["judged"]}
            fresh = [v for v in registry.versions() if v.number not in judged]
            step["judged"] = {v.number: v.verdict.words for v in fresh}
            figures = {name: value for name, value in step.items() if isinstance(value, int | float)}
            run.log(metrics=figures, tags={name: step[name] for name in ("extract", "champion")})
            run.describe("\n".join(f"- {line}" for line in step["words"]))
        champion = f"champion {step['champion'] or 'none'}."
        self.say(f"{self.place.name} {day}: {' '.join([champion, *step['words']])}")
        return step

    def _learn(self, day: date, extracts: Sequence[date]) -> None:
        """Build what was known on `day` and is not built yet, and hold labels that came against the scores."""
        lake = self.view.lake
        for as_of in extracts:
            mark, shown = self.place / "built" / str(as_of), self.view.show(as_of, day)
            if mark.exists() and mark.read_text() == shown:
                continue
            gold = etl(lake.raw(as_of), lake=lake, as_of=as_of).snapshots["gold_master"]
            labels = gold.pandas(["customer_id", "churn"]).dropna()
            if len(labels) and lake.find("scores", as_of):
                _put(file := self.place / "labels" / f"{as_of}.csv", labels.to_csv(index=False))
                outcomes(file, as_of, lake=lake)
            _put(mark, shown)

    def _act(self, extract: date, before: Sequence[Step], step: Step) -> None:
        """Train the first champion; score and watch the newest extract as the champion there is."""
        lake, say = self.view.lake, step["words"].append
        effort: Any = {"trials": self.trials, "seed": self.seed, "progress": self.progress}
        with _unless_too_early(say):
            if registry.champion() is None:
                version = pipeline.retrain(lake=lake, triggered_by="backtest", **effort)
                if self.override and not version.verdict.passed:
                    promotion.promote(version.number, "the first", self.override)
        # A step that was killed after its retrain goes on with the champion that it began with.
        mark = self.place / "begun" / str(extract)
        champion = mark.read_text() if mark.exists() else registry.aliases().get(Alias.CHAMPION, "")
        step |= {"extract": str(extract), "champion": champion}
        if not champion or str(extract) in {earlier["extract"] for earlier in before if earlier["champion"]}:
            say("Nothing new to score." if champion else "No champion, so nothing was scored.")
            return
        _put(mark, champion)
        score(champion, lake=lake, progress=self.progress)
        offers = recommend(lake=lake).pandas(["action", "offer_budget"])
        step |= {
            "offers": int(offers["action"].ne(NO_OFFER).sum()),
            "offers_eur": float(offers["offer_budget"].sum()),
        }
        with suppress(DataError):  # the model learned from everybody
            estimate(extract, lake=lake)
        with _unless_too_early(say):
            pipeline.watched(None, champion, lake=lake, say=say, pages=False, **effort)
        window = next(w for w in windows() if (w.as_of, w.version) == (extract, champion))
        step |= {name: getattr(window, name) for name in ("alarm", "statistic", "threshold", "retrain")}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Other settings, and no run of a project to join, for as long as it is open."""
    before = {name: os.environ.pop(name, None) for name in (*PROJECT_RUN, *values)}
    os.environ.update(values)
    settings.cache_clear()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        settings.cache_clear()


@contextmanager
def _unless_too_early(say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except TooEarly as fault:
        say(str(fault))


def _put(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    make_folder(file.parent)
    fresh = file.with_name(f".{file.name}")
    fresh.write_text(text)
    put_in_place(fresh, file)

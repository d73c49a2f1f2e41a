"""The child runs of a study: one per ended trial, whoever ran it and whatever was killed when.

A trial's run carries its study and number from the moment it exists, so that one left half-written is found again and
completed. A trial is written by the command that ran it, or by the next one if that command is gone; the children of
a killed parent move to the run that continues the search.
"""

from __future__ import annotations

import time
from collections import defaultdict

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.runs import StageRun
from spanishgas.training.search import Trial

LIVING = ("RUNNING", "SCHEDULED", "FINISHED")
STUDY, KEY = "study.key", "study.trial"


class TrialRuns:
    """What the tracking store holds of one study, and how to bring it up to date."""

    def __init__(self, parent: StageRun, study: str, tags: dict[str, str]) -> None:
        self.parent, self.study, self.tags = parent, study, tags
        self.known: dict[str, Run] = {}
        self.settle()

    def settle(self) -> None:
        """Keep one run per trial, and take over those whose parent is gone."""
        client, by_trial = MlflowClient(), defaultdict(list)
        for run in runs.find({"stage": "trial", STUDY: self.study}, finished=False):
            by_trial[run.data.tags[KEY]].append(run)
        for key, several in by_trial.items():
            first, *others = sorted(several, key=lambda r: (r.info.start_time, r.info.run_id))
            self.known[key] = first
            for run in others:
                client.set_tag(run.info.run_id, "stage", "duplicate")
        parents = {run.data.tags[runs.PARENT] for run in self.known.values()}
        gone = {p for p in parents if not lives(p)}
        for run in self.known.values():
            if run.data.tags[runs.PARENT] in gone:
                client.set_tag(run.info.run_id, runs.PARENT, self.parent.run_id)

    def record(self, trial: Trial, start: str = "") -> None:
        """Write `trial`, and the `start` it took, unless it is written already or its own command is about to."""
        written = self.known.get(str(trial.key))
        if written is not None and written.info.status == "FINISHED":
            return
        if trial.owner != self.parent.run_id and lives(trial.owner, but_finished=True):
            return
        client, end = MlflowClient(), int(time.time() * 1000)
        run = written or client.create_run(
            self.parent.experiment_id,
            start_time=end - int(1000 * trial.seconds),
            run_name=f"{self.tags['experiment']} {self.tags['model']} trial {trial.number}",
            tags=self._tags_of(trial) | ({"warm_start": start} if start else {}),
        )
        StageRun(run.info.run_id, self.parent.experiment_id).log(
            metrics={"search.average_precision": trial.score, "seconds": trial.seconds},
            params=trial.params,
            series={"search.fold.average_precision": trial.scores},
        )
        client.set_terminated(run.info.run_id, "FINISHED", end)

    def _tags_of(self, trial: Trial) -> dict[str, str]:
        state = "pruned" if trial.pruned else "completed"
        words = f"Average precision {trial.score:.4f} on the search's folds, {state} after {len(trial.scores)} of them."
        return self.tags | {
            "stage": "trial",
            STUDY: self.study,
            KEY: str(trial.key),
            "trial": str(trial.number),
            "state": state,
            "process": provenance.process(),
            runs.NOTE: words,
            runs.PARENT: self.parent.run_id,
        }


def lives(run_id: str, *, but_finished: bool = False) -> bool:
    """Whether a run is there and was not killed; with `but_finished`, whether it may still write."""
    status = runs.status(run_id)
    return status in LIVING and not (but_finished and status == "FINISHED")

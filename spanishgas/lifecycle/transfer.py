"""A version, or all finished runs, in another tracking store: the same values, bytes and verdict under ids of its own.

    finished run -> values, inputs, artefacts, logged models -> copy, tagged with the id of its original
    version      -> its experiment's run and its own -> version there, checked against its seal

Moves of `champion` stay where they were made: whoever promotes there decides there. Run again, what is there is taken;
a copy that was cut short is ended as KILLED and made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import mlflow
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, Run
from mlflow.tracking import MlflowClient
from mlflow.utils import mlflow_tags

from spanishgas import provenance
from spanishgas.errors import TrackingError, UsageError
from spanishgas.lifecycle import local_store, overview, registry, runs
from spanishgas.lifecycle.experiments import Progress, silent
from spanishgas.lifecycle.version import DIGEST, OVERRIDE, ROLLED_BACK, Version
from spanishgas.lifetime import temporary_folder

T = TypeVar("T")
ORIGINAL = "transfer.from"
"""Tag of a copied run or logged model: the id of its original."""
KEPT = (runs.NOTE, mlflow_tags.MLFLOW_LOGGED_ARTIFACTS)
"""MLflow's own tags that are copied; the others it writes itself, as a server does the login."""
NOT_COPIED = ("mlflow.", "spanishgas.login", OVERRIDE, ROLLED_BACK, "champion.", "probation")
"""How tags begin that say who made a copy, or what became of a version, which is decided anew."""
METRICS, PARAMS = 1000, 100
"""How many of them MLflow takes in one request."""


def transfer(which: str, to: str) -> Version:
    """Copy a version to the store at `to`, and check verdict and bytes there; gives the version there.

    Raises DataError for one that is not what was judged, here or there; TrackingError for one that was rolled back.
    """
    version = registry.resolve(which).checked()
    back = version.moves.rolled_back(version.number)
    if back is not None and not version.override:
        raise TrackingError(
            f"{version.named} was rolled back ({back}), which the other store would not know: transfer another version"
        )
    sealed, model_id = version.digest, str(version.entity.source).removeprefix("models:/")
    tags = _copied(version.tags) | {DIGEST: str(sealed)}
    of_run = [id_ for id_ in (version.record.of_run,) if runs.status(id_) == "FINISHED"]
    with elsewhere(to) as copies:
        *_, run_id = map(copies.of, [*of_run, version.run_id])
        same = [v for v in registry.versions() if v.tags.get(DIGEST) == sealed]
        uri, words = f"models:/{copies.model(run_id, model_id)}", version.entity.description or ""
        made = same[0] if same else registry.add_version(uri, tags, words)
        _ = made.checked().verdict
        overview.refresh()
    return made


def transfer_history(to: str, progress: Progress = silent) -> int:
    """Copy every finished run of the experiment to the store at `to`; gives how many there are."""
    finished = sorted(runs.find({}), key=lambda run: int(run.info.start_time))
    with elsewhere(to) as copies:
        for number, run in enumerate(finished):
            progress("transfer", number, len(finished))
            copies.of(run.info.run_id)
    return len(finished)


@contextmanager
def elsewhere(uri: str) -> Iterator[Copies]:
    """The store at `uri` as the one that is asked and written to."""
    before, here = mlflow.get_tracking_uri(), MlflowClient()
    mlflow.set_tracking_uri(uri)
    try:
        if not local_store.to_be_made(uri):
            runs.connect()
        yield Copies(here, MlflowClient(), before)
    finally:
        mlflow.set_tracking_uri(before)


@dataclass(frozen=True)
class Copies:
    """Runs of one store in another, by the ids of their originals."""

    here: MlflowClient
    there: MlflowClient
    uri: str
    """Where the originals are."""
    ids: dict[str, str] = field(default_factory=dict)

    def of(self, run_id: str) -> str:
        """The copy of a finished run, made if need be, under the copy of its parent, if there is one.

        UsageError where the other store is the one that is read.
        """
        if runs.status(run_id) != "GONE":
            raise UsageError(f"--to names the tracking store that is read, {self.uri}: name another one")
        run = self.here.get_run(run_id)
        home = self._experiment(run)
        for copy in self.there.search_runs([home], f"tags.`{ORIGINAL}` = '{run_id}'"):
            if copy.info.status == "FINISHED":
                self.ids[run_id] = copy.info.run_id
            elif provenance.is_gone(copy.data.tags.get("process", "")):
                self.there.set_terminated(copy.info.run_id, "KILLED")
        if run_id not in self.ids:
            self.ids[run_id] = self._made(run, home)
        return self.ids[run_id]

    def model(self, run_id: str, original: str) -> str:
        """The logged model of a copied run that is the copy of this one; TrackingError without one."""
        for made in _outputs(self.there.get_run(run_id)):
            if self.there.get_logged_model(made.model_id).tags.get(ORIGINAL) == original:
                return str(made.model_id)
        raise TrackingError(
            f"{original} is no logged model of its run: only versions of `spanishgas evaluate` are copied"
        )

    def _experiment(self, run: Run) -> str:
        name = self.here.get_experiment(run.info.experiment_id).name
        there = self.there.get_experiment_by_name(name)
        return str(there.experiment_id if there else self.there.create_experiment(name))

    def _made(self, run: Run, home: str) -> str:
        tags = _copied(run.data.tags) | {ORIGINAL: run.info.run_id, "process": provenance.process()}
        if parent := self.ids.get(run.data.tags.get(runs.PARENT, "")):
            tags[runs.PARENT] = parent
        made = self.there.create_run(home, run.info.start_time, tags, run.info.run_name).info.run_id
        with temporary_folder() as folder:
            if self.here.list_artifacts(run.info.run_id):
                self.there.log_artifacts(made, self.here.download_artifacts(run.info.run_id, "", str(folder)))
        if inputs := run.inputs.dataset_inputs if run.inputs else []:
            self.there.log_inputs(made, inputs)
        for params in _parts([Param(*one) for one in run.data.params.items()], PARAMS):
            self.there.log_batch(made, params=params)
        for metrics in _parts(self._metrics(run, home, made), METRICS):
            self.there.log_batch(made, metrics=metrics)
        self.there.set_terminated(made, "FINISHED", run.info.end_time)
        return str(made)

    def _metrics(self, run: Run, home: str, made: str) -> list[Metric]:
        """Every value of the run, those of its logged models as theirs."""
        of_models = [m for one in _outputs(run) for m in self._model(one, home, made)]
        there = {(m.key, m.timestamp, m.step) for m in of_models}
        every = (m for key in run.data.metrics for m in self.here.get_metric_history(run.info.run_id, key))
        plain = [Metric(m.key, m.value, m.timestamp, m.step) for m in every]
        return [*of_models, *(m for m in plain if (m.key, m.timestamp, m.step) not in there)]

    def _model(self, output: LoggedModelOutput, home: str, made: str) -> list[Metric]:
        """Copy a logged model with its bytes, if it has any; gives its metrics, which are still to be logged."""
        model = self.here.get_logged_model(output.model_id)
        tags = _copied(model.tags) | {ORIGINAL: model.model_id}
        copy = self.there.create_logged_model(home, model.name, made, tags, model.params, model.model_type)
        if self.here.list_logged_model_artifacts(model.model_id):
            with temporary_folder() as folder:
                whole = mlflow.artifacts.download_artifacts(
                    artifact_uri=model.artifact_location, dst_path=str(folder), tracking_uri=self.uri
                )
                self.there.log_model_artifacts(copy.model_id, whole)
        self.there.log_outputs(made, [LoggedModelOutput(copy.model_id, output.step)])
        self.there.finalize_logged_model(copy.model_id, LoggedModelStatus.READY)
        return [
            Metric(m.key, m.value, m.timestamp, m.step, copy.model_id, m.dataset_name, m.dataset_digest, made)
            for m in model.metrics or ()
        ]


def _outputs(run: Run) -> list[LoggedModelOutput]:
    return run.outputs.model_outputs if run.outputs else []


def _copied(tags: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in tags.items() if k in KEPT or not k.startswith(NOT_COPIED)}


def _parts(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    return (values[at : at + most] for at in range(0, len(values), most))

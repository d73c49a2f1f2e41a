"""How a judged artefact becomes a version: the verdict is sealed, the version made, and named challenger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import mlflow
from mlflow.tracking import MlflowClient

from spanishgas.lifecycle import registry, runs, seal
from spanishgas.lifecycle.records import JudgedVersion
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.runs import StageRun
from spanishgas.lifecycle.stage import KEY, Work
from spanishgas.lifecycle.version import DIGEST, JUDGED, PASSED, REFUSED, VERDICT, WORDS, Version
from spanishgas.lifetime import temporary_folder
from spanishgas.settings import registered_model
from spanishgas.training import artefact

M = TypeVar("M")


@contextmanager
def as_it_came_back(kind: type[M], model_uri: str) -> Iterator[tuple[M, Path]]:
    """A logged model of this kind, read again, and the folder of its artefact while the block lasts.

    What is judged is the artefact as it came back, not the object that it was written from.
    """
    with temporary_folder() as copy:
        folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(copy)))
        yield artefact.load_as(kind, folder, model_uri), folder


def register(
    run: Work, model_uri: str, judged: JudgedVersion, tags: Mapping[str, str], description: str
) -> Version:
    """Write the verdict and the record beside it, then the version that they seal."""
    content, verdict = judged.model_dump(mode="json"), judged.verdict
    run.document(seal.signed(content, registered_model()), JUDGED)
    sealed = {
        KEY: run.key,
        VERDICT: PASSED if verdict.passed else REFUSED,
        WORDS: verdict.words,
        DIGEST: seal.digest(content),
    }
    version = registry.add_version(model_uri, {**sealed, **tags}, description)
    _announce(run, version)
    return version


def registered(key: str) -> Version | None:
    """The version that was made under `key`, if any; the run of one that was cut short is completed."""
    for version in [v for v in registry.versions() if v.tags.get(KEY) == key][-1:]:
        newest = int(registry.aliases().get(Alias.CHALLENGER, "0")) < int(version.number)
        if newest or runs.status(version.run_id) in ("RUNNING", "KILLED"):
            _announce(StageRun(version.run_id, runs.experiment_id()), version, newest=newest)
            MlflowClient().set_terminated(version.run_id, "FINISHED")
        return version
    return None


def _announce(run: StageRun, version: Version, *, newest: bool = True) -> None:
    """Name a version challenger where it is the newest, and tell on its run what it is: also for one cut short."""
    if newest:
        registry.point(Alias.CHALLENGER, version.number)
    run.log(tags={"version": version.number, VERDICT: version.tags[VERDICT]})
    run.describe(version.entity.description or "")

"""Tracking stores and registered models of a test's own."""

from __future__ import annotations

import functools
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.settings import PROJECT, settings


@functools.cache
def template() -> Path:
    """A folder with a tracking store without runs, made once: MLflow takes seconds to make one."""
    folder = PROJECT / ".pytest_cache" / f"tracking-store-{mlflow.__version__}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="tracking-store-", dir=folder.parent))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(made)
            MlflowClient(f"sqlite:///{made}/mlflow.db").search_experiments()
        located(made / "mlflow.db", made, folder)
        with suppress(OSError):  # another process was first
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder


def located(file: Path, before: Path, after: Path) -> None:
    """Say in a store that its artefacts lie in another folder."""
    with closing(sqlite3.connect(file)) as store, store:
        store.execute(
            "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
            (str(before), str(after)),
        )


def empty_store(root: Path) -> str:
    """The URI of a tracking store in `root`: a new one as MLflow would have made it there, unless there is one."""
    file, made = root / "mlflow.db", template()
    if not file.exists():
        shutil.copy(made / "mlflow.db", file)
        located(file, made, root)
    return f"sqlite:///{file}"


@contextmanager
def own_store(root: Path) -> Iterator[pytest.MonkeyPatch]:
    """A tracking store in `root` (SQLite, artefacts beside it), which is the work folder as long as it is open."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.chdir(root)
        mlflow.set_tracking_uri(empty_store(root))
        try:
            yield patch
        finally:
            while mlflow.active_run():
                mlflow.end_run()
            mlflow.set_tracking_uri(before)


@contextmanager
def own_model(test: str) -> Iterator[str]:
    """A registered model without versions, named after the test; the settings name it."""
    name = re.sub(r"\W", "-", test)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANISHGAS_REGISTERED_MODEL", name)
        settings.cache_clear()
        MlflowClient().create_registered_model(name)
        yield name
    settings.cache_clear()


def forget() -> None:
    """Settings are read once; a test with its own reads them again."""
    settings.cache_clear()

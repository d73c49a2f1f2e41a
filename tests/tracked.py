"""Tracking stores and registered models of a test's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.settings import settings


@contextmanager
def own_store(root: Path) -> Iterator[pytest.MonkeyPatch]:
    """A tracking store in `root` (SQLite, artefacts beside it), which is the work folder as long as it is open."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        patch.chdir(root)
        mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
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

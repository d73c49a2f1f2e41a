"""The project as users call it: `mlflow run . --env-manager local -e ...`, from a work folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from mlflow.tracking import MlflowClient

from spanishgas.settings import PROJECT
from tests.tracked import empty_store

ENTRY_POINTS = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
MODEL = "spanishgas-churn"


class Project:
    """A work folder with a tracking store of its own, and `mlflow run` on the project from there."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.lake = folder, folder / "lake"
        self.store = empty_store(folder)
        self.environment = environment
        self.called: set[str] = set()

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.store, self.store)

    def run(self, entry: str, expect: int = 0, **params: object) -> str:
        """Output of the entry point; `lake` is given wherever it is a parameter."""
        self.called.add(entry)
        if "lake" in ENTRY_POINTS[entry].get("parameters", {}):
            params = {"lake": self.lake, **params}
        given = [word for name, value in params.items() for word in ("-P", f"{name}={value}")]
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "run",
            str(PROJECT),
            "--env-manager",
            "local",
            "-e",
            entry,
            *given,
        ]
        return self._ran(command, expect)

    def verb(self, *words: str) -> str:
        """Output of a verb, with what an entry point has no parameter for."""
        return self._ran([sys.executable, "-m", "spanishgas", *words], 0)

    def _ran(self, command: list[str], expect: int) -> str:
        environment = {
            **os.environ,
            **self.environment,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": self.store,
            "SPANISHGAS_LAKE": str(self.lake),
            "SPANISHGAS_STUDY_STORAGE": f"sqlite:///{self.folder}/optuna.db",
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == (expect != 0), output[-4000:]
        return output

    def stages(self) -> dict[str, int]:
        """Finished runs by stage."""
        runs = self.client.search_runs(["0"], "attributes.status = 'FINISHED'", max_results=1000)
        names = [run.data.tags["stage"] for run in runs]
        return {name: names.count(name) for name in names}

    def aliases(self) -> Mapping[str, str]:
        return {name: str(v) for name, v in self.client.get_registered_model(MODEL).aliases.items()}

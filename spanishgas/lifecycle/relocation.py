"""A local tracking store that was moved or copied: MLflow records artefacts by absolute path, in the old folder.

What was moved is told from what was chosen by MLflow's default, the folder `mlruns/<experiment id>` where the store was
made: another layout was chosen. So was this one, where its folder is still there, the store's own has no artefacts of
the experiment, and no store there has the same experiment.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from spanishgas.settings import settings
from spanishgas.troubles import words

DEFAULTS = ("mlruns", "mlartifacts")
LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Tables and columns of MLflow's schema that name where artefacts lie."""


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database by its SQLAlchemy URL; None for a server, of which nothing is asked."""
    scheme, _, file = uri.partition(":///")
    return Path(file) if scheme == "sqlite" else None


def left(uri: str) -> Path | None:
    """The folder of artefacts that the tracking store at `uri` still uses, if it was moved or copied from beside it."""
    store = sqlite_file(uri)
    if store is None or not (experiment := _experiment(store)):
        return None
    here, place = store.resolve().parent, Path(experiment[1])
    before, folder = place.parent.parent, place.parent
    if not place.is_absolute() or folder.name not in DEFAULTS or place.name != str(experiment[0]):
        return None
    copied = (here / folder.name / place.name).exists() or _experiment(before / store.name) == experiment
    return folder if before.resolve() != here and (copied or not before.exists()) else None


def warning(uri: str) -> str:
    """What is to be said of the store at `uri`, and the way out, if it was moved or copied; else nothing."""
    if (folder := left(uri)) is None:
        return ""
    return words("moved_store", uri=uri, folder=folder, name=folder.name, parent=folder.parent)


def relocate(uri: str) -> int:
    """Let records of artefacts in the folder that was left name the one beside the store; gives how many did not."""
    store, folder = sqlite_file(uri), left(uri)
    if store is None or folder is None:
        return 0
    old, new = f"{folder}/", f"{store.resolve().parent / folder.name}/"
    words = (new, len(old) + 1, len(old), old)
    update = "UPDATE {0} SET {1} = ? || substr({1}, ?) WHERE substr({1}, 1, ?) = ?"
    with closing(sqlite3.connect(store)) as db, db:
        return sum(db.execute(update.format(*at), words).rowcount for at in LOCATIONS.items())


def _experiment(store: Path) -> Any:
    """Id, artefact location and time of creation of the experiment that takes the runs, if there is one."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    key = "experiment_id" if number else "name"
    query = f"SELECT experiment_id, artifact_location, creation_time FROM experiments WHERE {key} = ?"
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query, (number or name,)).fetchone()
    except sqlite3.Error:
        # Where the file is none that MLflow wrote, MLflow itself will say so.
        return None

"""A local tracking store that was moved or copied: MLflow records artefacts by absolute path, so it uses the old folder.

What was moved is told from what was chosen by MLflow's default, the folder `mlruns/<experiment id>` where the store was
made: another layout was chosen. So was this one, where that folder is still there, the store's own has no artefacts of
the experiment, and no store there has the same experiment.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spanishgas.settings import settings

DEFAULTS = ("mlruns", "mlartifacts")
RECORDS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow's schema that name where artefacts lie."""


@dataclass(frozen=True)
class Moved:
    """A tracking store whose records name another folder than its own."""

    store: Path
    before: Path
    artefacts: Path
    """Where the experiment's lie, below either folder."""

    @property
    def words(self) -> str:
        """What happened, and the way out."""
        old, new = self.before / self.artefacts, self.store.parent / self.artefacts
        copy = "" if new.exists() else f"copy {old.parent} to {new.parent}, then "
        return (
            f"{self.store} was moved or copied from {self.before}, but its artefacts still go to and come from {old}: "
            f"{copy}run `spanishgas doctor --relocate`, and they are those in {new}"
        )

    def relocate(self) -> int:
        """Make the records that name the old folder name the store's own; gives how many did."""
        old, new = f"{self.before}/", f"{self.store.parent}/"
        with closing(sqlite3.connect(self.store)) as db, db:
            return sum(
                db.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, len(old), old),
                ).rowcount
                for table, column in RECORDS
            )


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite database by its SQLAlchemy URL; None for a server."""
    scheme, _, file = uri.partition(":///")
    return Path(file) if scheme == "sqlite" else None


def moved(uri: str) -> Moved | None:
    """The store at `uri`, if it is a SQLite file that was moved or copied; nothing is asked of a server."""
    file = sqlite_file(uri)
    if file is None or not (experiment := _experiment(file)):
        return None
    store, place = file.resolve(), Path(experiment[1])
    if not place.is_absolute() or place.parent.name not in DEFAULTS or place.name != str(experiment[0]):
        return None
    before, artefacts = place.parents[1], place.relative_to(place.parents[1])
    if before.resolve() == store.parent:
        return None
    copied = (store.parent / artefacts).exists() or _experiment(before / store.name) == experiment
    return Moved(store, before, artefacts) if copied or not before.exists() else None


def _experiment(store: Path) -> tuple[Any, ...] | None:
    """Id, artefact location and time of creation of the experiment that takes the runs, if it is there."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    column, value = ("experiment_id", number) if number else ("name", name)
    query = f"SELECT experiment_id, artifact_location, creation_time FROM experiments WHERE {column} = ?"
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as db:
            found: tuple[Any, ...] | None = db.execute(query, (value,)).fetchone()
            return found
    except sqlite3.Error:
        # No store yet, or none that can be read, of which MLflow will tell.
        return None

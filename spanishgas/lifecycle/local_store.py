"""A tracking store in a SQLite file: one that was moved or copied, and one of another MLflow's schema.

MLflow records artefacts by absolute path, in the old folder. What was moved is told from what was chosen by MLflow's
default, the folder `mlruns/<experiment id>` where the store was made: another layout was chosen. So was this one, where
its folder is still there, the store's own has no artefacts of the experiment, and no store there has the same one.

An older schema MLflow would upgrade as soon as it opens the file, unasked:

    verbs that only look   leave an older store as it is, and say so
    verbs that write       say so, copy the SQLite file beside it, and upgrade it, one process at a time
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from spanishgas.errors import TrackingError
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


def to_be_made(uri: str) -> bool:
    """Whether this is a SQLite file that does not exist: to open it would make it."""
    file = sqlite_file(uri)
    return file is not None and not file.exists()


def _first_row(file: Path, query: str, *values: str) -> Any:
    """The answer of a file that is only read; None where it is none that MLflow wrote, as MLflow itself will say."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute(query, values).fetchone()
    except sqlite3.Error:
        return None


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


def _experiment(store: Path) -> Any:
    """Id, artefact location and time of creation of the experiment that takes the runs, if there is one."""
    number = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or settings().experiment_name
    key = "experiment_id" if number else "name"
    query = f"SELECT experiment_id, artifact_location, creation_time FROM experiments WHERE {key} = ?"
    return _first_row(store, query, number or name)


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
    update = "UPDATE {0} SET {1} = ? || substr({1}, ?) WHERE substr({1}, 1, ?) = ?"
    with closing(sqlite3.connect(store)) as db, db:
        values = (new, len(old) + 1, len(old), old)
        return sum(db.execute(update.format(*place), values).rowcount for place in LOCATIONS.items())


@cache
def revisions() -> tuple[frozenset[str], str]:
    """The revisions that this MLflow knows, and the last of them, read from its migrations without importing them."""
    spec = importlib.util.find_spec("mlflow")
    folder = Path(spec.origin if spec and spec.origin else "").parent / "store" / "db_migrations" / "versions"
    text = "\n".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    after = dict(re.findall(r"^revision = \"(\w+)\"\ndown_revision = \"?(\w+)", text, re.M))
    (head,) = after.keys() - set(after.values())
    return frozenset(after), head


def revision(file: Path | None) -> str | None:
    """The revision of a SQLite file's schema; None where there is no file, or none that MLflow wrote."""
    row = _first_row(file, "SELECT version_num FROM alembic_version") if file else None
    return str(row[0]) if row else None


def fault(uri: str) -> str | None:
    """Why the SQLite store at `uri` cannot be opened as it is, in words; None where it can, or is no SQLite file."""
    current = revision(sqlite_file(uri))
    if current is None:
        return None
    schemas, head = revisions()
    if current == head:
        return None
    return words("old_schema" if current in schemas else "new_schema", found=current, head=head)


def look(uri: str) -> None:
    """Raise TrackingError where opening the store would upgrade it."""
    if (old := fault(uri)) is not None:
        raise TrackingError(old)


def upgrade(uri: str, say: Callable[[str], None]) -> None:
    """Upgrade a SQLite store of an older schema, with a copy beside it; TrackingError for one of a newer MLflow.

    Of several processes at once one upgrades it, and the others wait until it is done.
    """
    file = sqlite_file(uri)
    if file is None or not _is_older(file):
        return look(uri)
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_older(file):
            _migrate(file, uri, say)


def _is_older(file: Path) -> bool:
    schemas, head = revisions() if (current := revision(file)) else (frozenset(), "")
    return current in schemas - {head}


def _migrate(file: Path, uri: str, say: Callable[[str], None]) -> None:
    current = revision(file)
    copy = file.with_name(f"{file.name}.{current}")
    say(
        f"{file} is of an older MLflow: it is upgraded from schema {current} to {revisions()[1]}, and a copy kept as "
        f"{copy}"
    )
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(copy)) as kept:
        old.backup(kept)
    from mlflow.db import upgrade as migrate

    migrate.main([uri], standalone_mode=False)

"""The schema of a local tracking store: MLflow would upgrade an older one as soon as it opens it, unasked.

verbs that only look   leave an older store as it is, and say so
verbs that write       say so, copy the SQLite file beside it, and upgrade it
"""

from __future__ import annotations

import importlib.util
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

from spanishgas.errors import TrackingError
from spanishgas.lifecycle.relocation import sqlite_file
from spanishgas.troubles import words


@cache
def _revisions() -> tuple[frozenset[str], str]:
    """The revisions that this MLflow knows, and the last of them, read from its migrations without importing them."""
    spec = importlib.util.find_spec("mlflow")
    folder = (
        Path(spec.origin).parent / "store" / "db_migrations" / "versions" if spec and spec.origin else Path()
    )
    text = "\n".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    after = dict(re.findall(r"^revision = \"(\w+)\"\ndown_revision = \"?(\w+)", text, re.M))
    (head,) = after.keys() - set(after.values())
    return frozenset(after), head


def revision(file: Path) -> str | None:
    """The revision of a SQLite file's schema; None where there is no file, or none that MLflow wrote."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def fault(uri: str) -> str | None:
    """Why the SQLite store at `uri` cannot be opened as it is, in words; None where it can, or is no SQLite file."""
    file = sqlite_file(uri)
    current = revision(file) if file else None
    if current is None:
        return None
    known, head = _revisions()
    if current == head:
        return None
    return words("old_schema" if current in known else "new_schema", found=current, head=head)


def look(uri: str) -> None:
    """Raise TrackingError where opening the store would upgrade it."""
    if (old := fault(uri)) is not None:
        raise TrackingError(old)


def upgrade(uri: str, say: Callable[[str], None]) -> None:
    """Upgrade a SQLite store of an older schema, with a copy beside it; TrackingError for one of a newer MLflow."""
    file = sqlite_file(uri)
    current = revision(file) if file else None
    if file is None or current is None:
        return
    known, head = _revisions()
    if current not in known - {head}:
        return look(uri)
    copy = file.with_name(f"{file.name}.{current}")
    say(
        f"{file} is of an older MLflow: it is upgraded from schema {current} to {head}, and a copy kept as {copy}"
    )
    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(copy)) as kept:
        old.backup(kept)
    from mlflow.db import upgrade as migrate

    migrate.main([uri], standalone_mode=False)

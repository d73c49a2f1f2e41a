"""Where a lake's files lie: the few operations that it asks of a place, and the local folder that has them.

A file stands under a key such as gold/gold_master/as_of=2024-12-31/_current.json and has a version, another one each
time that it is replaced. What must not be lost is replaced by `swap` alone: it names the version that it replaces.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from spanishgas.errors import LakeError, UsageError

Place = Path | str
"""A local folder, or an s3:// prefix."""
SCHEME = "s3://"


def local_path(place: Place) -> Path:
    """The path that a plain path or a file:// URI names; `UsageError` for a URI of another scheme.

    A URI is taken literally where that exists, as people write it, and percent-decoded where not, as tools write it.
    """
    scheme, mark, rest = str(place).partition("://")
    if not mark:
        return Path(place)
    if scheme != "file":
        raise UsageError(f"'{place}' is neither a folder nor s3://bucket/prefix: give one of the two")
    literal = Path(rest.removeprefix("localhost"))
    return literal if literal.exists() else Path(unquote(str(literal)))


def location(place: Place) -> str:
    """A place as people and every tool read it: an absolute path, or an s3:// URI without a slash at its end."""
    text = str(place)
    return text.rstrip("/") if text.startswith(SCHEME) else str(local_path(place).resolve())


class Replaced(LakeError):
    """A file is no longer the one that was to be replaced."""

    @classmethod
    def meanwhile(cls, uri: str) -> Replaced:
        """Somebody else wrote `uri` since it was read."""
        return cls(f"{uri} was replaced by another run meanwhile, which stands: run again to build on it")


@dataclass(frozen=True)
class Listed:
    """A file as a listing shows it."""

    name: str
    """Below the folder that was listed."""
    key: str
    version: str
    size: int
    modified: float
    """Seconds since the epoch."""


class Text(NamedTuple):
    """A small file's text and version."""

    text: str
    version: str


class Store(Protocol):
    """A place for files."""

    grace: float
    """Seconds after which a part that no manifest names was left by a run that was killed."""

    @property
    def root(self) -> Place:
        """The folder or s3:// prefix itself."""

    @property
    def downloads(self) -> Path:
        """Local folder for copies of what lies elsewhere."""

    def uri(self, key: str) -> str:
        """The `location` of `key`."""

    def listing(self, folder: str = "") -> list[Listed]:
        """Every file below `folder` that is not hidden, in the order of their keys; none where it is missing."""

    def read(self, key: str) -> Text | None:
        """A small file, or None where it is missing."""

    def swap(self, key: str, text: str, expected: str | None) -> str:
        """Put `text` in place of version `expected` (None: of nothing); gives its version.

        Raises `Replaced` and changes nothing if another version with another text stands there.
        """

    def put(self, source: Path, key: str) -> None:
        """Put a file under `key`, whatever stands there; no reader sees half of it. `source` may be gone afterwards."""

    def remove(self, key: str) -> None:
        """Remove a file, if it is there."""

    def fetch(self, folder: str, objects: Sequence[Listed]) -> Path:
        """A local folder that holds these files, all of them or none, under their names."""

    def staging(self, folder: str) -> AbstractContextManager[Path]:
        """A local folder for files that are to be put into `folder`; gone afterwards."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Take turns with others that ask for the same name, where the place can hold a lock."""


class LocalStore:
    """A folder on a file system with locks, which the kernel frees when their holder dies."""

    grace = 0.0

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def downloads(self) -> Path:
        """In the lake: customer rows stay in one place."""
        return self.root / "downloads"

    def uri(self, key: str) -> str:
        """The absolute path of `key`."""
        return location(self.root / key)

    def listing(self, folder: str = "") -> list[Listed]:
        """What lies there at the time; a file that goes meanwhile is left out."""
        home, found = self.root / folder, []
        for at, inner, files in os.walk(home, followlinks=True):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for file in (Path(at, name) for name in files if not name.startswith(".")):
                with suppress(FileNotFoundError):
                    stat = file.stat()
                    names = file.relative_to(home).as_posix(), file.relative_to(self.root).as_posix()
                    found.append(Listed(*names, _version(stat), stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda listed: listed.key)

    def read(self, key: str) -> Text | None:
        """Text and version of one and the same file, also when it is being replaced."""
        try:
            with (self.root / key).open(encoding="utf-8", errors="replace") as file:
                return Text(file.read(), _version(os.fstat(file.fileno())))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def swap(self, key: str, text: str, expected: str | None) -> str:
        """One rename; whoever swaps holds the lock of the folder, so nothing comes between look and rename."""
        now, file = self.read(key), self.root / key
        if now and now.version != expected:
            if now.text == text:
                return now.version
            raise Replaced.meanwhile(self.uri(key))
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
        fresh.write_text(text)
        os.replace(fresh, file)
        return _version(file.stat())

    def put(self, source: Path, key: str) -> None:
        """One rename: `source` is on the same file system if it comes from `staging`."""
        file = self.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, file)

    def remove(self, key: str) -> None:
        """The file, and its folder if that is empty then."""
        (self.root / key).unlink(missing_ok=True)
        with suppress(OSError):
            (self.root / key).parent.rmdir()

    def fetch(self, folder: str, objects: Sequence[Listed]) -> Path:
        """The folder itself."""
        return self.root / folder

    @contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        """A hidden folder in `folder`, after removing what killed runs left hidden there."""
        for left in list((self.root / folder).rglob(f".*-{'?' * 32}")):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
        staging = self.root / folder / f".staging-{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold an advisory lock on a file that is never removed."""
        lock = self.root / ".locks" / name.replace("/", "-")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"

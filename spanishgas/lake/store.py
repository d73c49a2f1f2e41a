"""Where a lake's files lie: the few operations that it asks of a place, and the local folder that has them.

A file stands under a key such as gold/gold_master/as_of=2024-12-31/_current.json and has a version, another one each
time that it is replaced. What must not be lost is replaced by `swap` alone: it names the version that it replaces.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
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
class ListedFile:
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


class LocalStore:
    """A folder on a file system with locks, which the kernel frees when their holder dies.

    What each operation promises here holds for `S3Store` too.
    """

    grace = 0.0
    """Seconds after which a part that no manifest names was left by a run that was killed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def downloads(self) -> Path:
        """Folder for copies of what lies elsewhere, in the lake: customer rows stay in one place."""
        return self.root / "downloads"

    def uri(self, key: str) -> str:
        """The `location` of `key`."""
        return location(self.root / key)

    def listing(self, folder: str = "") -> list[ListedFile]:
        """Every file below `folder` that is not hidden, in the order of their keys; none where it is missing.

        A file that goes meanwhile is left out.
        """
        home, entries = self.root / folder, []
        for at, inner, files in os.walk(home, onerror=_unless_missing, followlinks=True):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for file in (Path(at, name) for name in files if not name.startswith(".")):
                with suppress(FileNotFoundError):
                    stat = file.stat()
                    names = file.relative_to(home).as_posix(), file.relative_to(self.root).as_posix()
                    entries.append(ListedFile(*names, _version(stat), stat.st_size, stat.st_mtime))
        return sorted(entries, key=lambda listed: listed.key)

    def read(self, key: str) -> Text | None:
        """A small file, of one version also when it is being replaced; None where it is missing."""
        with suppress(FileNotFoundError), (self.root / key).open(encoding="utf-8", errors="replace") as file:
            return Text(file.read(), _version(os.fstat(file.fileno())))
        return None

    def version(self, key: str) -> str | None:
        """A file's version, also if it may not be read; None where it is missing."""
        with suppress(FileNotFoundError):
            return _version((self.root / key).stat())
        return None

    def swap(self, key: str, text: str, expected: str | None) -> str:
        """Put `text` in place of version `expected` (None: of nothing); gives its version.

        Raises `Replaced` and changes nothing if another version with another text stands there. Whoever swaps holds the
        lock of the folder, so nothing comes between look and rename.
        """
        now, file = self.version(key), self.root / key
        if now not in (None, expected):
            if (lies := self.read(key)) and lies.text == text:
                return lies.version
            raise Replaced.meanwhile(self.uri(key))
        with staged(file.parent) as staging:
            (staging / file.name).write_text(text)
            put_in_place(staging / file.name, file)
        return _version(file.stat())

    def put(self, source: Path, key: str) -> None:
        """Put a file from `staging` under `key`, whatever stands there, by a rename: no reader sees half of it."""
        put_in_place(source, self.root / key)

    def remove(self, key: str) -> None:
        """Remove a file, if it is there, and its folder if that is empty then."""
        file = self.root / key
        with suppress(FileNotFoundError):
            file.unlink()
            sync(file.parent)
        with suppress(OSError):
            file.parent.rmdir()

    def fetch(self, folder: str, objects: Sequence[ListedFile]) -> Path:
        """A local folder that holds these files, all of them or none, under their names: the folder itself."""
        return self.root / folder

    @contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        """A hidden folder for files that are to be put into `folder`; what killed runs left hidden there is gone."""
        sweep(self.root / folder)
        with staged(self.root / folder) as staging:
            yield staging

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Take turns with others that ask for the same name, by a lock on a file that is never removed."""
        lock = self.root / ".locks" / name.replace("/", "-")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, locked while its maker lives: `sweep` removes what a killed one leaves."""
    make_folder(folder)
    fresh = folder / f".{uuid.uuid4().hex}"
    fresh.mkdir()
    with _opened(fresh) as handle:
        # Where a file system has no locks for folders, nothing is swept.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        staging = fresh.rename(folder / f".staging-{fresh.name[1:]}")
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def sweep(folder: Path, *, dry: bool = False) -> list[Path]:
    """Temporary files and folders below `folder` whose writers are gone; removed unless `dry`."""
    left: list[Path] = []
    for at, inner, files in os.walk(folder):
        temporary = sorted(name for name in (*inner, *files) if _TEMPORARY.fullmatch(name))
        inner[:] = [name for name in inner if name not in temporary]
        left += filter(_abandoned, (Path(at, name) for name in temporary))
    for path in left if not dry else []:
        with suppress(FileNotFoundError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return left


_TEMPORARY = re.compile(
    r"\.(staging-.+|.+-[0-9a-f]{32}|(\d{4}-\d\d-\d\d|churn_probability\.parquet)\.[0-9a-f]{8})"
)
"""Also what earlier versions wrote: parts of names before a pointer or a drawn extract was whole."""


def _abandoned(path: Path) -> bool:
    """Whether no living process holds its lock; a name is locked before it can be seen, and used once."""
    try:
        with _opened(path) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def put_in_place(fresh: Path, file: Path) -> None:
    """Rename a finished file to where it is seen: neither a kill nor a power cut leaves half of it or no name."""
    make_folder(file.parent)
    sync(fresh)
    os.replace(fresh, file)
    sync(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, that a power cut does not undo."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(place: Path) -> None:
    """Wait until the disk holds a file's bytes, or a folder's names."""
    with _opened(place) as handle:
        os.fsync(handle)


@contextmanager
def _opened(place: Path) -> Iterator[int]:
    handle = os.open(place, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _unless_missing(fault: OSError) -> None:
    if not isinstance(fault, FileNotFoundError):
        raise LakeError(f"{fault.filename} cannot be read ({fault.strerror}): mend its rights or the disk")


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}"

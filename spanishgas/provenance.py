"""Which code is running, and in which process: commit, dirtiness, a digest of the sources, and host and process id."""

from __future__ import annotations

import ast
import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


SHIPPED = PACKAGE.parent / "COMMIT"
"""What code that was packed for a job is: a commit, and `dirty` where the work tree differed from it."""


@cache
def commit() -> str:
    """Commit of the project's work tree, or of the archive that this code was shipped in; else "unknown"."""
    return _shipped()[0] if SHIPPED.exists() else _git("rev-parse", "HEAD") or "unknown"


@cache
def dirty() -> bool:
    """Whether the work tree differs from its commit; True where nobody can tell."""
    if SHIPPED.exists():
        return _shipped()[1:] == ["dirty"]
    return commit() == "unknown" or bool(_git("status", "--porcelain", "--untracked-files=no"))


@cache
def source_digest(*modules: str) -> str:
    """Digest of all that runs where `modules` do: they, what they import of the package, and the data beside these.

    Without modules, of the whole package. A module that none of them imports does not count.
    """
    files = _sources(modules) if modules else _files(PACKAGE)
    sources = hashlib.sha256()
    for file in sorted(files):
        sources.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return sources.hexdigest()[:16]


def _sources(modules: tuple[str, ...]) -> set[Path]:
    reached, ahead = set[Path](), [file for name in modules for file in _files_of(name)]
    while ahead:
        if (file := ahead.pop()) not in reached:
            reached.add(file)
            ahead += [other for name in _imports(file) for other in _files_of(name)]
    return reached | {data for folder in {f.parent for f in reached} for data in _data(folder)}


def _files_of(module: str) -> Iterator[Path]:
    """The module's own file, if it is one of the package, and those of the packages above it but the outermost."""
    first, *below = module.split(".")
    place = PACKAGE
    for part in below if first == PACKAGE.name else ():
        place = place / part
        if (init := place / "__init__.py").exists():
            yield init
        elif (file := place.with_suffix(".py")).exists():
            yield file


@cache
def _imports(file: Path) -> frozenset[str]:
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    if file.name == "__init__.py" and "importlib.import_module" in names:
        # what a package finds by name is nowhere imported by name
        package = ".".join(file.parent.relative_to(PACKAGE.parent).parts)
        names |= {f"{package}.{module.stem}" for module in file.parent.glob("*.py")}
    return frozenset(names)


def _data(folder: Path) -> Iterator[Path]:
    """Templates, records and other data of a package: its files but Python's, in folders that are no packages too."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            yield from _files(path)
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            yield path


def _files(folder: Path) -> set[Path]:
    return {f for f in folder.rglob("*") if f.is_file() and f.suffix != ".pyc"}


def identity(digest: str | None = None) -> dict[str, str]:
    """Commit, dirtiness and source digest (the whole package's if none is named), as manifests and runs hold them."""
    return {"commit": commit(), "dirty": str(dirty()).lower(), "digest": digest or source_digest()}


def process() -> str:
    """This process as `host:pid`, which runs and trials carry so that others can see whether it still lives."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(process: str) -> bool:
    """Whether `process` ran on this machine and has ended; False for other machines, of which nobody here can tell."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as fault:
        return isinstance(fault, ProcessLookupError)
    return False


def _shipped() -> list[str]:
    return SHIPPED.read_text("utf-8").split()


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()

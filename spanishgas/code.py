"""Which code is running, and in which process: commit, dirtiness, a digest of the sources, and host and process id."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


@cache
def commit() -> str:
    """Commit of the project's work tree, or "unknown" outside git."""
    return _git("rev-parse", "HEAD") or "unknown"


@cache
def dirty() -> bool:
    """Whether the work tree differs from its commit; True outside git, where nobody can tell."""
    return commit() == "unknown" or bool(_git("status", "--porcelain", "--untracked-files=no"))


@cache
def digest(*parts: str) -> str:
    """Digest of the sources under the named parts of the package ("etl", "lake.py", ...), all of it if none.

    Stages put it into their fingerprint: a change of code is a reason to run again, a commit elsewhere is not.
    """
    sources = hashlib.sha256()
    for part in parts or (".",):
        root = PACKAGE / part
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            sources.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return sources.hexdigest()[:16]


def identity(*parts: str) -> dict[str, str]:
    """Commit, dirtiness and source digest, as manifests and run tags hold them."""
    return {"commit": commit(), "dirty": str(dirty()).lower(), "digest": digest(*parts)}


def fingerprint(stage: str, *parts: object) -> str:
    """Digest of a stage's name, inputs, parameters and code: equal fingerprints give equal results."""
    text = json.dumps([stage, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()

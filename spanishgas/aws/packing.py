"""The project's code as an archive: what a job runs, whatever its image was built from.

The archive holds what git has of the commit, so no data, run or secret of the work tree, and the file COMMIT, by which
the code knows itself where there is no git.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from spanishgas.errors import UsageError

SHIPPED = ("spanishgas", "experiments", "pyproject.toml", "uv.lock")
ENVIRONMENT = ("uv.lock", "Dockerfile")
"""What an image is built from, besides the code that comes with the job."""


@dataclass(frozen=True)
class PackedCode:
    """The code of a commit, whose archive's times are the clock's: equal code of equal commits has an equal digest."""

    commit: str
    digest: str
    body: bytes


def pack(tree: Path, *, clean: bool) -> PackedCode:
    """The code of the work tree's commit, with changes to files that git has.

    UsageError where `tree` is not a git work tree, and if `clean`, where it has such changes.
    """
    commit = _git(tree, "rev-parse", "HEAD").decode().strip()
    changed = _git(tree, "status", "--porcelain", "--untracked-files=no").decode().splitlines()
    if changed and clean:
        raise UsageError(
            f"the work tree differs from its commit ({len(changed)} files, the first '{changed[0].strip()}'), and "
            "policy.yaml has clean_work_tree: true: commit the changes, or stash them"
        )
    # A commit of the changes that no branch names; nothing in the work tree moves.
    packed = _git(tree, "stash", "create").decode().strip() if changed else commit
    words = f"{commit} dirty" if changed else commit
    content = _git(tree, "rev-parse", f"{packed}^{{tree}}") + words.encode()
    body = _git(tree, "archive", "--format=tar.gz", f"--add-virtual-file=COMMIT:{words}", packed, *SHIPPED)
    return PackedCode(words, hashlib.sha256(content).hexdigest(), body)


def other_environment(tree: Path, commit: str) -> bool:
    """Whether an image of `commit` holds other packages than the work tree's lock; UsageError for an unknown commit."""
    return bool(_git(tree, "diff", "--name-only", commit, "--", *ENVIRONMENT))


def _git(tree: Path, *words: str) -> bytes:
    try:
        return subprocess.run(["git", *words], cwd=tree, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise UsageError(
            "git is not installed: what a job runs is packed from the project's commit"
        ) from None
    except subprocess.CalledProcessError as fault:
        said = fault.stderr.decode(errors="replace").strip()
        raise UsageError(
            f"git {words[0]} failed in {tree}: {said}. A job runs a commit of a git work tree"
        ) from fault

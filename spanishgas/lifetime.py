"""What must not outlive the process that made it, however that process ends: its children, its temporary folders."""

from __future__ import annotations

import fcntl
import multiprocessing.process
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "spanishgas-temporary-"
LEASH = "SPANISHGAS_LEASH"
"""Set in the environment of a child whose standard input is a pipe that its parent holds open."""


def end_with_parent() -> None:
    """End this process at once, from a thread, when the one that started it, and says so by `LEASH`, has ended."""
    parent, leashed = multiprocessing.parent_process(), os.environ.pop(LEASH, None)
    if parent or leashed:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess | None) -> None:
    # The kernel closes the pipe of a parent that was killed.
    while not parent and os.read(0, 1024):
        pass
    if parent:
        parent.join()
    os._exit(1)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder until the block ends; first those whose process was killed are removed.

    Each has a lock, which the kernel frees when its process dies. Without one, as on a file system that has no locks, a
    folder is left alone.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with suppress(OSError), left.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, Path(name, "unlocked").open("w") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Others see the lock when it is taken, never before.
            Path(lock.name).rename(Path(name, "lock"))
        inner = Path(name, "in")
        inner.mkdir()
        yield inner

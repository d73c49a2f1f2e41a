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
    """End this process at once, from a thread, when the one that started it has ended, killed or not.

    A process that nobody waits for, such as a server started by hand, is left alone.
    """
    parent, leashed = multiprocessing.parent_process(), os.environ.pop(LEASH, None)
    if parent or leashed:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess | None) -> None:
    if parent:
        parent.join()
    else:
        # The kernel closes the pipe of a parent that was killed.
        while os.read(0, 1024):
            pass
    os._exit(1)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder until the block ends; first those whose process was killed are removed.

    Each is locked by its process, and the kernel frees the locks of the dead. Where folders cannot be locked, as on
    some network file systems, nothing is removed but by its own process.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(left)
    folder, lock = _made()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        # Before it is locked, another process may take the folder for a dead one's: then make another.
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_if_left(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)

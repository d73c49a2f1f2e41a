"""A process that decodes bodies, with a limit of memory that the kernel keeps, and a limit of time.

Arrow takes whatever memory a page asks for, and a file may claim less of itself. What breaks a decoder breaks this
process, which is then started anew; the one with the model lives on.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from spanishgas.lifetime import end_with_parent
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Inputs, Media, Refused

if TYPE_CHECKING:
    import pandas as pd

TIMES = 4
"""Times a decoded table's memory: its columns before and after they get types, and twice on their way out."""


class Decoder:
    """Reads bodies as `payload.read` does, tables of at most `decoded` bytes in at most so many seconds."""

    def __init__(self, decoded: int = payload.DECODED, seconds: int = 30) -> None:
        self._decoded, self._seconds = decoded, seconds
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, _limit, (TIMES * self._decoded,))
        self._pool.submit(os.getpid).result()

    def read(self, body: bytes, media: Media, wanted: Inputs, max_rows: int) -> pd.DataFrame:
        """The wanted columns of a body; `Refused` also where it took too long or ended the process."""
        asked = (self._seconds, body, media, wanted, max_rows, self._decoded)
        try:
            frame: pd.DataFrame = self._pool.submit(_decode, *asked).result().to_pandas()
            return frame
        except MemoryError:
            raise payload.too_large(self._decoded) from None
        except BrokenProcessPool:
            self._start()
            broken = f"the body ended the process that decodes, or took it {self._seconds} s"
            raise Refused(400, broken, body=media.name.lower()) from None


def _limit(memory: int) -> None:
    end_with_parent()
    # Ctrl-C in a terminal reaches it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unlike Arrow's own, it reserves nothing and gives back what is freed.
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + memory,) * 2)


def _decode(seconds: int, body: bytes, media: Media, wanted: Inputs, max_rows: int, decoded: int) -> pa.Table:
    # The alarm ends the process, in whatever library it is.
    signal.alarm(seconds)
    try:
        return payload.decode(body, media, wanted, max_rows, decoded)
    finally:
        signal.alarm(0)

"""A process that decodes bodies, with a limit of memory that the kernel keeps and a limit of time.

Arrow takes whatever memory a page asks for when it is decompressed, and a file may claim less of itself. What is sent
to break a decoder breaks this process, which is then started anew; the one with the model lives on.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from spanishgas.lifetime import end_with_parent
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Inputs, Media, Refused

if TYPE_CHECKING:
    import pandas as pd

SECONDS = 30.0
"""For one body; the largest ones that are allowed take about one."""
TIMES = 3
"""Of a decoded table's memory: its columns before and after they get their types, and what is being read."""
BATCH_ROWS = 10_000


class Decoder:
    """Reads bodies as `payload.read` does, one at a time, a table of at most `decoded` bytes in at most `seconds`."""

    def __init__(self, decoded: int = payload.DECODED, seconds: float = SECONDS) -> None:
        self._decoded, self._seconds = decoded, seconds
        self._start()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, self._decoded), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe.recv()

    def read(self, body: bytes, media: Media, wanted: Inputs, max_rows: int) -> pd.DataFrame:
        """The wanted columns of a body; `Refused` also where it took too long or ended the process."""
        try:
            self._pipe.send((body, media, wanted, max_rows))
            if not self._pipe.poll(self._seconds):
                raise TimeoutError
            if fault := self._pipe.recv():
                raise Refused(*fault[:2], **fault[2])
            schema = pa.schema(dict(wanted))
            parts = [pa.ipc.read_record_batch(part, schema) for part in iter(self._pipe.recv_bytes, b"")]
            frame: pd.DataFrame = pa.Table.from_batches(parts, schema).to_pandas()
            return frame
        except (EOFError, OSError) as fault:
            self.close()
            self._start()
            if isinstance(fault, TimeoutError):
                late = f"the body takes more than {self._seconds:g} s to decode: send it in parts"
                raise Refused(413, late) from None
            raise Refused(
                400, "the body ended the process that decodes it", body=media.name.lower()
            ) from None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, decoded: int) -> None:
    end_with_parent()
    # Ctrl-C in a terminal reaches it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Unlike Arrow's own, it reserves nothing and gives back what is freed.
    pa.set_memory_pool(pa.system_memory_pool())
    pipe.send(True)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + TIMES * decoded
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        _answer(pipe, decoded)


def _answer(pipe: Connection, decoded: int) -> None:
    try:
        body, media, wanted, max_rows = pipe.recv()
        table = payload.decode(body, media, wanted, max_rows, decoded)
    except Refused as fault:
        pipe.send((fault.status, str(fault), fault.where))
        return
    except EOFError:
        # The one that asks is gone.
        sys.exit()
    pipe.send(None)
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        pipe.send_bytes(batch.serialize())
    pipe.send_bytes(b"")

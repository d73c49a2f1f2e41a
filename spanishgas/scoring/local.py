"""The local backend: the serving process on this machine, started as the image starts it and asked as SageMaker asks.

One request per part with the documented headers; an answer other than 200 is tried again as often as the job's
settings say if the server failed, and not at all if it refused.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from spanishgas.errors import SpanishGasError
from spanishgas.lifetime import LEASH
from spanishgas.scoring.parts import Part, Progress, Task, TransformError
from spanishgas.scoring.settings import LISTENING, Transform

COMMAND = (sys.executable, "-m", "spanishgas.scoring", "serve")
START_SECONDS = 120.0
PING_SECONDS = 2.0
"""How long SageMaker waits for the answer to a ping."""


class ServingError(SpanishGasError):
    """The serving process did not start, ended, or did not answer with scores."""


@dataclass(frozen=True)
class Endpoint:
    """Where a serving process listens."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    port: int = 0

    def get(self, path: str, timeout: float = PING_SECONDS) -> urllib3.BaseHTTPResponse:
        """The answer to a GET; HTTPError where there is none."""
        return urllib3.request("GET", f"http://127.0.0.1:{self.port}{path}", timeout=timeout, retries=False)

    def post(
        self, body: bytes, sent: str, wanted: str, timeout: float, retries: Retry | bool = False
    ) -> urllib3.BaseHTTPResponse:
        """The answer to one part; HTTPError where there is none."""
        url, headers = f"http://127.0.0.1:{self.port}/invocations", {"Content-Type": sent, "Accept": wanted}
        return urllib3.request("POST", url, body=body, headers=headers, timeout=timeout, retries=retries)

    def said(self) -> str:
        """The process's log so far."""
        # A position of its own: the process writes at the file's.
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def tail(self) -> str:
        """The last lines of the process's log."""
        return "\n".join(self.said().splitlines()[-15:])


@contextmanager
def serving_process(
    model_dir: Path,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Endpoint]:
    """A serving process around the model in `model_dir`, ready to be asked; it ends with the block or this process.

    Its log is `log`, or a file without a name, which nobody has to remove. `ServingError` with the log's end where the
    process does not come up.
    """
    variables = {
        "SPANISHGAS_MODEL_DIR": str(model_dir),
        "SPANISHGAS_SERVE_HOST": "127.0.0.1",
        "SPANISHGAS_SERVE_PORT": "0",
        LEASH: "stdin",
        **(environment or {}),
    }
    with (
        log.open("w+b") if log else tempfile.TemporaryFile() as out,
        subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=out, stderr=out, env={**os.environ, **variables}
        ) as process,
    ):
        try:
            yield _ready(Endpoint(process, out))
        finally:
            _end(process)


def _ready(endpoint: Endpoint) -> Endpoint:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and endpoint.process.poll() is None:
        if port := re.search(rf"^{LISTENING}(\d+)\n", endpoint.said(), re.MULTILINE):
            listening = replace(endpoint, port=int(port[1]))
            # Not yet: the port is taken before the first request is answered.
            with suppress(HTTPError):
                if listening.get("/ping").status == 200:
                    return listening
        time.sleep(0.05)
    ended = endpoint.process.poll()
    how = "did not answer in time" if ended is None else f"ended with exit code {ended}"
    raise ServingError(f"the serving process {how}:\n{endpoint.tail()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class LocalTransform:
    """Scores by one serving process that lives as long as the answers are read."""

    def __init__(self, settings: Transform) -> None:
        self.settings = settings

    def answers(self, task: Task, progress: Progress) -> Iterator[tuple[Part, bytes]]:
        """Each part with its answer, which is read before the next part is cut."""
        done, rows = 0, task.shards.table.manifest.rows
        environment = task.environment(self.settings, workers=1)
        with serving_process(task.version.folder, environment=environment) as endpoint:
            for part in task.shards:
                yield part, self._scored(endpoint, part)
                done += len(part.customers)
                progress("score", done, max(rows, done))

    def clean_up(self, task: Task) -> None:
        """Nothing is left behind."""

    def _scored(self, endpoint: Endpoint, part: Part) -> bytes:
        again = Retry(
            self.settings.retries,
            status_forcelist=range(500, 600),
            allowed_methods=None,
            raise_on_status=False,
        )
        try:
            answer = endpoint.post(part.body, part.media, part.media, self.settings.timeout_seconds, again)
            if answer.status == 200:
                return answer.data
            fault = f"status {answer.status}, {answer.data[:500].decode(errors='replace')}"
        except HTTPError as unanswered:
            fault = f"no answer ({unanswered})"
        if endpoint.process.poll() is not None:
            raise TransformError(f"the serving process ended at {part.name}:\n{endpoint.tail()}")
        raise TransformError(f"{part.name} was not scored, so nothing was published: {fault}")

"""The local backend: the serving process on this machine, started as the image starts it and asked as SageMaker asks.

One request per part with the documented headers; an answer other than 200 is tried again as often as the job's
settings say if the server failed, and not at all if it refused.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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
class Answer:
    """What came back: status and body."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Endpoint:
    """Where a serving process listens."""

    port: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def get(self, path: str, timeout: float = PING_SECONDS) -> Answer:
        """The answer to a GET; OSError or HTTPException where there is none."""
        return self._ask("GET", path, None, {}, timeout)

    def post(self, body: bytes, sent: str, wanted: str, timeout: float) -> Answer:
        """The answer to one part; OSError or HTTPException where there is none."""
        headers = {"Content-Type": sent, "Accept": wanted}
        return self._ask("POST", "/invocations", body, headers, timeout)

    def _ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()

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
    command: Sequence[str] = COMMAND,
) -> Iterator[Endpoint]:
    """A serving process around the model in `model_dir`, ready to be asked; it ends with the block or this process.

    Its log is `log`, or a file without a name, which nobody has to remove. `ServingError` with the log's end where the
    process does not come up.
    """
    given = {
        "SPANISHGAS_MODEL_DIR": str(model_dir),
        "SPANISHGAS_SERVE_HOST": "127.0.0.1",
        "SPANISHGAS_SERVE_PORT": "0",
        LEASH: "stdin",
        **(environment or {}),
    }
    with (
        log.open("w+b") if log else tempfile.TemporaryFile() as out,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=out, env={**os.environ, **given}
        ) as process,
    ):
        try:
            yield _ready(process, out)
        finally:
            _end(process)


def _ready(process: subprocess.Popen[bytes], log: IO[bytes]) -> Endpoint:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port := _port(Endpoint(0, process, log).said()):
            endpoint = Endpoint(port, process, log)
            try:
                if endpoint.get("/ping").status == 200:
                    return endpoint
            except (OSError, http.client.HTTPException):
                pass  # not yet: the port is taken before the first request is answered
        time.sleep(0.05)
    ended = process.poll()
    how = "did not answer in time" if ended is None else f"ended with exit code {ended}"
    raise ServingError(f"the serving process {how}:\n{Endpoint(0, process, log).tail()}")


def _port(log: str) -> int | None:
    ports = [
        line for line in log.splitlines(keepends=True) if line.startswith(LISTENING) and line.endswith("\n")
    ]
    return int(ports[0].removeprefix(LISTENING)) if ports else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class LocalTransform:
    """Scores by one serving process that lives as long as the answers are read."""

    def __init__(self, given: Transform) -> None:
        self.given = given

    def answers(self, task: Task, progress: Progress) -> Iterator[bytes]:
        """The answer to each part, each read before the next part is cut."""
        done = 0
        environment = task.environment(self.given, workers=1)
        with serving_process(task.model_dir, environment=environment) as endpoint:
            for part in task.shards:
                yield self._scored(endpoint, part)
                done += part.rows
                progress("score", done, max(task.rows, done))

    def clean_up(self, task: Task) -> None:
        """Nothing is left behind."""

    def _scored(self, endpoint: Endpoint, part: Part) -> bytes:
        fault = ""
        for _ in range(1 + self.given.retries):
            answer = self._asked(endpoint, part)
            if isinstance(answer, Answer) and answer.status == 200:
                return answer.body
            fault = answer if isinstance(answer, str) else _words(answer)
            if endpoint.process.poll() is not None:
                raise TransformError(f"the serving process ended at {part.name}:\n{endpoint.tail()}")
            if isinstance(answer, Answer) and answer.status < 500:
                break
        raise TransformError(f"{part.name} was not scored, so nothing was published: {fault}")

    def _asked(self, endpoint: Endpoint, part: Part) -> Answer | str:
        media = self.given.media
        try:
            return endpoint.post(part.body, media, media, self.given.timeout_seconds)
        except (OSError, http.client.HTTPException) as fault:
            return f"no answer ({type(fault).__name__}: {fault})"


def _words(answer: Answer) -> str:
    return f"status {answer.status}, {answer.body[:500].decode(errors='replace')}"

"""The serving process on this machine: started as the image starts it, asked over HTTP, ended when done."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spanishgas.errors import SpanishGasError

COMMAND = (sys.executable, "-m", "spanishgas.scoring", "serve")
LISTENING = "listening on port "
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
    log: Path

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

    def tail(self) -> str:
        """The last lines of the process's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


@contextmanager
def serving_process(
    model_dir: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[Endpoint]:
    """A serving process around the model in `model_dir`, ready to be asked; it ends with the block.

    `ServingError` with the end of its log where it does not come up.
    """
    given = {
        "SPANISHGAS_MODEL_DIR": str(model_dir),
        "SPANISHGAS_SERVE_HOST": "127.0.0.1",
        "SPANISHGAS_SERVE_PORT": "0",
        **(environment or {}),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **given}
        )
    try:
        yield _ready(process, log)
    finally:
        _end(process)


def _ready(process: subprocess.Popen[bytes], log: Path) -> Endpoint:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port := _port(log):
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


def _port(log: Path) -> int | None:
    lines = log.read_text(errors="replace").splitlines(keepends=True)
    ports = [line for line in lines if line.startswith(LISTENING) and line.endswith("\n")]
    return int(ports[0].removeprefix(LISTENING)) if ports else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The serving process, as SageMaker calls it: `serve` answers GET /ping, GET /execution-parameters, POST /invocations.

    part of gold (Parquet, CSV, JSON) -> decoder -> the model of /opt/ml/model -> customer_id, probability, flag, tier

The model is loaded once per worker, before the port answers. A worker scores one part at a time, in a thread, so that
/ping is answered meanwhile and memory is bounded by the size of a part. Bodies arrive beside that, each by a deadline.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pandas as pd
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.supervisors import Multiprocess

from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.lifetime import end_with_parent
from spanishgas.scoring import payload
from spanishgas.scoring.decoder import Decoder
from spanishgas.scoring.payload import Media, Refused
from spanishgas.scoring.settings import LISTENING, MEGABYTE, Serving, read_settings
from spanishgas.training import artefact
from spanishgas.training.model import ChurnModel

log = logging.getLogger(__name__)
BYTES_PER_SECOND = 64 * 1024
"""How fast a body must arrive at least, once its first seconds are over."""
BODIES = 4
"""How many of the largest bodies may be in memory at a time."""


def create_app(model: ChurnModel | None = None, settings: Serving | None = None) -> Starlette:
    """The ASGI app around a model; without one, around that of the model folder."""
    settings = settings or read_settings(Serving)
    folder = settings.model_dir
    loaded = model or artefact.load(folder, str(folder), settings.model_sha256)
    turn, intake, decoder = asyncio.Semaphore(1), _Intake(settings), Decoder(settings.decoded_mb * MEGABYTE)

    async def invocations(request: Request) -> Response:
        began = time.perf_counter()
        sent = payload.media_type(
            request.headers.get("content-type"), request.headers.get("content-encoding")
        )
        wanted = payload.accepted(request.headers.get("accept"), sent)
        async with intake.whole(request) as body, turn:
            inputs = (body, sent, payload.inputs(loaded), settings.max_rows)
            rows = await run_in_threadpool(decoder.read, *inputs)
            answer = await run_in_threadpool(scored, loaded, rows, wanted)
        log.info("scored %d rows in %.2f s, %s to %s", len(rows), time.perf_counter() - began, sent, wanted)
        return Response(answer, media_type=wanted, headers={"x-rows": str(len(rows))})

    async def execution_parameters(_: Request) -> Response:
        return JSONResponse(
            {
                "MaxConcurrentTransforms": settings.workers,
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": settings.payload_mb,
            }
        )

    routes = [
        Route("/ping", _ping),
        Route("/execution-parameters", execution_parameters),
        Route("/invocations", invocations, methods=["POST"]),
    ]
    gone = {ClientDisconnect: lambda *_: Response(status_code=400)}
    return Starlette(routes=routes, exception_handlers={Refused: _refused, **gone})


def scored(model: ChurnModel, rows: pd.DataFrame, wanted: Media) -> bytes:
    """The answer to a table with the model's inputs; `Refused` where the model fails."""
    try:
        return payload.write(payload.answer(rows[payload.ID], model.predict(rows)), wanted)
    except Exception as fault:
        # Its words may quote a customer's values; where it was raised does not.
        trace = "".join(traceback.format_tb(fault.__traceback__))
        log.error("%s in the model:\n%s", type(fault).__name__, trace)
        raise Refused(500, "the model failed: see where in the log") from None


class _Intake:
    """The bodies that are in memory, arriving or waiting for their turn."""

    def __init__(self, settings: Serving) -> None:
        self._most, self._seconds, self._taken = settings.payload_mb * MEGABYTE, settings.body_seconds, 0

    @asynccontextmanager
    async def whole(self, request: Request) -> AsyncIterator[bytes]:
        """A body, until it is done with; `Refused` for one that is too large, too slow or one too many."""
        body, began = bytearray(), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                async for chunk in request.stream():
                    body += chunk
                    self._taken += len(chunk)
                    if len(body) > self._most:
                        raise Refused(
                            413, f"the body is larger than {self._most // MEGABYTE} MB: send it in parts"
                        )
                    if self._taken > BODIES * self._most:
                        raise Refused(503, f"more than {BODIES} large bodies at a time: send this one again")
                    deadline.reschedule(began + self._seconds + len(body) / BYTES_PER_SECOND)
            yield bytes(body)
        except TimeoutError:
            raise Refused(
                408, f"only {len(body):,} bytes of the body arrived in time: send it faster"
            ) from None
        finally:
            self._taken -= len(body)


async def _ping(_: Request) -> Response:
    return Response()


def _refused(_: Request, fault: Exception) -> Response:
    if not isinstance(fault, Refused):
        raise fault
    log.warning("refused with %d: %s", fault.status, fault)
    # The rest of a slow body is not waited for; that of a large one is, or its sender would not read the answer.
    headers = {"connection": "close"} if fault.status == 408 else {}
    return JSONResponse({"error": {"message": str(fault), **fault.where}}, fault.status, headers)


def worker() -> Starlette:
    """The app in one of several processes, which ends with the one that started it."""
    end_with_parent()
    return create_app()


def serve() -> None:
    """Listen until the process is told to end; the model is checked before the port is taken."""
    settings = read_settings(Serving)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    app = create_app(settings=settings) if settings.workers == 1 else f"{__name__}:worker"
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        factory=settings.workers > 1,
        # A worker that is still importing on a busy machine is no dead one.
        timeout_worker_healthcheck=60,
        ws="none",
        log_level="warning",
        access_log=False,
    )
    listening = config.bind_socket()
    print(f"{LISTENING}{listening.getsockname()[1]}", flush=True)
    if settings.workers > 1:
        Multiprocess(config, sockets=[listening]).run()
    else:
        uvicorn.Server(config).run(sockets=[listening])


def main(words: list[str]) -> int:
    """The command of the image: `serve`, as SageMaker calls it; gives the exit code."""
    if words != ["serve"]:
        sys.stderr.write(f"error: unknown command {' '.join(words)!r}: the one command is `serve`\n")
        return UsageError.exit_code
    try:
        serve()
    except SpanishGasError as fault:
        sys.stderr.write(f"error: {fault}\n")
        return fault.exit_code
    return 0

"""The serving process, as SageMaker calls it: `serve` answers GET /ping, GET /execution-parameters, POST /invocations.

    part of gold (Parquet, CSV, JSON) -> the model of /opt/ml/model -> customer_id, probability, flag, tier

The model is loaded once per worker, before the port answers. A worker scores one part at a time, in a thread, so that
/ping is answered meanwhile and memory is bounded by the size of a part.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.supervisors import Multiprocess

from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.scoring import payload
from spanishgas.scoring.payload import Media, Refused
from spanishgas.scoring.process import LISTENING
from spanishgas.scoring.settings import MEGABYTE, Serving, read_settings
from spanishgas.training import artefact
from spanishgas.training.model import ChurnModel

log = logging.getLogger(__name__)


def create_app(model: ChurnModel | None = None, settings: Serving | None = None) -> Starlette:
    """The ASGI app around a model; without one, around that of the model folder."""
    settings = settings or read_settings(Serving)
    loaded = model or artefact.load(settings.model_dir, str(settings.model_dir))
    turn = asyncio.Semaphore(1)

    async def invocations(request: Request) -> Response:
        began = time.perf_counter()
        sent = payload.media_type(request.headers.get("content-type"))
        wanted = payload.accepted(request.headers.get("accept"), sent)
        async with turn:
            body = await _body(request, settings.payload_mb * MEGABYTE)
            rows, answer = await run_in_threadpool(score_body, loaded, body, sent, wanted, settings.max_rows)
        log.info("scored %d rows in %.2f s, %s to %s", rows, time.perf_counter() - began, sent, wanted)
        return Response(answer, media_type=wanted, headers={"x-rows": str(rows)})

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
    return Starlette(routes=routes, exception_handlers={Refused: _refused})


def score_body(
    model: ChurnModel, body: bytes, sent: Media, wanted: Media, max_rows: int
) -> tuple[int, bytes]:
    """Rows of a body, and the answer to it; `Refused` where it is not a table with the model's inputs."""
    rows = payload.read(body, sent, payload.inputs(model), max_rows)
    table = payload.answer(rows[payload.ID], model.predict(rows))
    return len(rows), payload.write(table, wanted)


async def _ping(_: Request) -> Response:
    return Response()


def _refused(_: Request, fault: Exception) -> Response:
    if not isinstance(fault, Refused):
        raise fault
    log.warning("refused with %d: %s", fault.status, fault)
    return JSONResponse({"error": {"message": str(fault), **fault.where}}, fault.status)


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refused(413, f"the body is larger than {limit // MEGABYTE} MB: send it in parts")
    return bytes(body)


def serve() -> None:
    """Listen until the process is told to end; the model is checked before the port is taken."""
    settings = read_settings(Serving)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    app = create_app(settings=settings) if settings.workers == 1 else f"{__name__}:create_app"
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        factory=settings.workers > 1,
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

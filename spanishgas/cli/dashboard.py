"""The verb that shows it all in a browser."""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from importlib import resources
from typing import Annotated

import typer

from spanishgas.cli.options import LakeOption
from spanishgas.errors import SpanishGasError
from spanishgas.settings import settings

QUIET = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",  # a traceback may hold a customer's values
    "client.toolbarMode": "minimal",
    "server.fileWatcherType": "none",
    "server.headless": "true",
}


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen on; elsewhere than here customers need a login.")
    ] = "127.0.0.1",
    lake: LakeOption = settings().lake,
) -> None:
    """Serve the dashboard over the lake and the tracking server until interrupted."""
    if importlib.util.find_spec("streamlit") is None:
        raise SpanishGasError(
            "the dashboard needs the extra `dashboard`: uv sync --extra dashboard, or make dashboard"
        )
    script = str(resources.files("spanishgas") / "dashboard" / "app.py")
    options = QUIET | {"server.address": address, "server.port": str(port)}
    words = [f"--{name}={value}" for name, value in options.items()]
    os.environ["SPANISHGAS_DASHBOARD_KEY"] = key = secrets.token_urlsafe()
    host = f"[{address}]" if ":" in address else address
    typer.echo(f"http://{host}:{port}/?key={key}", err=True)
    os.environ["SPANISHGAS_LAKE"] = lake
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", script, *words])

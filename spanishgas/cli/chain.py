"""The verbs of the whole: the chain from end to end, a look at all that it needs, and all that it made in a browser."""

from __future__ import annotations

import importlib.util
import os
import secrets
import sys
from importlib import resources
from typing import Annotated

import typer

from spanishgas.cli.options import LakeOption, Seed, Trials, at_least, require_tracking
from spanishgas.errors import DataError, SpanishGasError
from spanishgas.lake import Lake
from spanishgas.progress import bar, show
from spanishgas.settings import settings


def main(
    customers: Annotated[
        int, typer.Option(callback=at_least(200), help="Customers to simulate, if the lake has no extract.")
    ] = 10_000,
    trials: Trials = 8,
    lake: LakeOption = settings().lake,
    seed: Seed = 7,
) -> None:
    """Run the whole chain: raw files in; ladder, champion, scores and a drift report out. Run again, it reuses."""
    from spanishgas import pipeline

    require_tracking()
    ended = pipeline.main(customers, trials, lake=Lake(lake), seed=seed, progress=bar)
    show(pipeline.summary(ended))


def retrain(lake: LakeOption = settings().lake, trials: Trials = 8, seed: Seed = 7) -> None:
    """Train the champion's experiment again on the newest labels, and promote it if gate and policy say so."""
    from spanishgas import pipeline

    require_tracking()
    done = pipeline.retrain(trials, lake=Lake(lake), seed=seed, progress=bar)
    typer.echo(f"version {done.version.number}, gate {done.verdict.words}")
    if not done.verdict.passed:
        typer.echo("not promoted")


def doctor(
    lake: LakeOption = settings().lake,
    relocate: Annotated[
        bool, typer.Option("--relocate", help="First let a tracking store that was moved find its artefacts.")
    ] = False,
) -> None:
    """Look at environment, configuration, lake, disk, tracking and ports, and say what to mend."""
    from spanishgas import doctor as checks

    if relocate:
        import mlflow

        from spanishgas.lifecycle import relocation

        typer.echo(f"{relocation.relocate(mlflow.get_tracking_uri())} records of artefacts were changed")
    findings = checks.examine(Lake(lake))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.state:<5}  {finding.what:<{width}}  {finding.words}")
    faults = [finding.what for finding in findings if finding.state == "fault"]
    if faults:
        raise DataError(f"{len(faults)} to mend: {', '.join(faults)}")


QUIET = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",  # a traceback may hold a customer's values
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": "false",  # a string by itself in a page is not for its readers
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

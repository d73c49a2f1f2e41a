"""The command line. Each verb parses its options and makes one call; this page lists the verbs and runs one.

A failure that the user can mend is one message and an exit code: 2 for arguments and configuration, 1 for data and
environment. `--debug`, anywhere on the line, shows the traceback as well.
"""

from __future__ import annotations

import gc
import logging
import os
import sys

import typer

from spanishgas.cli import chain, data, lifecycle
from spanishgas.errors import SpanishGasError, TrackingError

LIBRARIES = ("mlflow.", "sqlalchemy.", "duckdb", "_duckdb", "pyarrow.", "botocore.")
"""Whose failures come from outside, and are no defects of the project."""
app = typer.Typer(
    help="Churn of an energy utility's customers: from raw meter readings to a champion, scores and drift.",
    epilog="Every verb is an MLproject entry point too: mlflow run . --env-manager local -e experiment -P id=E5",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verbs in (
    (chain.main, data.simulate, data.etl, data.sniff, data.validate, data.template, data.adopt),
    (lifecycle.experiment, lifecycle.ladder, lifecycle.evaluate),
    (lifecycle.promote, lifecycle.approve, lifecycle.rollback, lifecycle.history, lifecycle.reconcile),
    (lifecycle.transfer, lifecycle.export_package),
    (lifecycle.lineage, lifecycle.compare, lifecycle.reproduce),
    (
        chain.score,
        chain.drift,
        chain.baseline,
        chain.monitor,
        chain.outcomes,
        chain.power,
        chain.uplift,
        chain.retrain,
        chain.recalibrate,
    ),
    (chain.backtest,),
    (data.where, data.prune, data.erase, chain.doctor, chain.dashboard),
):
    for verb in verbs:
        app.command()(verb)


def run() -> None:
    """Entry point of the process: run a verb, and turn failures into a message and an exit code."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _mlflow_defaults()
    # Imports make objects that stay: at Python's default the collector walks them often, a tenth of a verb's time.
    gc.set_threshold(20_000, 50, 10)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("spanishgas").setLevel(logging.INFO)
    try:
        app()
    except Exception as fault:
        failure = _known(fault)
        if debug or failure is None:
            raise
        sys.stderr.write(f"error: {failure}\n")
        sys.exit(failure.exit_code)


def _mlflow_defaults() -> None:
    """No bars and notes for what is no news; the model pins its own requirements, not the whole lock."""
    for name in ("ENABLE_ARTIFACTS_PROGRESS_BAR", "UV_AUTO_DETECT", "LOG_UV_FILES"):
        os.environ.setdefault(f"MLFLOW_{name}", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # Spinning threads on a busy machine cost ten times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def _known(fault: Exception) -> SpanishGasError | None:
    """The failure in the project's own terms, or None for a defect, which deserves its traceback."""
    if isinstance(fault, SpanishGasError) and not isinstance(fault, TrackingError):
        return fault
    from spanishgas.troubles import quoted, recognised, words

    if message := recognised(fault):
        return TrackingError(message)
    if isinstance(fault, TrackingError):
        return fault
    if isinstance(fault, OSError | MemoryError) or type(fault).__module__.startswith(LIBRARIES):
        return SpanishGasError(words("unknown", said=quoted(fault)))
    return None

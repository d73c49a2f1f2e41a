"""Speed and memory of scoring: in this process, the serving process, and MLflow's own scoring server beside them.

Every way gets the same rows in the same parts, encoded beforehand; what is timed is from the first request to the last
answer. In-process is the model's `predict` on the whole table in memory. Reasons are timed apart.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import skops.io

from spanishgas.config.policy import load_policy
from spanishgas.config.search import XGBOOST
from spanishgas.features import load_tiers
from spanishgas.lifecycle import registry
from spanishgas.scoring import payload
from spanishgas.scoring.local import serving_process
from spanishgas.scoring.payload import Media
from spanishgas.scoring.reasons import reasons
from spanishgas.training import artefact
from spanishgas.training.calibration import fit_final
from spanishgas.training.fitting import Training
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from spanishgas.training.sides import labelled
from tests.gold_frames import gold_frame

SIZES, QUICK = (20_099, 1_000_000), (2_000,)
PART = 50_000
TREES = {"n_estimators": 400, "max_depth": 4, "learning_rate": 0.05}
TIMEOUT = 3600.0
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Taken:
    """One way at one size."""

    way: str
    rows: int
    seconds: float
    peak_mb: float

    @property
    def speed(self) -> float:
        return self.rows / self.seconds


def model_of() -> ChurnModel:
    """Boosted trees on every feature that trees take."""
    tiers = load_tiers()
    names = [f for f in tiers.features() if tiers.kind(f) != "cross"]
    kinds = {f: tiers.kind(f) for f in names}
    gold = labelled(gold_frame(5_000))
    y = gold["churn"].to_numpy(dtype="int64")
    training = Training(matrix(gold, names, kinds), y, names, kinds, XGBOOST, folds=3, seed=1)
    return fit_final(training, TREES, 0.5, load_policy())


def rows_of(count: int) -> pd.DataFrame:
    """`count` made-up customers: up to 20,099 drawn, more of them repeated under ids of their own."""
    base = gold_frame(min(count, SIZES[0]), seed=1, labelled=False)
    frame = base.iloc[np.arange(count) % len(base)].reset_index(drop=True)
    return frame.assign(customer_id=[f"C{i:08d}" for i in range(count)])


def bodies(frame: pd.DataFrame, model: ChurnModel, media: Media) -> list[bytes]:
    """The parts as requests."""
    columns = list(payload.inputs(model))
    parts = [frame[columns].iloc[at : at + PART] for at in range(0, len(frame), PART)]
    if media is Media.JSON:
        split = [p.to_json(orient="split", index=False) for p in parts]
        return [f'{{"dataframe_split": {text}}}'.encode() for text in split]
    return [payload.write(pa.Table.from_pandas(p, preserve_index=False), media) for p in parts]


def in_process(folder: Path, rows: int) -> Taken:
    """The model's predict on a table in memory, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, peak = pool.apply(_predict, (folder, rows))
    return Taken("in-process", rows, seconds, peak)


def _predict(folder: Path, rows: int) -> tuple[float, float]:
    model, frame = artefact.load(folder, "the model"), rows_of(rows)
    model.predict(frame[:100])
    began = time.perf_counter()
    model.predict(frame)
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def served(folder: Path, scratch: Path, model: ChurnModel, frame: pd.DataFrame, media: Media) -> Taken:
    """The serving process, part by part."""
    parts = bodies(frame, model, media)
    environment = {"SPANISHGAS_SERVE_PAYLOAD_MB": "100"}
    with serving_process(folder, scratch / "log", environment) as endpoint:
        endpoint.post(bodies(frame[:100], model, media)[0], media, media, TIMEOUT)
        began = time.perf_counter()
        for part in parts:
            answer = endpoint.post(part, media, media, TIMEOUT)
            assert answer.status == 200, answer.data[:500]
        seconds = time.perf_counter() - began
        return Taken(f"serving process, {media.name}", len(frame), seconds, peak_mb(endpoint.process.pid))


@contextmanager
def mlflow_server(folder: Path, log: Path) -> Iterator[tuple[int, int]]:
    """MLflow's scoring server around the same model: its port and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "-p", str(port), "-w", "1"],
            stdout=out,
            stderr=out,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # it starts uvicorn by name
                "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "3600",
            },
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                ask(port, "GET", "/ping", b"", "text/plain")
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(log.read_text()) from None
                time.sleep(0.2)
        yield port, process.pid
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def ask(port: int, method: str, path: str, body: bytes, sent: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request(method, path, body, {"Content-Type": sent})
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status} {read[:500]!r}")
    return read


def by_mlflow(logged: Path, scratch: Path, model: ChurnModel, frame: pd.DataFrame, media: Media) -> Taken:
    """MLflow's scoring server, part by part."""
    parts = bodies(frame, model, media)
    with mlflow_server(logged, scratch / "mlflow.log") as (port, pid):
        ask(port, "POST", "/invocations", bodies(frame[:100], model, media)[0], media)
        began = time.perf_counter()
        for part in parts:
            ask(port, "POST", "/invocations", part, media)
        seconds = time.perf_counter() - began
        return Taken(f"MLflow's scoring server, {media.name}", len(frame), seconds, peak_mb(pid))


def peak_mb(pid: int) -> float:
    """Peak resident memory of the largest process of a tree."""
    tree, most = [pid], 0.0
    while tree:
        at = tree.pop()
        try:
            status = Path(f"/proc/{at}/status").read_text()
            tree += [
                int(c)
                for t in Path(f"/proc/{at}/task").iterdir()
                for c in (t / "children").read_text().split()
            ]
        except OSError:
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
        most = max(most, int(peak.split()[1]) / 1024)
    return most


def logged_model(model: ChurnModel, folder: Path) -> Path:
    """The model as MLflow saves it."""
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        model,
        folder,
        signature=registry.signature(model),
        pip_requirements=registry.requirements(model),
        serialization_format="skops",
        skops_trusted_types=artefact.trusted(),
        pyfunc_predict_fn="predict",
    )
    return folder


def run(quick: bool) -> None:
    """Measure and print the table."""
    model, taken = model_of(), list[Taken]()
    with tempfile.TemporaryDirectory(prefix="spanishgas-bench-") as name:
        scratch = Path(name)
        folder = scratch / "artefact"
        folder.mkdir()
        skops.io.dump(model, folder / artefact.FILE)
        logged = logged_model(model, scratch / "logged")
        for rows in QUICK if quick else SIZES:
            frame = rows_of(rows)
            ways: list[Callable[[], Taken]] = [
                lambda rows=rows: in_process(folder, rows),  # type: ignore[misc]
                *(
                    lambda m=m, f=frame: served(folder, scratch, model, f, m)
                    for m in (Media.PARQUET, Media.CSV)
                ),
                *(
                    lambda m=m, f=frame: by_mlflow(logged, scratch, model, f, m)
                    for m in (Media.CSV, Media.JSON)
                ),
            ]
            for way in ways:
                taken.append(way())
                print(taken[-1], file=sys.stderr, flush=True)
    print(report(taken))
    tiers = load_tiers()
    words = {name: tiers.words(name) for name in tiers.features()}
    began = time.perf_counter()
    explained = len(reasons(model, rows_of(2_000), words))
    print(f"\nReasons: {explained / (time.perf_counter() - began):,.0f} customers a second.")


def report(taken: list[Taken]) -> str:
    """The table, and the two ratios that have a limit, at the largest size."""
    lines = ["| way | rows | rows a second | peak MB |", "|---|---|---|---|"]
    lines += [f"| {t.way} | {t.rows:,} | {t.speed:,.0f} | {t.peak_mb:,.0f} |" for t in taken]
    last = {t.way: t for t in taken if t.rows == taken[-1].rows}
    ours = last["serving process, PARQUET"].speed
    limits = [("in-process", 0.65), ("MLflow's scoring server, CSV", 3.5)]
    lines += ["", "| serving process with Parquet, times | measured | limit | |", "|---|---|---|---|"]
    for way, least in limits:
        ratio = ours / last[way].speed
        lines.append(
            f"| {way} | {ratio:.2f} | at least {least:g} | {'kept' if ratio >= least else 'MISSED'} |"
        )
    return "\n".join(lines)

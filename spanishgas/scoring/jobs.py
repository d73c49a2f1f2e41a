"""The SageMaker backend: parts go to S3, a batch transform job scores them, its answers come back.

    s3://bucket/prefix/models/<digest>/model.tar.gz     the archive, made once per model and kept
    s3://bucket/prefix/jobs/<job>/in/part-00000.parquet one request each
    s3://bucket/prefix/jobs/<job>/out/part-00000.parquet.out

A job's name is derived from model version, gold digest and how it is cut, so a second call joins the job of the first,
also after the first was killed. A job that failed or was stopped has used its name up: the next call takes the next
number.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spanishgas.errors import UsageError
from spanishgas.lake import SCHEME, S3Store
from spanishgas.scoring.parts import Part, Progress, Task, TransformError
from spanishgas.scoring.sagemaker_sdk import LOG_GROUP, Job, JobState, SageMaker
from spanishgas.scoring.settings import CleanUp, Transform
from spanishgas.training import artefact

LONGEST_NAME = 63
PREFIX = "spanishgas-"
"""Begins the name of every job, whatever the model is called: the rights of a role are written for it."""
START_MINUTES = 6
"""Minutes until an instance answers: assumed, not measured."""
ATTEMPTS = 11
"""Attempts of each request to S3: a job's parts come by the thousand, and S3 asks for patience."""
BESIDE = ("MLmodel", "requirements.txt")
"""What goes along in the archive for whoever opens it; the code is the image's."""


@dataclass
class SageMakerTransform:
    """Scores by a batch transform job; `say` is told the estimate before it starts, and where its log is."""

    settings: Transform
    store: S3Store
    sagemaker: SageMaker
    say: Callable[[str], None]
    job: str = ""

    @classmethod
    def of(cls, settings: Transform, say: Callable[[str], None]) -> SageMakerTransform:
        """The backend of the environment; UsageError that names the setting that is missing."""
        needed = {"S3": settings.s3, "ROLE": settings.role, "IMAGE": settings.image}
        if missing := [f"SPANISHGAS_TRANSFORM_{name}" for name, value in needed.items() if not value]:
            raise UsageError(f"the backend sagemaker needs {', '.join(missing)}: see docs/scoring.md")
        return cls(settings, open_prefix(settings), SageMaker(settings), say)

    def answers(self, task: Task, progress: Progress) -> Iterator[tuple[Part, bytes]]:
        """Each part in order with its answer, once the job is Completed and every part has one."""
        self.job, state = self._free_name(task)
        answers = set[str]()
        for part in task.shards:
            if state is None:
                self.store.write(f"{self._in}/{part.name}", part.body)
            answers.add(f"{part.name}.out")
        if state is None:
            self._start(task, len(answers))
        if state is None or state.status != "Completed":
            self._wait(len(answers), progress)
        if (answered := self._answered()) != answers:
            raise TransformError(
                f"transform job {self.job} is Completed, but of {len(answers)} parts {len(answers - answered)} have no "
                f"answer and {len(answered - answers)} answers belong to no part: {self._where}. Nothing was published"
            )
        # Cut once more, for no part stays in memory until the job has ended.
        return ((part, self.store.read_bytes(f"{self._out}/{part.name}.out")) for part in task.shards)

    def clean_up(self, task: Task) -> None:
        """Remove the parts, the answers and the SageMaker model of the job, if the policy says so."""
        if self.settings.clean_up is CleanUp.PUBLISHED:
            self.sagemaker.delete_model(self.job)
            for listed in self.store.listing(f"jobs/{self.job}"):
                self.store.remove(listed.key)

    def _free_name(self, task: Task) -> tuple[str, JobState | None]:
        """The name of a job to join, with its state, or the first that no job has used."""
        base, number = job_name(task, self.settings), 1
        while True:
            name = f"{base}-{number}"
            state = self.sagemaker.find(name)
            if state is None or state.status == "InProgress":
                return name, state
            if state.status == "Completed" and self.store.listing(f"jobs/{name}/out"):
                return name, state
            number += 1

    def _start(self, task: Task, parts: int) -> None:
        self.say(estimate(task.shards.table.manifest.rows, parts, self.settings))
        _, model = archived(self.store, task.version.folder)
        parts_in, out = map(self.store.uri, (f"{self._in}/", f"{self._out}/"))
        environment = task.environment(self.settings, self.settings.concurrency)
        self.sagemaker.create(Job(self.job, model, parts_in, out, task.tags, environment))
        self.say(f"transform job {self.job}, {self._where}")

    def _wait(self, parts: int, progress: Progress) -> None:
        """Until the job has ended; whoever interrupts stops it, and so does a job that answers nothing more."""
        done, since = -1, time.monotonic()
        try:
            while not self._ended():
                if (answered := len(self._answered())) != done:
                    done, since = answered, time.monotonic()
                    progress(
                        "transform", min(done, parts), parts + 1
                    )  # the bar ends with the job, not before
                if time.monotonic() - since > self.settings.stall_seconds:
                    self.sagemaker.stop(self.job)
                    raise TransformError(
                        f"transform job {self.job} answered {done} of {parts} parts and none for "
                        f"{self.settings.stall_seconds:g} s, so it was told to stop: {self._where}"
                    )
                time.sleep(self.settings.poll_seconds)
        except KeyboardInterrupt:
            self.sagemaker.stop(self.job)
            self.say(f"transform job {self.job} was told to stop")
            raise

    def _ended(self) -> bool:
        state = self.sagemaker.find(self.job)
        if state is None:
            raise TransformError(f"transform job {self.job} is gone: run the command again")
        words = {
            "Stopped": "was stopped, so nothing was published; run the command again.",
            "Failed": f"failed: {state.reason or 'no reason given'}. Nothing was published.",
        }
        if state.status in words:
            raise TransformError(f"transform job {self.job} {words[state.status]} {self._where}")
        return state.status == "Completed"

    def _answered(self) -> set[str]:
        return {listed.name for listed in self.store.listing(self._out)}

    @property
    def _in(self) -> str:
        return f"jobs/{self.job}/in"

    @property
    def _out(self) -> str:
        return f"jobs/{self.job}/out"

    @property
    def _where(self) -> str:
        return f"its log is CloudWatch's {LOG_GROUP}, streams {self.job}/"


def open_prefix(settings: Transform) -> S3Store:
    """The prefix of archives and parts; UsageError where the setting names none."""
    prefix = str(settings.s3)
    if not prefix.startswith(SCHEME) or not prefix.removeprefix(SCHEME).strip("/"):
        raise UsageError(f"SPANISHGAS_TRANSFORM_S3 '{prefix}' is not an S3 prefix: give s3://bucket/prefix")
    return S3Store(prefix, attempts=ATTEMPTS)


def archived(store: S3Store, model_dir: Path) -> tuple[str, str]:
    """Put the archive of an artefact where jobs find it, unless it is there; gives its folder in the store, and URI."""
    packed = archive(model_dir)
    folder = f"models/{hashlib.sha256(packed).hexdigest()}"
    key = f"{folder}/model.tar.gz"
    if key not in {listed.key for listed in store.listing(folder)} or store.read_bytes(key) != packed:
        store.write(key, packed)
    return folder, store.uri(key)


def estimate(rows: int, parts: int, settings: Transform) -> str:
    """Time and cost of a job in words, before it starts: start-up plus rows over the throughput that was set."""
    per_second = settings.rows_per_second * settings.instances * settings.concurrency
    minutes = START_MINUTES + rows / per_second / 60
    hours = minutes / 60 * settings.instances
    cost = (
        f"about {hours * settings.price_per_hour:.2f} at {settings.price_per_hour} an hour"
        if settings.price_per_hour
        else "set SPANISHGAS_TRANSFORM_PRICE_PER_HOUR to see the cost"
    )
    return (
        f"{rows:,} rows in about {parts:,} parts on {settings.instances} x {settings.instance_type}: about "
        f"{minutes:.0f} minutes, {hours:.2f} instance-hours, {cost}"
    )


def job_name(task: Task, settings: Transform) -> str:
    """Name of the task's job without its number: equal for equal version, gold and cut, valid for SageMaker."""
    gold, version = task.shards.table.manifest.digest, task.version
    cut = f"{version.number} {task.model_sha256} {gold} {settings.media} {settings.part_rows} {settings.payload_mb}"
    tail = f"-v{version.number}-{hashlib.sha256(cut.encode()).hexdigest()[:16]}"
    head = PREFIX + re.sub(r"[^a-zA-Z0-9]+", "-", version.name).strip("-").removeprefix(PREFIX)
    return head[: LONGEST_NAME - 4 - len(tail)].rstrip("-") + tail


def archive(model_dir: Path) -> bytes:
    """model.tar.gz of the artefact in `model_dir`, without times and owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted([artefact.FILE, *BESIDE]):
            if (file := model_dir / name).exists():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = file.stat().st_size, 0o644
                with file.open("rb") as content:
                    tar.addfile(entry, content)
    return packed.getvalue()

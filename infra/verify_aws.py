"""Score a small made-up table by a real SageMaker batch transform job, and check each step: `make verify-aws`.

It needs the SPANISHGAS_TRANSFORM_ settings of docs/scoring.md and credentials, starts one instance for about ten
minutes (which costs money), and leaves nothing but the model archive behind. With infra/backend.json and a tracking
server (docs/aws.md) it also runs an entry point as a processing job, which leaves its code and a small raw extract,
raw/verify-.... Nobody who made this project has run it on AWS.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import mlflow
import pandas as pd

import spanishgas
from spanishgas.config.search import XGBOOST
from spanishgas.lake import S3Store
from spanishgas.scoring.jobs import SageMakerTransform, job_name
from spanishgas.scoring.parts import Part, Task, reconciled
from spanishgas.scoring.settings import CleanUp, Transform, read_settings
from spanishgas.settings import PROJECT
from tests.churn_models import churn_model, odd_gold, task_of

CUSTOMERS, ROWS = 90, 40


def check(what: str, holds: bool) -> None:
    """Say whether one thing is as it should be; the first that is not ends the run."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)
    if not holds:
        raise SystemExit(f"not as it should be: {what}")


def verify(given: Transform, root: Path) -> None:
    """The checks in order, about twenty."""
    frame = odd_gold(CUSTOMERS)
    task = task_of(XGBOOST, given.media, root, frame, rows=ROWS)
    said: list[str] = []
    backend = SageMakerTransform.of(given, said.append)
    check("the region has a name", bool(boto3.Session().region_name))
    identity = boto3.client("sts").get_caller_identity()
    check("the credentials belong to an account", len(identity["Account"]) == 12)
    check("the image lies in a registry", "/" in str(given.image))
    store = backend.store
    store.write("verify/probe", b"probe")
    check("an object can be written and read", store.read_bytes("verify/probe") == b"probe")
    check("it is listed", [listed.name for listed in store.listing("verify")] == ["probe"])
    store.remove("verify/probe")
    check("it can be removed", store.listing("verify") == [])
    check("a job that does not exist is not found", backend.sagemaker.find("spanishgas-no-such-job") is None)
    steps: list[tuple[int, int]] = []
    answered = list(backend.answers(task, lambda what, done, total: steps.append((done, total))))
    for name, holds in _answers(task, backend, answered, said, steps):
        check(name, holds)
    found = _collected(task, answered)
    expected = spanishgas.score(frame, churn_model(XGBOOST))
    check("every customer came back once", found["customer_id"].tolist() == frame["customer_id"].tolist())
    same = found["churn_probability"].tolist() == expected["churn_probability"].tolist()
    check("probabilities are those of this machine to the last digit", same)
    check("flags are those of this machine", found["churn_flag"].tolist() == expected["churn_flag"].tolist())
    check("tiers are those of this machine", found["risk_tier"].tolist() == expected["risk_tier"].tolist())
    again = SageMakerTransform.of(given, said.append)
    bodies = [body for _, body in again.answers(task, lambda *_: None)]
    check("a second call gives the same answers", bodies == [body for _, body in answered])
    check("and starts no second job", again.job == backend.job)
    backend.clean_up(task)
    check("parts and answers are gone", store.listing(f"jobs/{backend.job}") == [])
    check("the archive stays", len(store.listing("models")) > 0)
    models = boto3.client("sagemaker").list_models(NameContains=backend.job)["Models"]
    check("the SageMaker model is gone", models == [])


def verify_backend(config: Path, tree: Path = PROJECT) -> None:
    """An entry point through `mlflow run -b sagemaker`, and what its job and its run say."""
    lake = json.loads(config.read_text())["lake"].rstrip("/")
    raw = f"{lake}/raw/verify-{secrets.token_hex(4)}"  # no date, so nobody takes it for an upload
    drawn = {"customers": 60, "out": raw}
    run = mlflow.projects.run(
        str(tree), "simulate", parameters=drawn, backend="sagemaker", backend_config=str(config)
    )
    check("the job of an entry point is Completed", run.get_status() == "FINISHED")
    tags = mlflow.MlflowClient().get_run(run.run_id).data.tags
    check("its run is this command's", tags["mlflow.project.entryPoint"] == tags["stage"] == "simulate")
    check("it ran the commit that is checked out", tags["code.commit"] == tags["mlflow.source.git.commit"])
    check("what it wrote is in the lake", len(S3Store(raw).listing()) >= 7)


def _answers(
    task: Task,
    backend: SageMakerTransform,
    answered: list[tuple[Part, bytes]],
    said: list[str],
    steps: list[tuple[int, int]],
) -> Iterator[tuple[str, bool]]:
    state = backend.sagemaker.find(backend.job)
    yield "the job is Completed", state is not None and state.status == "Completed"
    yield "its name is the task's", backend.job.startswith(job_name(task, backend.settings))
    yield "every part has an answer", len(answered) == len(list(task.shards)) == 3
    yield "the estimate was said before the start", "instance-hours" in said[0]
    yield "the place of the log was said", "/aws/sagemaker/TransformJobs" in said[1]
    yield "progress was told", len(steps) > 0
    tags = boto3.client("sagemaker").list_tags(ResourceArn=_arn(backend))["Tags"]
    yield (
        "the job carries the gold digest",
        {"Key": "spanishgas:gold_digest", "Value": task.shards.table.manifest.digest} in tags,
    )


def _arn(backend: SageMakerTransform) -> str:
    job = boto3.client("sagemaker").describe_transform_job(TransformJobName=backend.job)
    return str(job["TransformJobArn"])


def _collected(task: Task, answered: list[tuple[Part, bytes]]) -> pd.DataFrame:
    return pd.concat([scores for _, scores, _ in reconciled(task.shards.table, answered)], ignore_index=True)


if __name__ == "__main__":
    settings = read_settings(Transform).model_copy(update={"part_rows": ROWS, "clean_up": CleanUp.PUBLISHED})
    with tempfile.TemporaryDirectory() as scratch:
        verify(settings, Path(scratch))
    if (file := PROJECT / "infra" / "backend.json").exists():
        verify_backend(file)
    print(f"all as it should be on {date.today()}")
    sys.exit(0)

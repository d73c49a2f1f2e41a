"""Batch transform jobs against moto's SageMaker and S3 over HTTP, with a double that does SageMaker's part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import boto3
import pandas as pd
import pytest
from botocore.client import BaseClient

import spanishgas
from infra.verify_aws import verify
from spanishgas.config.search import FOREST, LOGISTIC, XGBOOST
from spanishgas.errors import DataError, UsageError
from spanishgas.scoring.jobs import PREFIX, SageMakerTransform, job_name
from spanishgas.scoring.parts import Task, TransformError, reconciled
from spanishgas.scoring.payload import Media
from spanishgas.scoring.settings import CleanUp, Transform
from tests.churn_models import NATIVE, churn_model, odd_gold, task_of
from tests.sagemaker_double import Instances, Plan, SageMakerDouble, sagemaker_double

ROLE, IMAGE = (
    "arn:aws:iam::123456789012:role/transform",
    "123456789012.dkr.ecr.eu-south-2.amazonaws.com/serve:1",
)
PARTS = ["part-00000", "part-00001", "part-00002"]


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instances]:
    with ExitStack() as stack:
        yield Instances(tmp_path_factory.mktemp("instances"), stack)


@pytest.fixture
def double(instances: Instances, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerDouble]:
    with sagemaker_double(instances, monkeypatch) as running:
        yield running


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return task_of(XGBOOST, Media.PARQUET, tmp_path, odd_gold(100), rows=40)


class Backend:
    """A backend as the command line makes it, and what it said."""

    def __init__(self, **given: object) -> None:
        self.said: list[str] = []
        settings = {
            "s3": "s3://scoring/a",
            "role": ROLE,
            "image": IMAGE,
            "poll_seconds": 0.1,
            "part_rows": 40,
        }
        self.at_work = SageMakerTransform.of(
            Transform.model_validate({**settings, **given}), self.said.append
        )

    def scores(self, task: Task, interrupt: BaseException | None = None) -> pd.DataFrame:
        def progress(what: str, done: int, total: int) -> None:
            if interrupt:
                raise interrupt

        answers = reconciled(task.shards.table, self.at_work.answers(task, progress))
        return pd.concat([scores for _, scores, _ in answers], ignore_index=True)


def keys(prefix: str = "") -> list[str]:
    return [
        o["Key"]
        for o in boto3.client("s3").list_objects_v2(Bucket="scoring", Prefix=prefix).get("Contents", [])
    ]


@pytest.mark.parametrize(
    ("kind", "media"),
    [
        (XGBOOST, Media.PARQUET),
        pytest.param(XGBOOST, Media.CSV, marks=pytest.mark.slow),
        pytest.param(FOREST, Media.PARQUET, marks=pytest.mark.slow),
        pytest.param(LOGISTIC, Media.PARQUET, marks=pytest.mark.slow),
        pytest.param(NATIVE, Media.PARQUET, marks=pytest.mark.slow),
    ],
)
def test_a_job_gives_the_numbers_of_this_process_and_leaves_the_archive_alone(
    double: SageMakerDouble, tmp_path: Path, kind: str, media: Media
) -> None:
    task = task_of(kind, media, tmp_path, odd_gold(100), rows=40)
    backend = Backend(media=media)
    expected = spanishgas.score(odd_gold(100), churn_model(kind))
    pd.testing.assert_frame_equal(backend.scores(task), expected, check_exact=True, check_dtype=False)
    (job,) = double.jobs.values()
    assert job.transform_input["ContentType"] == media
    assert "3 parts" in backend.said[0]
    assert "/aws/sagemaker/TransformJobs" in backend.said[1]
    backend.at_work.clean_up(task)
    (left,) = keys()
    assert left.startswith("a/models/")
    assert boto3.client("sagemaker").list_models()["Models"] == []

    nobody = task_of(kind, media, tmp_path / "nobody", odd_gold(100)[:0], rows=40)
    assert len(backend.scores(nobody)) == 0
    assert len(list(nobody.shards)) == 1


@pytest.mark.slow
def test_the_archive_is_made_once_and_the_job_carries_version_and_lineage(
    double: SageMakerDouble, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, call = list[tuple[str, dict[str, object]]](), BaseClient._make_api_call

    def recorded(client: BaseClient, operation: str, words: dict[str, object]) -> object:
        sent.append((operation, words))
        return call(client, operation, words)

    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)
    Backend(clean_up=CleanUp.NEVER).scores(task)
    (archive,) = keys("a/models/")
    first = boto3.client("s3").head_object(Bucket="scoring", Key=archive)["LastModified"]
    Backend(part_rows=50).scores(replace(task, shards=replace(task.shards, rows=50)))
    assert keys("a/models/") == [archive]
    assert boto3.client("s3").head_object(Bucket="scoring", Key=archive)["LastModified"] == first
    one, other = double.jobs.values()
    # It holds customer rows, and needs no network; moto forgets what it was told of that.
    isolated = [words["EnableNetworkIsolation"] for operation, words in sent if operation == "CreateModel"]
    assert isolated == [True, True]
    assert one.transform_job_name != other.transform_job_name
    tags = {tag["Key"]: tag["Value"] for tag in one.tags}
    assert tags.keys() == {f"spanishgas:{name}" for name in ("model_version", "gold_digest", "as_of", "code")}
    manifest = task.shards.table.manifest
    assert (tags["spanishgas:model_version"], tags["spanishgas:gold_digest"]) == ("1", manifest.digest)
    assert tags["spanishgas:as_of"] == manifest.as_of.isoformat()
    assert len(keys("a/jobs/")) == 2 * 3 + 2 * 2


@pytest.mark.slow
def test_a_second_call_joins_the_job_of_one_that_died(double: SageMakerDouble, task: Task) -> None:
    double.plan = Plan.HOLD
    with pytest.raises(SystemExit):
        Backend().scores(task, interrupt=SystemExit())
    double.go.set()
    assert len(Backend().scores(task)) == 100
    assert len(double.jobs) == 1


@pytest.mark.slow
def test_a_completed_job_whose_scores_were_not_published_is_collected_again(
    double: SageMakerDouble, task: Task
) -> None:
    first = Backend().scores(task)
    pd.testing.assert_frame_equal(Backend().scores(task), first)
    assert len(double.jobs) == 1


@pytest.mark.slow
def test_an_interrupt_stops_the_job_and_the_next_call_starts_another(
    double: SageMakerDouble, task: Task
) -> None:
    double.plan = Plan.STALL
    with pytest.raises(KeyboardInterrupt):
        Backend().scores(task, interrupt=KeyboardInterrupt())
    (job,) = double.jobs.values()
    assert job.transform_job_status == "Stopped"
    double.plan = Plan.COMPLETE
    assert len(Backend().scores(task)) == 100
    assert sorted(double.jobs) == [job.transform_job_name, f"{job_name(task, Transform(part_rows=40))}-2"]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        pytest.param(
            Plan.FAIL,
            "failed: ClientError: See job logs.*/aws/sagemaker/TransformJobs, streams spanishgas-m-v1-.*-1/",
            marks=pytest.mark.slow,
        ),
        pytest.param(Plan.STOP, "was stopped, so nothing was published", marks=pytest.mark.slow),
        (Plan.LOSE, "Completed, but of 3 parts 1 have no answer"),
        (Plan.STALL, "answered 0 of 3 parts and none for 0.3 s, so it was told to stop"),
    ],
)
def test_a_job_that_does_not_answer_every_part_is_an_error_that_says_why(
    double: SageMakerDouble, task: Task, plan: Plan, words: str
) -> None:
    double.plan = plan
    with pytest.raises(TransformError, match=words):
        Backend(stall_seconds=0.3 if plan is Plan.STALL else 60).scores(task)
    (job,) = double.jobs.values()
    assert job.transform_job_status != "InProgress"


@pytest.mark.slow
def test_the_script_for_a_real_account_finds_nothing_amiss_here(
    double: SageMakerDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify(Transform(s3="s3://scoring/a", role=ROLE, image=IMAGE, poll_seconds=0.1, part_rows=40), tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert len(said) >= 20
    assert all(line.startswith("ok  ") for line in said)


@pytest.mark.slow
def test_throttled_calls_are_tried_again(double: SageMakerDouble, task: Task) -> None:
    double.throttle = 3
    assert len(Backend().scores(task)) == 100
    assert double.throttle == 0


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(double: SageMakerDouble, task: Task) -> None:
    with pytest.raises(DataError, match=r"nobucket.*there is no such bucket"):
        Backend(s3="s3://nobucket/a").scores(task)


def test_names_of_jobs_are_valid_and_differ_by_version_and_gold(task: Task, tmp_path: Path) -> None:
    given = Transform()
    other = replace(task, version=replace(task.version, number="2", name="a_very/long name " * 9))
    changed = task_of(XGBOOST, Media.PARQUET, tmp_path / "other", odd_gold(99), rows=40)
    names = {f"{job_name(t, given)}-999" for t in (task, other, changed)}
    assert len(names) == 3
    assert all(name.startswith(PREFIX) for name in names), "the rights of a role are written for it"
    assert all(len(name) <= 63 and name.replace("-", "").isalnum() for name in names)


@pytest.mark.parametrize("missing", ["s3", "role", "image"])
def test_a_missing_setting_is_named_before_anything_starts(missing: str) -> None:
    with pytest.raises(UsageError, match=f"SPANISHGAS_TRANSFORM_{missing.upper()}"):
        Backend(**{missing: None})

"""`mlflow run -b sagemaker`: what is refused before a start, what a job is given, and how it is joined and stopped."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import mlflow
import pytest
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.loader import load_backend
from mlflow.projects.utils import PROJECT_SYNCHRONOUS
from mlflow.tracking import MlflowClient

from spanishgas.aws import job as container
from spanishgas.aws.backend import BackendConfig
from spanishgas.aws.processing import SubmittedJob
from spanishgas.settings import PROJECT, settings
from tests import aws_stand_in, processing_double, tracked
from tests.infra.conftest import Jobs
from tests.infra.state_machine import states
from tests.infra.terraform import module
from tests.processing_double import ProcessingDouble

REPOSITORY = "000000000000.dkr.ecr.eu-west-1.amazonaws.com"
CONFIG: dict[str, Any] = {
    "image": "an-image:1",
    "role": aws_stand_in.ROLE,
    "lake": "s3://jobs/lake",
    "code": "s3://jobs/code",
    "poll_seconds": 0.01,
}
SERVER = "http://127.0.0.1:1"


def git(tree: Path, *words: str) -> str:
    as_ = ["-c", "user.name=any", "-c", "user.email=any@example.com"]
    done = subprocess.run(["git", *as_, *words], cwd=tree, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of two files in a git work tree of its own."""
    folder = tmp_path / "project"
    (folder / "spanishgas").mkdir(parents=True)
    (folder / "spanishgas" / "__init__.py").write_text("")
    for name in ("MLproject", "conda.yaml", "pyproject.toml", "uv.lock", "Dockerfile"):
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(PROJECT / "experiments", folder / "experiments")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "any")
    for key, value in {"name": "any", "email": "any@example.com"}.items():
        git(folder, "config", f"user.{key}", value)
    return folder


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with aws_stand_in.running(Jobs()) as running:
        region = {"LocationConstraint": aws_stand_in.REGION}
        boto3.client("s3").create_bucket(Bucket="jobs", CreateBucketConfiguration=region)
        yield running


@pytest.fixture
def double(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessingDouble]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracked.empty_store(tmp_path))
    with processing_double.processing_double(tmp_path / "jobs", monkeypatch) as double:
        double.work = lambda job: 0
        yield double
    mlflow.set_tracking_uri(before)


def submit(
    tree: Path,
    entry_point: str = "experiment",
    uri: str = SERVER,
    params: Mapping[str, str] | None = None,
    **config: Any,
) -> SubmittedJob:
    submitted = load_backend("sagemaker").run(
        str(tree), entry_point, params or {}, None, {**CONFIG, PROJECT_SYNCHRONOUS: True, **config}, uri, "0"
    )
    assert isinstance(submitted, SubmittedJob)
    return submitted


def test_a_job_is_the_verb_with_its_options_the_commits_code_and_the_run(
    double: ProcessingDouble, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(job: Mapping[str, Any]) -> int:
        say = processing_double.log(job["ProcessingJobName"])
        say("trial 1 of 2")
        return 0

    double.work = work
    submitted = submit(
        tree, params={"id": "E2"}, count=1, max_hours=2, environment={"SPANISHGAS_THREADS": "2"}
    )
    assert submitted.wait()
    assert submitted.get_status() == "FINISHED"
    (job,) = double.jobs.values()
    words = job["AppSpecification"]["ContainerArguments"]
    assert words[:3] == ["experiment", "--id", "E2"]
    assert words[words.index("--lake") + 1] == CONFIG["lake"]
    assert (
        job["Environment"].items()
        >= {
            "MLFLOW_RUN_ID": submitted.run_id,
            "AWS_DEFAULT_REGION": aws_stand_in.REGION,
            "SPANISHGAS_LAKE": CONFIG["lake"],
            "SPANISHGAS_THREADS": "2",
        }.items()
    )
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200}
    run = MlflowClient().get_run(submitted.run_id)
    assert run.data.params["id"] == "E2"
    assert run.data.tags["mlflow.source.git.commit"] == git(tree, "rev-parse", "HEAD")
    said = capsys.readouterr().out
    assert "trial 1 of 2\n" in said
    assert f"job {job['ProcessingJobName']}: Completed" in said


def packed(double: ProcessingDouble) -> dict[str, bytes]:
    """The files of the newest job's code."""
    uri = [*double.jobs.values()][-1]["ProcessingInputs"][0]["S3Input"]["S3Uri"]
    key = f"{uri.removeprefix('s3://jobs/')}{container.CODE.name}"
    body = boto3.client("s3").get_object(Bucket="jobs", Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {m.name: file.read() for m in tar if (file := tar.extractfile(m)) is not None}


@pytest.mark.slow
def test_what_is_packed_is_what_git_has_and_knows_its_commit(double: ProcessingDouble, tree: Path) -> None:
    (tree / "mlflow.db").write_text("a store")
    submit(tree).wait()
    files = packed(double)
    assert {name.partition("/")[0] for name in files} == {
        "spanishgas", "experiments", "pyproject.toml", "uv.lock", "COMMIT"
    }  # fmt: skip
    assert files["COMMIT"].decode() == git(tree, "rev-parse", "HEAD")


def test_a_changed_work_tree_is_packed_as_it_is_or_refused_where_policy_says_so(
    double: ProcessingDouble, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "spanishgas" / "__init__.py").write_text("changed = True\n")
    submit(tree).wait()
    files = packed(double)
    assert files["spanishgas/__init__.py"] == b"changed = True\n"
    assert files["COMMIT"].decode().endswith(" dirty")
    assert git(tree, "stash", "list") == ""
    shutil.copytree(PROJECT / "experiments", tmp_path / "strict")
    policy = tmp_path / "strict" / "policy.yaml"
    policy.write_text(policy.read_text().replace("clean_work_tree: false", "clean_work_tree: true"))
    with monkeypatch.context() as patch:
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(tmp_path / "strict"))
        settings.cache_clear()
        with pytest.raises(ExecutionException, match=r"differs from its commit.*clean_work_tree: true"):
            submit(tree)
    settings.cache_clear()
    assert len(double.jobs) == 1


def test_the_same_command_joins_a_job_that_runs_and_follows_one_that_has_ended_with_the_next(
    double: ProcessingDouble, tree: Path
) -> None:
    go = threading.Event()
    double.work = lambda job: 0 if go.wait(60) else 1
    first = submit(tree)
    second, other = submit(tree), submit(tree, params={"id": "E2"})
    assert second.run_id == first.run_id
    assert other.run_id != first.run_id
    assert len(double.jobs) == 2
    assert len(MlflowClient().search_runs(["0"])) == 2
    go.set()
    assert first.wait()
    assert second.wait()
    assert submit(tree).wait()
    names = sorted(name for name in double.jobs if other.run_id not in str(double.jobs[name]["Environment"]))
    assert [name.rpartition("-")[2] for name in names] == ["1", "2"]
    assert names[0][:-1] == names[1][:-1]


def test_a_job_that_fails_ends_the_run_with_its_reason_and_last_words(
    double: ProcessingDouble, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(job: Any) -> int:
        job["ExitMessage"] = "error: the lake is empty"
        return 2

    double.work = work
    submitted = submit(tree)
    assert not submitted.wait()
    assert submitted.get_status() == "FAILED"
    assert "AlgorithmError: , exit code: 2; error: the lake is empty" in capsys.readouterr().out


def test_cancelling_stops_the_job_and_waits_for_its_end(double: ProcessingDouble, tree: Path) -> None:
    double.work = lambda job: 143 if stopped(job) else 0
    submitted = submit(tree)
    submitted.cancel()
    assert submitted.get_status() == "KILLED"
    submitted.cancel()  # one that has ended is no error


def stopped(job: Mapping[str, Any]) -> bool:
    pause = threading.Event()
    while job["ProcessingJobStatus"] != "Stopping":
        pause.wait(0.01)
    return True


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"instance_typ": "ml.m5.xlarge"}, r"unknown key 'instance_typ'.*Did you mean 'instance_type'\?"),
        (
            {"instance_type": "ml.m5.xlrge"},
            "unknown instance type 'ml.m5.xlrge'.*Did you mean 'ml.m5.xlarge'",
        ),
        ({"count": 0}, "count: .*greater than or equal to 1"),
        ({"count": 2}, "2 instances would each do all of 'experiment'.*SPANISHGAS_STUDY_STORAGE"),
        ({"role": "me"}, "role: "),
        ({"lake": "lake"}, "lake: "),
        (
            {"image": f"{REPOSITORY.replace('eu-west-1', 'us-east-1')}/job:1"},
            "is in us-east-1, the job in eu-west-1",
        ),
        ({"image": f"{REPOSITORY}/job:1"}, "is not there: push it"),
    ],
)
def test_a_configuration_that_cannot_work_is_one_message_before_anything_is_started(
    double: ProcessingDouble, tree: Path, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ExecutionException, match=f"(?s){words}"):
        submit(tree, **config)
    assert double.jobs == {}
    assert MlflowClient().search_runs(["0"]) == []


def test_a_missing_key_is_named(double: ProcessingDouble, tree: Path) -> None:
    with pytest.raises(ExecutionException, match=r"(?s)--backend-config is not valid:.*role"):
        load_backend("sagemaker").run(str(tree), "experiment", {}, None, {"image": "any"}, SERVER, "0")


def test_a_lake_or_a_store_of_this_machine_is_refused(double: ProcessingDouble, tree: Path) -> None:
    with pytest.raises(ExecutionException, match="the lake 'lake' is a folder of this machine"):
        submit(tree, params={"lake": "lake"})
    with pytest.raises(ExecutionException, match=r"cannot reach the tracking store sqlite:///mlflow.db"):
        submit(tree, uri="sqlite:///mlflow.db")
    assert double.jobs == {}


def test_an_entry_point_that_the_project_does_not_have_is_refused(
    double: ProcessingDouble, tree: Path
) -> None:
    (tree / "mine.py").write_text("print('mine')")
    for name in ("mine.py", "experimnt"):
        with pytest.raises(ExecutionException, match=name):
            submit(tree, entry_point=name)
    assert double.jobs == {}


def test_without_credentials_or_a_region_nothing_is_started(
    double: ProcessingDouble, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ExecutionException, match=r"AWS has no valid credentials.*aws sso login"):
        submit(tree)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ExecutionException, match="no AWS region is set: set AWS_DEFAULT_REGION"):
        submit(tree)
    assert double.jobs == {}


@pytest.mark.slow
def test_an_image_of_a_commit_with_other_packages_is_refused(double: ProcessingDouble, tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    boto3.client("ecr").create_repository(repositoryName="job")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "layers": [], "config": {"digest": f"sha256:{commit:0<64}"}}
    )
    boto3.client("ecr").put_image(repositoryName="job", imageManifest=manifest, imageTag=commit)
    assert submit(tree, image=f"{REPOSITORY}/job:{commit}").wait()
    (tree / "spanishgas" / "new.py").write_text("")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "code alone")
    assert submit(tree, image=f"{REPOSITORY}/job:{commit}").wait()
    with (tree / "uv.lock").open("a") as lock:
        lock.write("# other\n")
    git(tree, "commit", "-qam", "other packages")
    with pytest.raises(
        ExecutionException, match=f"built from commit {commit[:12]}, whose uv.lock or Dockerfile"
    ):
        submit(tree, image=f"{REPOSITORY}/job:{commit}")


@pytest.mark.slow
def test_a_job_that_sagemaker_does_not_start_leaves_no_run_open(double: ProcessingDouble, tree: Path) -> None:
    with pytest.raises(ExecutionException, match=r"CreateProcessingJob operation: too much"):
        submit(tree, environment={f"NAME_{number}": "1" for number in range(100)})
    (run,) = MlflowClient().search_runs(["0"])
    assert run.info.status == "FAILED"


def test_outside_git_there_is_nothing_to_pack(double: ProcessingDouble, tree: Path) -> None:
    shutil.rmtree(tree / ".git")
    with pytest.raises(
        ExecutionException, match=r"git rev-parse failed.*A job runs a commit of a git work tree"
    ):
        submit(tree)


def test_a_job_is_created_as_those_of_the_pipeline_are(double: ProcessingDouble, tree: Path) -> None:
    submit(tree, subnets=["subnet-1"], security_groups=["sg-1"], kms_key="key", tracking_secret="arn").wait()
    (job,) = double.jobs.values()
    pipelines = states()["Train"]["Parameters"]
    own = {name.removesuffix(".$") for name in pipelines}
    assert {name for name, value in job.items() if value is not None} - {"ProcessingJobStatus"} == own | {
        "ProcessingInputs"
    }
    cluster = pipelines["ProcessingResources"]["ClusterConfig"]
    assert job["ProcessingResources"]["ClusterConfig"].keys() == cluster.keys()
    environment = states()["Prepare"]["Parameters"]["settings"]["environment"]
    assert container.ENVIRONMENT.items() <= environment.items()
    assert container.SECRET in environment
    assert job["NetworkConfig"]["VpcConfig"].keys() == {"Subnets", "SecurityGroupIds"}


def test_terraform_writes_a_configuration_with_keys_that_the_backend_knows() -> None:
    output = module().named("output")["backend"]["value"]
    keys = set(output) if isinstance(output, dict) else set()
    needed = {name for name, about in BackendConfig.model_fields.items() if about.is_required()}
    assert needed <= keys <= BackendConfig.model_fields.keys()

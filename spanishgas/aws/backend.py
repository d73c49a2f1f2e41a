"""The backend `sagemaker` of MLflow Projects: an entry point as a processing job of the project's image.

    mlflow run . -b sagemaker --backend-config infra/backend.json -e experiment -P id=E5

    commit --archive on S3--> job, whose container runs that code as the run in MLflow --> log and status, here

The same command joins a job that still runs. After one that failed or was stopped it starts another, in which the verb
goes on where it was cut short. Ctrl-C stops the job; whatever else ends this process does not.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import boto3
from mlflow.projects import _wait_for
from mlflow.projects import utils as projects
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.tracking import MlflowClient
from pydantic import Field, ValidationError

from spanishgas.aws import job as container
from spanishgas.aws import preflight
from spanishgas.aws.packing import PackedCode, pack
from spanishgas.aws.processing import (
    LOG_GROUP,
    SubmittedJob,
    create,
    described,
    free_or_running,
    in_a_line,
    say,
)
from spanishgas.config import reading
from spanishgas.config.policy import load_policy
from spanishgas.errors import UsageError
from spanishgas.lake import SCHEME, S3Store

OWN = {value for name, value in vars(projects).items() if name.startswith("PROJECT_")}
"""Keys that MLflow adds to a backend's configuration."""
Prefix = Annotated[str, Field(pattern=r"^s3://[^/]+")]


class BackendConfig(reading.Strict):
    """The file that `--backend-config` names; `terraform output -json backend` writes one."""

    image: reading.Text
    """The image `job`, by tag or digest."""
    role: Annotated[str, Field(pattern=r"^arn:[\w-]+:iam::\d{12}:role/.+")]
    """The role that the job runs as."""
    lake: Prefix
    """The lake, where the command names no other s3:// prefix."""
    code: Prefix
    """Where the project's code is put for the jobs."""
    instance_type: str = "ml.m5.xlarge"
    count: int = Field(1, ge=1, le=100)
    """Instances; more than one only for a search, whose study is then in PostgreSQL."""
    volume_gb: int = Field(50, ge=1, le=16_384)
    max_hours: int = Field(12, ge=1, le=120)
    subnets: list[str] = Field(default_factory=list)
    security_groups: list[str] = Field(default_factory=list)
    kms_key: str = ""
    """Key of the instances' disks."""
    tracking_secret: str = ""
    """Secret with the tracking server's user, as for the pipeline's jobs."""
    environment: dict[str, str] = Field(default_factory=dict)
    """More of the container's environment."""
    wait: bool = True
    """Whether `mlflow run` ends with the job, not once it is started."""
    poll_seconds: float = Field(10.0, gt=0)
    """How often status and log are looked at."""


@dataclass(frozen=True)
class JobOrder:
    """A verb with its options, the code that it is of, and what it runs on."""

    entry_point: str
    words: tuple[str, ...]
    code: PackedCode
    config: BackendConfig

    @property
    def name(self) -> str:
        """The job's name without its number: equal for equal orders."""
        config = self.config.model_dump_json(exclude={"poll_seconds", "wait"})
        content = json.dumps([self.words, self.code.digest, config])
        return f"spanishgas-{self.entry_point}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def parameters(self, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """The parameters of CreateProcessingJob."""
        config, code = self.config, f"{self.config.code.rstrip('/')}/{self.code.digest}/"
        disks = {"VolumeSizeInGB": config.volume_gb, "VolumeKmsKeyId": config.kms_key or None}
        cluster = {"InstanceCount": config.count, "InstanceType": config.instance_type, **disks}
        source = {"S3Uri": code, "S3DataType": "S3Prefix", "S3InputMode": "File"}
        inside = {"Subnets": config.subnets, "SecurityGroupIds": config.security_groups}
        own = {"SPANISHGAS_LAKE": config.lake, container.SECRET: config.tracking_secret or None}
        return {
            "ProcessingJobName": name,
            "AppSpecification": {"ImageUri": config.image, "ContainerArguments": list(self.words)},
            "Environment": _set({**container.ENVIRONMENT, **own, **config.environment, **environment}),
            "ProcessingInputs": [
                {"InputName": "code", "S3Input": {**source, "LocalPath": str(container.CODE.parent)}}
            ],
            "ProcessingResources": {"ClusterConfig": _set(cluster)},
            "StoppingCondition": {"MaxRuntimeInSeconds": config.max_hours * 3600},
            "RoleArn": config.role,
            "Tags": [{"Key": "project", "Value": "spanishgas"}, {"Key": "code", "Value": self.code.commit}],
            **({"NetworkConfig": {"VpcConfig": inside}} if config.subnets else {}),
        }


class SageMakerBackend(AbstractBackend):
    """The plugin that MLflow loads for `-b sagemaker`."""

    def run(
        self,
        project_uri: str,
        entry_point: str,
        params: Mapping[str, Any],
        version: str | None,
        backend_config: Mapping[str, Any],
        tracking_uri: str,
        experiment_id: str,
    ) -> SubmittedJob:
        """The job, started or joined; ExecutionException, which MLflow says in a line, for whatever is wrong."""
        with in_a_line():
            tree = Path(projects.fetch_and_validate_project(project_uri, version, entry_point, params))
            order = ordered(tree, entry_point, params, backend_config)
            session = preflight.check(tree, entry_point, order.config, tracking_uri)
            name, job = free_or_running(session.client("sagemaker"), order.name)
            if job is None:
                place = S3Store(f"{order.config.code}/{order.code.digest}")
                place.write(container.CODE.name, order.code.body)
                new = (None, project_uri, experiment_id, str(tree), version, entry_point, params)
                job = _created(session, order, name, projects.get_or_create_run(*new).info)
        say(f"job {name}: its log is CloudWatch's {LOG_GROUP}, streams {name}/")
        submitted = SubmittedJob(
            session, name, job["Environment"]["MLFLOW_RUN_ID"], order.config.poll_seconds
        )
        if order.config.wait and not backend_config[projects.PROJECT_SYNCHRONOUS]:
            _wait_for(submitted)  # MLflow's command line waits for MLflow's own backends alone
        return submitted


def ordered(tree: Path, entry_point: str, params: Mapping[str, Any], content: Mapping[str, Any]) -> JobOrder:
    """The order for an entry point of the project in `tree`; UsageError for a configuration that is not valid."""
    try:
        config = BackendConfig.model_validate({k: v for k, v in content.items() if k not in OWN})
    except ValidationError as wrong:
        raise reading.invalid("the file of --backend-config", wrong) from wrong
    project = projects.load_project(tree)
    if entry_point not in project._entry_points:
        raise UsageError.unknown("entry point", entry_point, project._entry_points)
    point = project.get_entry_point(entry_point)
    options = {**({"lake": config.lake} if "lake" in point.parameters else {}), **params}
    if not str(options.get("lake", SCHEME)).startswith(SCHEME):
        raise UsageError(
            f"the lake '{options['lake']}' is a folder of this machine: give an s3:// prefix, or none"
        )
    words = shlex.split(point.compute_command(options, None))
    code = pack(tree, clean=load_policy().gate.clean_work_tree)
    return JobOrder(entry_point, tuple(words[words.index("spanishgas") + 1 :]), code, config)


def _created(session: boto3.Session, order: JobOrder, name: str, run: Any) -> Mapping[str, Any]:
    """The new job, or that of another process that was faster, whose run then stands for this one."""
    client, tracked = session.client("sagemaker"), projects.get_run_env_vars(run.run_id, run.experiment_id)
    parameters = order.parameters(name, {"AWS_DEFAULT_REGION": session.region_name, **tracked})
    try:
        created = create(client, parameters)
    except BaseException:
        MlflowClient().set_terminated(run.run_id, "FAILED")
        raise
    if created:
        return parameters
    MlflowClient().delete_run(run.run_id)
    return described(client, name) or parameters


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}

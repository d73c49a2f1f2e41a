"""What can be known to be wrong with a job before anything is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from spanishgas.aws.packing import other_environment
from spanishgas.aws.processing import code_of
from spanishgas.errors import UsageError
from spanishgas.troubles import words

if TYPE_CHECKING:
    from spanishgas.aws.backend import BackendConfig

SHARED = {"experiment", "ladder"}
"""Entry points whose work several instances share, by one study."""
ECR = re.compile(
    r"\d{12}\.dkr\.ecr\.(?P<region>[\w-]+)\.amazonaws\.com(\.cn)?/(?P<name>[^@:]+)"
    r"(@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))"
)


def check(tree: Path, entry_point: str, config: BackendConfig, tracking_uri: str) -> boto3.Session:
    """The session in which the job can be started; UsageError that says what is wrong and the way out."""
    session = boto3.Session()
    if not session.region_name:
        raise UsageError("no AWS region is set: set AWS_DEFAULT_REGION")
    if not tracking_uri.startswith(("http://", "https://")):
        raise UsageError(
            f"a job cannot reach the tracking store {tracking_uri}: set MLFLOW_TRACKING_URI to a server"
        )
    _size(entry_point, config, session)
    try:
        session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as fault:
        raise UsageError(words("aws_login", said=fault)) from fault
    _image(tree, config.image, session)
    return session


def _size(entry_point: str, config: BackendConfig, session: boto3.Session) -> None:
    types = session.client("sagemaker").meta.service_model.shape_for("ProcessingInstanceType").enum
    if config.instance_type not in types:
        raise UsageError.unknown("instance type", config.instance_type, types)
    study = config.environment.get("SPANISHGAS_STUDY_STORAGE", "")
    if config.count > 1 and not (entry_point in SHARED and study.startswith("postgresql")):
        raise UsageError(
            f"{config.count} instances would each do all of '{entry_point}': only {' and '.join(sorted(SHARED))} share "
            "their work, by a study that SPANISHGAS_STUDY_STORAGE (in `environment`) puts into PostgreSQL"
        )


def _image(tree: Path, image: str, session: boto3.Session) -> None:
    """Refuse an image that is not there, or was built from other packages; one that cannot be asked about passes."""
    place = ECR.fullmatch(image)
    if place is None:
        return
    if place["region"] != session.region_name:
        raise UsageError(
            f"the image {image} is in {place['region']}, the job in {session.region_name}: push it there"
        )
    for commit in _tags(place, image, session):
        if re.fullmatch(r"[0-9a-f]{40}", commit) and other_environment(tree, commit):
            raise UsageError(
                f"the image {image} was built from commit {commit[:12]}, whose uv.lock or Dockerfile is not the work "
                "tree's: push one of this commit (infra/push_images.sh), or check that commit out"
            )


def _tags(place: re.Match[str], image: str, session: boto3.Session) -> list[str]:
    wanted: dict[str, Any] = (
        {"imageDigest": place["digest"]} if place["digest"] else {"imageTag": place["tag"]}
    )
    try:
        said = session.client("ecr").describe_images(repositoryName=place["name"], imageIds=[wanted])
    except ClientError as fault:
        if code_of(fault) in ("ImageNotFoundException", "RepositoryNotFoundException"):
            raise UsageError(f"the image {image} is not there: push it (infra/push_images.sh)") from fault
        return []
    return [tag for detail in said["imageDetails"] for tag in detail.get("imageTags", [])]

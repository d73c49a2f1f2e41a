"""Versions as Model Packages, against an AWS control plane that is moto's server and an S3 over HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.errors import DataError, UsageError
from spanishgas.lifecycle import promotion, registry
from spanishgas.scoring.package import APPROVED, DIGEST, PENDING, export_package, group_name
from spanishgas.scoring.settings import Transform
from spanishgas.settings import settings
from tests.sagemaker_double import moto_server
from tests.versions import add_version

IMAGE = "123456789012.dkr.ecr.eu-south-2.amazonaws.com/spanishgas:serve"
PREFIX = "s3://scoring/spanishgas"


@pytest.fixture
def aws(tracking: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    MlflowClient().create_registered_model(settings().registered_model)
    with moto_server(monkeypatch, tracking):
        monkeypatch.setenv("SPANISHGAS_TRANSFORM_S3", PREFIX)
        monkeypatch.setenv("SPANISHGAS_TRANSFORM_IMAGE", IMAGE)
        yield boto3.client("sagemaker")


def described(aws: Any, arn: str) -> dict[str, Any]:
    told: dict[str, Any] = aws.describe_model_package(ModelPackageName=arn)
    return told


def stored(uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body: bytes = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def test_a_passed_version_is_a_package_with_archive_metrics_and_approval_once(aws: Any) -> None:
    number = add_version()
    said = CliRunner().invoke(app, ["export-package", number, "--group", "Churn of customers"])
    assert said.exit_code == 0, said.output
    arn = said.stdout.strip()
    package = described(aws, arn)
    assert package["ModelPackageGroupName"] == "Churn-of-customers"
    assert package["ModelApprovalStatus"] == APPROVED
    [container] = package["InferenceSpecification"]["Containers"]
    assert container["Image"] == IMAGE
    archive = stored(container["ModelDataUrl"])
    assert hashlib.sha256(archive).hexdigest() in container["ModelDataUrl"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        assert "MLmodel" in packed.getnames()
    report = json.loads(stored(package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]))
    assert report["binary_classification_metrics"]["average_precision"]["value"] == 0.75
    version = registry.resolve(number)
    facts = package["CustomerMetadataProperties"]
    assert facts[DIGEST] == version.digest
    assert facts["mlflow.version"] == f"{version.name}/{number}"
    assert export_package(number, "Churn of customers", Transform()) == arn
    assert (
        len(aws.list_model_packages(ModelPackageGroupName="Churn-of-customers")["ModelPackageSummaryList"])
        == 1
    )


def test_the_next_version_is_the_next_package_of_the_group(aws: Any) -> None:
    arns = [export_package(add_version(value), None, Transform()) for value in (0.75, 0.76)]
    group = group_name(settings().registered_model)
    assert [described(aws, arn)["ModelPackageVersion"] for arn in arns] == [1, 2]
    assert described(aws, arns[1])["ModelPackageGroupName"] == group


def test_approval_is_pending_until_an_approver_approves(
    aws: Any, tracking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = settings().experiments / "policy.yaml"
    folder = tracking / "experiments"
    folder.mkdir()
    for file in settings().experiments.glob("*.yaml"):
        (folder / file.name).write_text(file.read_text())
    text = policy.read_text().replace("approvers: []", f"approvers: [{promotion.who()}]")
    (folder / "policy.yaml").write_text(text)
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))
    settings.cache_clear()
    try:
        number = add_version()
        first = described(aws, export_package(number, "before", Transform()))
        promotion.approve(number, "looked at")
        second = described(aws, export_package(number, "after", Transform()))
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert (first["ModelApprovalStatus"], second["ModelApprovalStatus"]) == (PENDING, APPROVED)


def test_what_did_not_pass_was_rolled_back_or_differs_is_not_exported(aws: Any, tracking: Path) -> None:
    refused = add_version(0.5)
    with pytest.raises(UsageError, match=f"version {refused} of .* has no passed verdict: .* are exported"):
        export_package(refused, None, Transform())
    (tracking / "bytes").mkdir()
    (tracking / "bytes" / "MLmodel").write_text("flavors: {}\n")
    changed = add_version(source=str(tracking / "bytes"))
    (tracking / "bytes" / "MLmodel").write_text("flavors: {other: 1}\n")
    with pytest.raises(DataError, match="is not what was judged"):
        export_package(changed, None, Transform())
    assert aws.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SPANISHGAS_TRANSFORM_IMAGE", "", "needs SPANISHGAS_TRANSFORM_IMAGE"),
        ("SPANISHGAS_TRANSFORM_S3", "scoring", "'scoring' is not an S3 prefix"),
        ("AWS_DEFAULT_REGION", "", "region"),
    ],
)
def test_what_is_not_set_is_named_before_anything_is_written(
    aws: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    number = add_version()
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=message):
        export_package(number, None, Transform())
    assert "Contents" not in boto3.client("s3", region_name="eu-south-2").list_objects_v2(Bucket="scoring")

"""A passed version as a Model Package of SageMaker's Model Registry, for organisations that require one there.

MLflow's registry stays the only one that is believed: nothing here reads what SageMaker holds, but to find the package
that is there already.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from spanishgas.errors import UsageError
from spanishgas.lifecycle import promotion, registry
from spanishgas.lifecycle.version import Version
from spanishgas.scoring.jobs import archived, open_prefix
from spanishgas.scoring.payload import Media
from spanishgas.scoring.sagemaker_sdk import session_here
from spanishgas.scoring.settings import Transform

APPROVED, PENDING = "Approved", "PendingManualApproval"
DIGEST = "spanishgas.verdict"
NO_GROUP = ("ValidationException", "ResourceNotFound")
"""How SageMaker says that there is no such group."""
LONGEST_NAME = 63


def export_package(which: str, group: str | None, settings: Transform) -> str:
    """Register a version that passed its gate as a Model Package in `group`; gives the package's ARN.

    The package holds the archive that transform jobs use, the holdout's metrics, a model card, and the approval status
    that follows from the verdict: Approved, or PendingManualApproval where policy.yaml names approvers of whom none has
    approved. The same verdict gives the package that is there already. UsageError for a version that may not be
    champion, for a setting that is missing, and where AWS refuses.
    """
    version = registry.resolve(which).checked()
    if version.fault:
        raise UsageError(
            f"{version.named} {version.fault}: only versions that passed their gate are exported"
        )
    if not settings.image:
        raise UsageError(
            "a package needs SPANISHGAS_TRANSFORM_IMAGE, the image that serves it: see docs/scoring.md"
        )
    store, session = open_prefix(settings), session_here()
    name = group_name(group or version.name)
    try:
        client = session.client("sagemaker")
        _with_group(client, name, version)
        if (made := _there(client, name, version)) is not None:
            return made
        folder, archive = archived(store, version.folder)
        store.write(f"{folder}/metrics.json", json.dumps(metrics(version)).encode())
        package = _package(version, settings, archive, store.uri(f"{folder}/metrics.json"))
        return str(client.create_model_package(ModelPackageGroupName=name, **package)["ModelPackageArn"])
    except (ClientError, BotoCoreError) as fault:
        raise UsageError(
            f"the package of {version.named} was not registered in group {name}: {fault}"
        ) from fault


def group_name(name: str) -> str:
    """The name as SageMaker takes one: letters, digits and single hyphens, at most 63."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:LONGEST_NAME].rstrip("-")


def metrics(version: Version) -> dict[str, Any]:
    """The holdout's metrics in the schema of SageMaker's model quality reports, with half a 95 % interval as deviation.

    Intervals of the project are not symmetric: the standard deviation stands for a quarter of their width.
    """
    values = version.metrics
    return {
        "binary_classification_metrics": {
            metric.removeprefix("holdout."): {
                "value": value,
                "standard_deviation": _deviation(values, metric),
            }
            for metric, value in values.items()
            if not metric.endswith((".low", ".high"))
        }
    }


def _deviation(values: dict[str, float], metric: str) -> float | str:
    ends = [values.get(f"{metric}.{end}") for end in ("low", "high")]
    return "NaN" if None in ends else (float(ends[1] or 0) - float(ends[0] or 0)) / 4


def _there(client: Any, group: str, version: Version) -> str | None:
    """The ARN of the package in the group that was made of the same verdict."""
    pages = client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
    for summary in (package for page in pages for package in page["ModelPackageSummaryList"]):
        arn = str(summary["ModelPackageArn"])
        told = client.describe_model_package(ModelPackageName=arn)
        if told.get("CustomerMetadataProperties", {}).get(DIGEST) == version.digest:
            return arn
    return None


def _with_group(client: Any, group: str, version: Version) -> None:
    try:
        client.describe_model_package_group(ModelPackageGroupName=group)
    except ClientError as fault:
        if fault.response["Error"]["Code"] not in NO_GROUP:
            raise
        words = f"Versions of {version.name} that passed their gate, from MLflow's registry"
        client.create_model_package_group(ModelPackageGroupName=group, ModelPackageGroupDescription=words)


def _package(version: Version, settings: Transform, archive: str, report: str) -> dict[str, Any]:
    media = [str(kind.value) for kind in Media]
    container: dict[str, Any] = {"Image": settings.image, "ModelDataUrl": archive, "Environment": {}}
    return {
        "ClientToken": hashlib.sha256(f"{version.digest} {settings.image}".encode()).hexdigest()[:36],
        "ModelPackageDescription": f"{version.named}: gate {version.verdict.words}"[:1024],
        "InferenceSpecification": {
            "Containers": [container],
            "SupportedContentTypes": media,
            "SupportedResponseMIMETypes": media,
            "SupportedTransformInstanceTypes": [settings.instance_type],
        },
        "ModelMetrics": {
            "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": report}}
        },
        "ModelApprovalStatus": APPROVED if promotion.approved(version) else PENDING,
        "ModelCard": {"ModelCardContent": json.dumps(_card(version)), "ModelCardStatus": "Draft"},
        "CustomerMetadataProperties": _facts(version),
        "Domain": "MACHINE_LEARNING",
        "Task": "CLASSIFICATION",
    }


def _card(version: Version) -> dict[str, Any]:
    """What SageMaker's model card has fields for; the whole card is the run's."""
    numbers = [{"name": k, "type": "number", "value": v} for k, v in version.metrics.items()]
    chosen = version.record.chosen
    return {
        "model_overview": {"model_description": f"Probability that a customer leaves: {version.named}"},
        "intended_uses": {
            "purpose_of_model": "Choosing customers for retention offers, by people who decide."
        },
        "training_details": {
            "training_observations": f"{chosen.experiment}, {chosen.model}, data of {chosen.as_of}"
        },
        "evaluation_details": [
            {"name": "holdout", "metric_groups": [{"name": "holdout", "metric_data": numbers}]}
        ],
        "additional_information": {"custom_details": _facts(version)},
    }


def _facts(version: Version) -> dict[str, str]:
    """What leads back to MLflow's record; SageMaker holds texts of at most 256 characters."""
    facts = {
        DIGEST: version.digest,
        "mlflow.version": f"{version.name}/{version.number}",
        "mlflow.run": version.run_id,
        "data.digest": version.record.chosen.gold,
        "experiment": version.record.chosen.experiment,
    }
    return {name: fact for name, fact in facts.items() if fact}

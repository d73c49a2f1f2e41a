"""The registered model: versions, aliases, and how a version is loaded.

The alias `champion` is the only switch: whatever it points to is what scores.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stderr
from enum import StrEnum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema, TensorSpec

from spanishgas.errors import TrackingError
from spanishgas.lifecycle import history
from spanishgas.lifecycle.promotion_lock import promotion_lock
from spanishgas.lifecycle.version import Version
from spanishgas.settings import registered_model, settings
from spanishgas.stages import outside

if TYPE_CHECKING:
    from spanishgas.training.model import ChurnModel
    from spanishgas.training.offers import OfferModel

log = logging.getLogger("spanishgas")
PACKAGE = Path(__file__).resolve().parents[1]
OPENINGS = "holdout_openings"
PINNED = (
    "mlflow",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "skops",
    "pyyaml",
    "pydantic",
    "pydantic-settings",
)


class Alias(StrEnum):
    """Names that point to a version."""

    CHAMPION = history.CHAMPION
    CHALLENGER = "challenger"
    PREVIOUS = "previous"


def requirements(model: ChurnModel | OfferModel) -> list[str]:
    """What a loader of the model must install, pinned to what is installed here."""
    distributions = _distributions()
    needed = [distributions[package][0] for package in model.packages]
    return [f"{name}=={metadata.version(name)}" for name in (*PINNED, *needed)]


@cache
def _distributions() -> Mapping[str, list[str]]:
    """The installed distributions by what is imported of them; to list them takes a second."""
    return metadata.packages_distributions()


def signature(model: ChurnModel | OfferModel) -> ModelSignature:
    """Inputs: a double per number or flag, a string per category; outputs as the model has them."""
    from spanishgas.training.matrix import is_text

    inputs: list[ColSpec | TensorSpec] = [
        ColSpec("string" if is_text(model.kinds[f]) else "double", f) for f in model.features
    ]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in model.outputs.items()]
    return ModelSignature(Schema(inputs), Schema(outputs))


def example(model: ChurnModel | OfferModel) -> pd.DataFrame:
    """Three made-up customers: all zeros, all ones, and everything unknown. No row of any real table."""
    from spanishgas.training.matrix import is_text

    texts, numbers = ("none", "other", None), (0.0, 1.0, np.nan)
    return pd.DataFrame({f: texts if is_text(model.kinds[f]) else numbers for f in model.features})


def log_model(model: ChurnModel | OfferModel, name: str, params: Mapping[str, object]) -> Any:
    """The model as a logged model of the open run, in skops format (never pickle); gives MLflow's ModelInfo."""
    import mlflow.sklearn

    from spanishgas.training import artefact

    return mlflow.sklearn.log_model(
        model,
        name=name,
        signature=signature(model),
        input_example=example(model),
        pip_requirements=requirements(model),
        code_paths=[str(PACKAGE)],
        serialization_format="skops",
        skops_trusted_types=artefact.trusted(),
        pyfunc_predict_fn="predict",
        params={k: str(v) for k, v in params.items()},
        model_type="classifier",
    )


def add_version(model_uri: str, tags: Mapping[str, str], description: str) -> Version:
    """A new version of the registered model from a logged model."""
    with redirect_stderr(io.StringIO()) as said:  # MLflow prints what is no news; its failures are exceptions
        made = mlflow.register_model(model_uri, registered_model(), tags=dict(tags))
    log.debug(said.getvalue().strip())
    return Version(MlflowClient().update_model_version(made.name, made.version, description), history.read())


def resolve(which: str) -> Version:
    """The version behind an alias or a number; TrackingError that says what to run where there is none.

    What else the server may answer (no login, a fault of its own) stays MLflow's own exception.
    """
    outside(f"the version behind {which}")
    client, name = MlflowClient(), registered_model()
    try:
        by_number = which.isdigit()
        find = client.get_model_version if by_number else client.get_model_version_by_alias
        return Version(find(name, which), history.read())
    except MlflowException as fault:
        if fault.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        of_offers = name != settings().registered_model
        judge, promote = ("uplift", "promote --offers") if of_offers else ("evaluate", "promote")
        hint = f"spanishgas {promote if which == Alias.CHAMPION else judge}"
        raise TrackingError(
            f"{name} has no version '{which}' at {mlflow.get_tracking_uri()}: run `{hint}` first"
        ) from fault


def champion() -> Version | None:
    """The version that `champion` points to, if any."""
    number = aliases().get(Alias.CHAMPION)
    return resolve(number) if number else None


def versions() -> list[Version]:
    """Every version of the registered model, oldest first."""
    outside("the versions of the registered model")
    moves = history.read()
    return sorted((Version(one, moves) for one in _listed()), key=lambda v: int(v.number))


def _listed() -> list[ModelVersion]:
    return list(MlflowClient().search_model_versions(f"name = '{registered_model()}'"))


def numbers() -> set[str]:
    """Numbers of the versions that are there."""
    return {str(one.version) for one in _listed()}


def point(alias: Alias, version: str | None) -> None:
    """Make `alias` point to `version`, or to nothing."""
    if version is None:
        if alias in aliases():
            MlflowClient().delete_registered_model_alias(registered_model(), alias.value)
        return
    MlflowClient().set_registered_model_alias(registered_model(), alias.value, version)


def aliases() -> dict[str, str]:
    """Version number by alias (search_model_versions leaves aliases out); empty without a registered model."""
    outside("the aliases of the registered model")
    return history.read().aliases


def probations() -> dict[str, str]:
    """How versions that were champion fare on probation, in words, by number."""
    return {v.number: v.tags[history.PROBATION] for v in versions() if history.PROBATION in v.tags}


def count_opening() -> int:
    """Count one more opening of the holdout, on the registered model, made if need be; gives the count so far.

    Every version stands for an opening: whoever sets the tag back makes nobody believe in fewer.
    """
    client, name = MlflowClient(), registered_model()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Churn of an energy utility's customers")
    with promotion_lock(name):
        counted = client.get_registered_model(name).tags.get(OPENINGS, "")
        opened = 1 + (int(counted) if counted.isdecimal() else 0)
        client.set_registered_model_tag(name, OPENINGS, str(opened))
        return max(opened, 1 + len(_listed()))

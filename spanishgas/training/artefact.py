"""The model as a file: skops, never pickle, and held against our own list of types before anything in it is loaded."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TypeVar

from spanishgas.config.search import families, family
from spanishgas.errors import DataError, UsageError
from spanishgas.training.model import ChurnModel

M = TypeVar("M")

FILE = "model.skops"
COMMON = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "spanishgas.training.curves.CalibratedMargins",
    "spanishgas.training.curves.RisingCurve",
    "spanishgas.training.effects.ArmsModel",
    "spanishgas.training.hazard.HazardModel",
    "spanishgas.training.model.ChurnModel",
    "spanishgas.training.offers.OfferModel",
    "spanishgas.training.uplift.FoldLearner",
    "spanishgas.training.uplift.UpliftModel",
    "xgboost.sklearn.XGBRegressor",
    # the estimators of versions of before
    *(f"spanishgas.training.estimators.{name}" for name in ("BoostedTrees", "Forest", "Linear")),
)


def trusted() -> list[str]:
    """The types beyond skops's own list that a model artefact may hold; anything else is not loaded."""
    return [*COMMON, *(type_ for name in families() for type_ in family(name).trusted)]


def load(folder: Path, named: str, sha256: str = "") -> ChurnModel:
    """The churn model in `folder`, as `load_as` gives it."""
    return load_as(ChurnModel, folder, named, sha256)


def load_as(kind: type[M], folder: Path, named: str, sha256: str = "") -> M:
    """The model of this kind in `folder`; UsageError under the name `named` where there is none that is trusted.

    DataError where the file has not the digest `sha256`, if one is given, or is damaged. MLflow reads the list of
    trusted types from the artefact itself, which an attacker would have written.
    """
    file = folder / FILE
    if not file.exists():
        raise UsageError(f"{named} is not a skops artefact of this project: it has no {FILE}")
    if sha256 and (digest := hashlib.sha256(file.read_bytes()).hexdigest()) != sha256:
        raise DataError(
            f"{FILE} of {named} is not the file that was judged (SHA-256 {digest[:12]} instead of {sha256[:12]}). It "
            "was not loaded: put that file back, or score again to send it anew"
        )
    import skops.io

    try:
        unknown = set(skops.io.get_untrusted_types(file=file)) - set(trusted())
        if unknown:
            raise UsageError(
                f"{named} holds types that are not trusted: {sorted(unknown)}. "
                "It was not loaded; register a version made by `spanishgas evaluate`."
            )
        model = skops.io.load(file, trusted=trusted())
    except zipfile.BadZipFile as fault:
        raise DataError(
            f"{FILE} of {named} is damaged ({fault}), as an upload that was cut off leaves it. It was not loaded; use "
            "another version."
        ) from fault
    if not isinstance(model, kind):
        raise UsageError(f"{named} holds a {type(model).__name__}, and no {kind.__name__} of this project")
    return model

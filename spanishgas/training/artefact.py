"""The model as a file: skops, never pickle, and held against our own list of types before anything in it is loaded."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from spanishgas.config.search import families, family
from spanishgas.errors import DataError, UsageError
from spanishgas.training.model import ChurnModel

FILE = "model.skops"
COMMON = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "spanishgas.training.curves.CalibratedMargins",
    "spanishgas.training.curves.RisingCurve",
    "spanishgas.training.hazard.HazardModel",
    "spanishgas.training.model.ChurnModel",
    # the estimators of versions of before
    *(f"spanishgas.training.estimators.{name}" for name in ("BoostedTrees", "Forest", "Linear")),
)


def trusted() -> list[str]:
    """The types beyond skops's own list that a model artefact may hold; anything else is not loaded."""
    return [*COMMON, *(type_ for name in families() for type_ in family(name).trusted)]


def load(folder: Path, named: str, sha256: str = "") -> ChurnModel:
    """The model in `folder`; UsageError under the name `named` where there is none, or one that is not trusted.

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
    if not isinstance(model, ChurnModel):
        raise UsageError(f"{named} holds a {type(model).__name__}, no churn model of this project")
    return model

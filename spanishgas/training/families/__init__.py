"""The model families: a module each, found by its name, and a block each in search.yaml.

A module has the literal `FAMILY` (config.search.ModelFamily) and a function `build`, which makes an unfitted estimator
of its parameters, class_weight (None where all rows count alike), random_state and n_jobs. All estimators are
scikit-learn's in form, take `sample_weight`, give the same model with any number of threads, and have

- `decision_function`: the margin (log odds of churn), the scale that Platt's calibration is defined on; the score of a
  row does not depend on the rows beside it
- `contributions`: what each encoded column adds to a row's risk, shape (rows, columns)
- `fit_stopping`, if the family has early stopping: fits as many trees as still raise average precision on rows aside,
  and gives their number

Parameters of the project's own mean the same for every family: class_weight (none or balanced) and categories (one_hot
or native).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from spanishgas.config.reading import Value
from spanishgas.config.search import PLACES, family
from spanishgas.settings import settings
from spanishgas.training.matrix import is_text

__path__ = PLACES  # what the reader of search.yaml takes for a family is what can be imported as one
NATIVE = "native"


def is_native(params: Mapping[str, Value]) -> bool:
    """Whether the parameters leave categories to the estimator."""
    return params.get("categories") == NATIVE


def estimator(
    model: str,
    params: Mapping[str, Value],
    seed: int,
    *,
    balance: float = 1.0,
    types: Sequence[str] | None = None,
    threads: int | None = None,
) -> Any:
    """The unfitted estimator of a family, which takes `threads`; those of the settings if None.

    `balance` is rows of class 0 per row of class 1, which `class_weight: balanced` makes up for; `types` are those of
    the encoded columns, needed where categories are native.
    """
    family(model)  # refuses an unknown one
    options: dict[str, Any] = {"class_weight": "none"} | dict(params)
    native = options.pop("categories", None) == NATIVE
    options["class_weight"] = None if options["class_weight"] == "none" else options["class_weight"]
    options |= {"random_state": seed % 2**32, "n_jobs": threads or settings().threads or -1}
    build = import_module(f"{__name__}.{model}").build
    return build(options, balance=balance, types=list(types or []) if native else None)


def family_of(fitted: object) -> str:
    """The family that an estimator is of."""
    return type(fitted).__module__.rpartition(".")[2]


def column_types(features: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
    """The type of each column that the preprocessor gives with native categories: numbers first."""
    texts = sum(is_text(kinds[f]) for f in features)
    return ["float"] * (len(features) - texts) + ["c"] * texts

"""What the gate judges beyond the holdout's metrics: the input's contract, the artefact, and the champion beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature

from spanishgas.config.policy import Offers
from spanishgas.config.tiers import Tiers
from spanishgas.contracts import check_pandas
from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.evaluation.inference import Predictions, differences
from spanishgas.evaluation.metrics import Labels
from spanishgas.evaluation.value import realised_value
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.gate import Against
from spanishgas.lifecycle.version import Version
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel

TIMED = 1000
"""Rows that are scored to take the time."""


def contract_faults(gold: pd.DataFrame, tiers: Tiers) -> int:
    """Ways in which a gold table breaks its contract; 0 where it keeps it."""
    try:
        check_pandas("gold_master", gold, tiers)
    except ContractError as fault:
        return str(fault).count("\n  - ")
    return 0


def megabytes(folder: Path) -> float:
    """Size of the model file of an artefact."""
    return sum(file.stat().st_size for file in folder.glob("model.*")) / 1e6


def seconds_per_thousand(model: ChurnModel, rows: pd.DataFrame) -> float:
    """The least of three times that scoring 1,000 customers takes: other work on the machine only adds to it."""
    thousand = rows.iloc[np.arange(TIMED) % len(rows)]
    return min(_timed(model, thousand) for _ in range(3))


def _timed(model: ChurnModel, rows: pd.DataFrame) -> float:
    began = time.perf_counter()
    model.predict(rows)
    return time.perf_counter() - began


def predictions(model: ChurnModel, rows: pd.DataFrame, y: Labels, offers: Offers) -> Predictions:
    """What a model says of labelled customers, and what `offers` to whom it flags would have brought."""
    scored = model.predict(rows)
    probability = scored[PROBABILITY].to_numpy()
    margin = rows["avg_monthly_margin"].to_numpy()
    return Predictions(probability, realised_value(probability, scored[FLAG].to_numpy(), y, margin, offers))


def against(
    champion: Version, model: ChurnModel, rows: pd.DataFrame, y: Labels, offers: Offers, seed: int
) -> Against | None:
    """What the model is beside the champion on the same held-out customers.

    None where the champion cannot be loaded or cannot score these rows: the gate then refuses.
    """
    try:
        incumbent = champion.model
        theirs = predictions(incumbent, rows, y, offers)
    except (SpanishGasError, MlflowException, OSError):
        return None
    ours = predictions(model, rows, y, offers)
    changes = _changes(registry.signature(model), registry.signature(incumbent))
    return Against(champion.number, differences(y, ours, theirs, seed), float(theirs.value.sum()), changes)


def _changes(ours: ModelSignature, theirs: ModelSignature) -> int:
    sides: Sequence[set[tuple[str, str]]] = [
        {(str(c.name), str(c.type)) for part in (s.inputs, s.outputs) for c in part} for s in (ours, theirs)
    ]
    return len({name for name, _ in sides[0] ^ sides[1]})

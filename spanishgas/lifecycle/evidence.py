"""What the gate judges beyond the holdout's metrics: the input's contract, the artefact, and the champion beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature

from spanishgas import code
from spanishgas.config.policy import Policy
from spanishgas.contracts import check_pandas
from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.evaluation.leakage import Finding
from spanishgas.evaluation.metrics import Labels
from spanishgas.evaluation.paired import Predictions, calibration_by_chance, differences
from spanishgas.evaluation.slices import Slice
from spanishgas.evaluation.value import realised_value
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.gate import Against, Evidence
from spanishgas.lifecycle.registry import Alias
from spanishgas.training.model import FLAG, PROBABILITY, ChurnModel

TIMED = 1000
"""Rows that are scored to take the time."""


def contract_faults(gold: pd.DataFrame) -> int:
    """Ways in which a gold table breaks its contract; 0 where it keeps it."""
    try:
        check_pandas("gold_master", gold)
    except ContractError as fault:
        return str(fault).count("\n  - ")
    return 0


def megabytes(model_uri: str) -> float:
    """Size of the model file of a logged model."""
    folder = Path(mlflow.artifacts.download_artifacts(model_uri))
    return sum(file.stat().st_size for file in folder.glob("model.*")) / 1e6


def seconds_per_thousand(model: ChurnModel, rows: pd.DataFrame) -> float:
    """The least of three times that scoring 1,000 customers takes: other work on the machine only adds to it."""
    thousand = rows.iloc[np.arange(TIMED) % len(rows)]
    return min(_timed(model, thousand) for _ in range(3))


def _timed(model: ChurnModel, rows: pd.DataFrame) -> float:
    began = time.perf_counter()
    model.predict(rows)
    return time.perf_counter() - began


def predictions(model: ChurnModel, rows: pd.DataFrame, y: Labels, policy: Policy) -> Predictions:
    """What a model says of labelled customers, and what the policy's offers to whom it flags would have brought."""
    scored = model.predict(rows)
    probability = scored[PROBABILITY].to_numpy()
    margin = rows["avg_monthly_margin"].to_numpy()
    value = realised_value(probability, scored[FLAG].to_numpy(), y, margin, policy.offers)
    return Predictions(probability, value)


def against_champion(
    model: ChurnModel, rows: pd.DataFrame, y: Labels, policy: Policy, seed: int
) -> tuple[bool, Against | None]:
    """Whether there is no champion yet, and what the model is beside it on the same held-out customers.

    The comparison is None where the champion cannot be loaded or cannot score these rows: the gate then refuses.
    """
    number = registry.aliases().get(Alias.CHAMPION)
    if number is None:
        return True, None
    try:
        champion = registry.load(number).model
        theirs = predictions(champion, rows, y, policy)
    except (SpanishGasError, MlflowException, OSError):
        return False, None
    ours = predictions(model, rows, y, policy)
    changes = _changes(registry.signature(model), registry.signature(champion))
    return False, Against(number, differences(y, ours, theirs, seed), float(theirs.value.sum()), changes)


def _changes(ours: ModelSignature, theirs: ModelSignature) -> int:
    sides: Sequence[set[tuple[str, str]]] = [
        {(str(c.name), str(c.type)) for part in (s.inputs, s.outputs) for c in part} for s in (ours, theirs)
    ]
    return len({name for name, _ in sides[0] ^ sides[1]})


def gather(
    model: ChurnModel,
    model_uri: str,
    gold: pd.DataFrame,
    held_out: pd.DataFrame,
    metrics: Mapping[str, float],
    findings: Sequence[Finding],
    slices: Sequence[Slice],
    policy: Policy,
    seed: int,
) -> Evidence:
    """Everything that the gate asks of a version; `held_out` are its labelled rows of `gold`, once they are open."""
    y = held_out["churn"].to_numpy(dtype="int64")
    first, against = against_champion(model, held_out, y, policy, seed)
    return Evidence(
        metrics=metrics,
        churn_rate=float(y.mean()),
        calibration_by_chance=calibration_by_chance(model.predict_proba(held_out)[:, 1], seed),
        contract_faults=contract_faults(gold),
        findings=findings,
        slices=slices,
        megabytes=megabytes(model_uri),
        seconds_per_thousand=seconds_per_thousand(model, held_out),
        dirty=code.dirty(),
        first=first,
        against=against,
    )

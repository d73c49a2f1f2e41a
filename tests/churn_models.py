"""Small fitted models of each kind, and gold rows with everything that is odd in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import skops.io

from spanishgas.config.policy import load_policy
from spanishgas.config.reading import Value
from spanishgas.config.search import FOREST, LOGISTIC, XGBOOST, family
from spanishgas.features import load_tiers
from spanishgas.lake import Lake
from spanishgas.lifecycle.version import Version
from spanishgas.scoring import payload
from spanishgas.scoring.parts import Shards, Task
from spanishgas.scoring.payload import Media
from spanishgas.scoring.serving import scored
from spanishgas.scoring.settings import MEGABYTE
from spanishgas.training.artefact import FILE
from spanishgas.training.calibration import Curve, fit_final
from spanishgas.training.matrix import matrix
from spanishgas.training.model import ChurnModel
from spanishgas.training.search import Training
from spanishgas.training.sides import labelled
from tests.gold_frames import gold_frame, publish_gold

NATIVE = "native categories, isotonic"
BOOSTED: dict[str, Value] = {"n_estimators": 20, "max_depth": 3, "learning_rate": 0.3}
SMALL: dict[str, tuple[str, dict[str, Value], Curve]] = {
    XGBOOST: (XGBOOST, BOOSTED, Curve.SIGMOID),
    FOREST: (FOREST, {"n_estimators": 20, "max_depth": 5}, Curve.SIGMOID),
    LOGISTIC: (LOGISTIC, {"C": 1.0, "max_iter": 1000}, Curve.SIGMOID),
    NATIVE: (XGBOOST, BOOSTED | {"categories": "native"}, Curve.ISOTONIC),
}
"""Models by name: that of their kind, and what else a search may come to."""


@cache
def churn_model(name: str) -> ChurnModel:
    """The model of `SMALL` on every feature that its kind may take."""
    tiers, (kind, params, curve) = load_tiers(), SMALL[name]
    names = [f for f in tiers.features() if family(kind).linear or tiers.kind(f) != "cross"]
    kinds = {f: tiers.kind(f) for f in names}
    gold = labelled(gold_frame(400, seed=3))
    y = gold["churn"].to_numpy(dtype="int64")
    training = Training(matrix(gold, names, kinds), y, names, kinds, kind, folds=3, seed=1)
    return fit_final(training, params, 0.3, load_policy(), curve)


def artefact_of(name: str, folder: Path) -> Path:
    """A folder that holds the model as the registry keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(churn_model(name), folder / FILE)
    return folder


def odd_gold(rows: int = 300) -> pd.DataFrame:
    """Nulls in every column that may hold them, categories never seen, ids and texts of every alphabet, odd numbers."""
    frame = gold_frame(rows, seed=9, labelled=False)
    rng = np.random.default_rng(4)
    tiers = load_tiers()
    for name in tiers.features():
        if tiers.kind(name) != "flag" and not tiers.entry(name).whole:
            frame.loc[rng.random(rows) < 0.15, name] = None
    frame["segment"] = frame["segment"].where(rng.random(rows) > 0.1, 'Municipio, «nuevo»\n"A"')
    frame["sales_channel"] = frame["sales_channel"].where(rng.random(rows) > 0.1, "")
    ids = [
        "Ñandú-1",
        "客户二",
        'with "quotes", and commas',
        "line\nbreak",
        "é",
        "e\u0301",
        " 007 ",
        "NULL",
        "1e3",
    ]
    frame.loc[: len(ids) - 1, "customer_id"] = ids
    numbers = ["avg_monthly_elec_kwh", "months_to_renewal", "std_margin"]
    frame[numbers] *= np.pi
    frame.loc[0, numbers] = [1e-300, -0.0, 1 / 3]
    return frame


def task_of(name: str, media: Media, root: Path, frame: pd.DataFrame, rows: int) -> Task:
    """Gold in a lake, a model in a folder, and the parts of the one for the other."""
    gold = publish_gold(Lake(root / "lake"), frame, date(2024, 12, 31))
    columns = list(payload.inputs(churn_model(name)))
    shards = Shards(gold, columns, media, rows, MEGABYTE)
    return Task(cast(Version, VersionDouble(artefact_of(name, root / "model"))), shards)


@dataclass(frozen=True)
class VersionDouble:
    """A version that no registry has."""

    folder: Path
    number: str = "1"
    name: str = "m"
    run_id: str = ""

    @property
    def record(self) -> SimpleNamespace:
        files = {FILE: hashlib.sha256((self.folder / FILE).read_bytes()).hexdigest()}
        return SimpleNamespace(manifest=SimpleNamespace(files=files))


def score_body(model: ChurnModel, body: bytes, media: Media, rows: int = 10**6) -> bytes:
    """The serving process's own answer to a body, without the process."""
    return scored(model, payload.read(body, media, payload.inputs(model), rows), media)

"""Churn of an energy utility's customers, from raw meter readings to scored offers.

`spanishgas.score(table, model=...)` scores a table in a notebook; everything else is a verb of the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from spanishgas.training.model import ChurnModel

__all__ = ["score"]


def score(table: pd.DataFrame, model: ChurnModel | str | Path = "champion") -> pd.DataFrame:
    """customer_id, churn_probability, churn_flag and risk_tier of each row of `table`, indexed like it.

    `table` holds customer_id and every input of the model. `model` is a fitted model, the folder of its artefact (one
    with model.skops), or an alias or number of a version in the MLflow registry. Nothing is written anywhere.
    """
    from spanishgas.scoring.score import score_table

    return score_table(table, model)

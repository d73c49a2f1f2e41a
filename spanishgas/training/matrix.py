"""The model matrix: how gold's columns become numbers.

Every fill lives inside the fitted preprocessor, so training and scoring cannot differ:
- last_interaction_days_ago null -> 9999; sentiment_label and customer_intent null -> "no_interaction"
- other categories null -> "missing"; a category unseen in training -> all zeros, or null where the model reads
  categories itself
- other numbers stay null for trees; linear models take the training median, a missing indicator and unit variance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from spanishgas.errors import DataError

NO_CONTACT_DAYS = 9999.0
NO_CONTACT = "no_interaction"
DAYS_AGO = "last_interaction_days_ago"
CONTACT_LABELS = ("sentiment_label", "customer_intent")


def matrix(rows: pd.DataFrame, features: Sequence[str], kinds: Mapping[str, str]) -> pd.DataFrame:
    """Columns `features` of `rows` in one fixed type each: float64, or str objects with NaN for null."""
    missing = [f for f in features if f not in rows.columns]
    if missing:
        raise DataError(
            f"the table lacks the model's inputs {missing}: run the ETL of this version of the project"
        )
    columns = {}
    for name in features:
        if is_text(kinds[name]):
            text = rows[name].astype(object)
            columns[name] = text.where(text.notna(), np.nan)
        else:
            columns[name] = pd.to_numeric(rows[name], errors="raise").astype("float64")
    return pd.DataFrame(columns, index=rows.index)


def is_text(kind: str) -> bool:
    """Whether a feature of this kind holds text (a category or a crossed string)."""
    return kind in ("category", "cross")


def preprocessor(
    features: Sequence[str], kinds: Mapping[str, str], *, linear: bool, native: bool = False
) -> ColumnTransformer:
    """The unfitted transformer from gold's columns to a dense matrix of numbers.

    Categories are spread over a column per value; `native` gives each one column of codes, after all numbers.
    """
    texts = [f for f in features if is_text(kinds[f])]
    contact = [f for f in texts if f in CONTACT_LABELS]
    other = [f for f in texts if f not in CONTACT_LABELS]
    ages = [f for f in features if f == DAYS_AGO]
    rest = [f for f in features if f not in texts and f not in ages]
    days, numbers = _constant(NO_CONTACT_DAYS), "passthrough"
    if linear:
        median = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
        days, numbers = (make_pipeline(fill, StandardScaler()) for fill in (days, median))
    steps = [
        ("days", days, ages),
        ("numbers", numbers, rest),
        ("contact", _categories(NO_CONTACT, native), contact),
        ("category", _categories("missing", native), other),
    ]
    return ColumnTransformer([s for s in steps if s[2]], sparse_threshold=0.0)


def _constant(fill: float | str) -> SimpleImputer:
    return SimpleImputer(strategy="constant", fill_value=fill, keep_empty_features=True)


def _categories(fill: str, native: bool) -> Pipeline:
    if native:
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
        return make_pipeline(_constant(fill), codes)
    return make_pipeline(_constant(fill), OneHotEncoder(handle_unknown="ignore", sparse_output=False))


def encoded_sources(fitted: ColumnTransformer) -> list[str]:
    """The feature that each column of the encoded matrix comes from."""
    sources: list[str] = []
    for _, step, columns in fitted.transformers_:
        names = list(columns) if not isinstance(columns, slice) else []
        encoder = step[-1] if isinstance(step, Pipeline) else step
        if isinstance(encoder, OneHotEncoder):
            for name, categories in zip(names, encoder.categories_, strict=True):
                sources += [name] * len(categories)
        else:
            sources += names
            if isinstance(step, Pipeline) and step[0].indicator_ is not None:
                sources += [names[i] for i in step[0].indicator_.features_]
    return sources

"""The data dictionary, experiments/tiers.yaml: every feature's tier, kind, words for a reader, and definition."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, RootModel, model_validator

from spanishgas.config.reading import Names, Strict, Text, fault, read
from spanishgas.errors import UsageError
from spanishgas.settings import settings

BESIDE = (
    *("customer_id", "churn", "avg_monthly_margin", "total_margin_2024", "contracted_power_kw", "is_urban"),
    *("as_of", "model_version"),
)
"""Columns that stand beside the features of a customer, so that no feature may have their names."""
FeatureKind = Literal["numeric", "flag", "category", "cross"]


class Entry(Strict):
    """One feature."""

    kind: FeatureKind
    words: Text
    """What a retention agent reads where this feature is a reason."""
    definition: Text
    whole: bool = False
    """Whether a numeric feature is a count that is never null: int64 in gold, else float64."""
    low: float | None = None
    high: float | None = None
    values: Names | None = Field(None, min_length=1)
    """The labels that a category may have."""
    max_null: float = Field(1.0, ge=0, le=1)
    """Largest share of customers without a value."""

    @model_validator(mode="after")
    def _limits_fit_the_kind(self) -> Entry:
        kind = "whole" if self.whole else self.kind
        if self.kind != "numeric" and (self.whole or self.low is not None or self.high is not None):
            raise ValueError(f"whole, low and high are for numeric features, but this one is {self.kind}")
        if self.values is not None and self.kind != "category":
            raise ValueError(f"values are for categories, but this feature is {self.kind}")
        if kind in ("whole", "flag", "cross") and "max_null" in self.model_fields_set:
            raise fault("max_null", f"is not for {kind} features, which are never null", self.max_null)
        if self.low is not None and self.high is not None and self.low > self.high:
            raise fault("low", f"must be at most high, {self.high}", self.low)
        return self


class Tier(Strict):
    """Features that enter the ladder together."""

    title: Text
    features: dict[str, Entry] = Field(min_length=1)


class Tiers(RootModel[dict[str, Tier]]):
    """The data dictionary.

    - `features` keeps the file's order; a feature stands in one tier only.
    - An unknown tier or feature raises `UsageError` that suggests the nearest name.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    @property
    def tiers(self) -> dict[str, Tier]:
        """Tiers by name, in the file's order."""
        return self.root

    @model_validator(mode="after")
    def _each_feature_once(self) -> Tiers:
        names = [name for tier in self.tiers.values() for name in tier.features]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"features in more than one tier: {', '.join(twice)}")
        for tier, name in ((t, n) for t, row in self.tiers.items() for n in row.features):
            if name in BESIDE or not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise fault(f"{tier}.features.{name}", "must be a new column's name, in small letters", name)
        return self

    def features(self, tier_names: Iterable[str] | None = None) -> list[str]:
        """Features of the named tiers (all, if none are named), in the order of the names and of the file."""
        names = list(self.tiers) if tier_names is None else list(tier_names)
        for name in names:
            if name not in self.tiers:
                raise UsageError.unknown("tier", name, self.tiers)
        return [feature for name in names for feature in self.tiers[name].features]

    def entry(self, feature: str) -> Entry:
        """The row of a feature."""
        return self.tiers[self.tier_of(feature)].features[feature]

    def kind(self, feature: str) -> FeatureKind:
        """numeric, flag, category or cross."""
        return self.entry(feature).kind

    def rules(self) -> Tiers:
        """The dictionary without its texts: what computes depends on no wording."""
        silent = {"words": "", "definition": ""}
        tiers = {
            name: tier.model_copy(
                update={
                    "title": "",
                    "features": {f: e.model_copy(update=silent) for f, e in tier.features.items()},
                }
            )
            for name, tier in self.tiers.items()
        }
        return Tiers.model_construct(tiers)

    def words(self, feature: str) -> str:
        """The feature as a retention agent reads it."""
        return self.entry(feature).words

    def tier_of(self, feature: str) -> str:
        """The tier that holds the feature."""
        for name, tier in self.tiers.items():
            if feature in tier.features:
                return name
        raise UsageError.unknown("feature", feature, self.features())


def read_tiers(path: Path | None = None) -> Tiers:
    """The dictionary of tiers.yaml, or of the file at `path`."""
    return read(path or settings().experiments / "tiers.yaml", Tiers)

"""The data dictionary, experiments/tiers.yaml: every feature's tier, kind, words for a reader, and definition."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, RootModel, model_validator

from spanishgas.config.reading import Strict, read
from spanishgas.errors import UsageError
from spanishgas.settings import settings

FeatureKind = Literal["numeric", "flag", "category", "cross"]


class Entry(Strict):
    """One feature."""

    kind: FeatureKind
    words: str
    """What a retention agent reads where this feature is a reason."""
    definition: str
    whole: bool = False
    """Whether a numeric feature is a count that is never null: int64 in gold, else float64."""
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] | None = None
    """The labels that a category may have."""
    max_null: float = 1.0
    """Largest share of customers without a value."""

    @model_validator(mode="after")
    def _limits_fit_the_kind(self) -> Entry:
        if self.kind != "numeric" and (self.whole or self.low is not None or self.high is not None):
            raise ValueError(f"whole, low and high are for numeric features, but this one is {self.kind}")
        if self.values is not None and self.kind != "category":
            raise ValueError(f"values are for categories, but this feature is {self.kind}")
        return self


class Tier(Strict):
    """Features that enter the ladder together."""

    title: str
    features: dict[str, Entry]


class Tiers(RootModel[dict[str, Tier]]):
    """The data dictionary.

    - `features` keeps the file's order; a feature stands in one tier only.
    - An unknown tier or feature raises `UsageError` that suggests the nearest name.
    """

    model_config = ConfigDict(frozen=True)

    @property
    def tiers(self) -> dict[str, Tier]:
        """Tiers by name, in the file's order."""
        return self.root

    @model_validator(mode="after")
    def _each_feature_once(self) -> Tiers:
        names = [name for tier in self.tiers.values() for name in tier.features]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"features in more than one tier: {', '.join(twice)}")
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
        return Tiers(
            {
                name: Tier(
                    title="", features={f: e.model_copy(update=silent) for f, e in tier.features.items()}
                )
                for name, tier in self.tiers.items()
            }
        )

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

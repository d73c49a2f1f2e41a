"""Two models on the same customers: a version beside another, and a version beside its second fit.

compare     whose tier changes between two versions, and which features move them
reproduce   from the recorded data digest, parameters and code to the same predictions, or why not
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.tracking import MlflowClient
from pyarrow import csv

from spanishgas import provenance
from spanishgas.evaluation.importance import contributions
from spanishgas.lake import Lake
from spanishgas.lake.digests import json_digest
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.refit import fitted_as
from spanishgas.lifecycle.version import Version
from spanishgas.rendering import as_markdown as markdown
from spanishgas.rendering import spreadsheet
from spanishgas.training.model import PROBABILITY, TIER, ChurnModel
from spanishgas.training.offers import OfferModel

MOST, FEATURES = 20, 3
"""Customers and features that are listed."""


@dataclass(frozen=True)
class Comparison:
    """What changes between two versions on the customers of one gold table."""

    before: str
    after: str
    customers: int
    tiers: pd.DataFrame
    """Customers by tier before (rows) and after (columns)."""
    moved: pd.DataFrame
    """Customers whose tier changed, the largest change of probability first, with the features that moved them."""
    features: pd.Series
    """Mean absolute change of a feature's contribution (log odds) over those customers, the largest first."""


def compare(before: str, after: str, lake: Lake) -> Comparison:
    """Score the newest gold table with two versions, by number or alias; nothing is published."""
    ours, theirs = registry.resolve(before).checked(), registry.resolve(after).checked()
    rows = lake.current("gold_master").pandas()
    edges = list(ours.model.risk_tiers)
    then, now = ours.model.predict(rows), theirs.model.predict(rows)
    table = pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "before": then[TIER],
            "after": now[TIER],
            "probability before": then[PROBABILITY],
            "probability after": now[PROBABILITY],
        }
    )
    tiers = pd.crosstab(table["before"], table["after"]).reindex(index=edges, columns=edges, fill_value=0)
    moved = table[table["before"] != table["after"]]
    shift = (moved["probability after"] - moved["probability before"]).abs()
    moved = moved.loc[shift.sort_values(ascending=False, kind="stable").index]
    # A feature that only one of them knows contributes nothing to the other.
    told = [contributions(version.model, rows.loc[moved.index]) for version in (ours, theirs)]
    change = told[1].subtract(told[0], fill_value=0.0)
    moved = moved.assign(moved_by=[_words(change.loc[i]) for i in moved.index])
    features = change.abs().mean().sort_values(ascending=False, kind="stable")
    return Comparison(ours.number, theirs.number, len(rows), tiers, moved, features)


def _words(change: pd.Series) -> str:
    largest = change.loc[change.abs().sort_values(ascending=False, kind="stable").index[:FEATURES]]
    return ", ".join(f"{name} {value:+.2f}" for name, value in largest.items() if value)


def as_markdown(comparison: Comparison) -> str:
    """The comparison for a reader; customers beyond the first are counted."""
    count = len(comparison.moved)
    lines = [
        f"Version {comparison.before} against version {comparison.after} on {comparison.customers:,} customers: "
        f"{count:,} change their tier.",
        "",
        markdown(comparison.tiers.reset_index(names=f"{comparison.before} \\ {comparison.after}")),
    ]
    if count:
        top = (
            comparison.features.head(2 * FEATURES)
            .rename_axis("feature")
            .reset_index(name="mean change, log odds")
        )
        lines += ["", markdown(top), "", markdown(comparison.moved.head(MOST))]
    if count > MOST:
        lines.append(f"\nand {count - MOST:,} more: --out FILE.csv lists them all")
    return "\n".join(lines)


def as_json(comparison: Comparison) -> str:
    """The comparison as JSON: every customer who moves, and every feature."""
    tables = {"tiers": comparison.tiers.to_dict("index"), "features": comparison.features.to_dict()}
    said = {"before": comparison.before, "after": comparison.after, "customers": comparison.customers}
    moved = json.loads(comparison.moved.to_json(orient="records"))
    return json.dumps(said | tables | {"moved": moved}, indent=1)


def write_csv(comparison: Comparison, file: Path) -> None:
    """Every customer whose tier changes, as a file that a spreadsheet opens without running anything."""
    csv.write_csv(spreadsheet(pa.Table.from_pandas(comparison.moved, preserve_index=False)), file)


@dataclass(frozen=True)
class Reproduced:
    """A version beside its second fit."""

    version: str
    customers: int
    largest: float
    """Largest absolute difference of a probability; 0 if every digit is the same."""
    threshold: float
    """Difference of the thresholds."""
    differs: list[str]
    """What is not as it was when the version was made."""

    @property
    def equal(self) -> bool:
        """Whether the second fit answers as the version does, to the last digit."""
        return self.largest == 0 and self.threshold == 0

    @property
    def words(self) -> str:
        """The finding in words."""
        if self.equal:
            first = f"version {self.version} is reproduced to the last digit on {self.customers:,} customers"
        else:
            first = (
                f"version {self.version} is NOT reproduced: probabilities differ by up to {self.largest:.3g}, the "
                f"threshold by {self.threshold:.3g}, on {self.customers:,} customers"
            )
        unlike = [f"  differs: {what}" for what in self.differs]
        nothing = [] if self.equal or unlike else ["  nothing recorded differs: is it another processor?"]
        return "\n".join([first, *unlike, *nothing])


def reproduce(which: str, lake: Lake) -> Reproduced:
    """Fit the version behind `which` again, as its record says, and compare on its whole training table.

    Nothing is logged. Raises LakeError where its table is gone, TrackingError where its record is.
    """
    version = registry.resolve(which).checked()
    chosen, policy = version.record.chosen, version.record.policy
    table = version.training_table(lake)
    rows = table.table.pandas()
    again = fitted_as(chosen, policy, table)[0].model
    then, now = version.model.predict(rows)[PROBABILITY], again.predict(rows)[PROBABILITY]
    return Reproduced(
        version=version.number,
        customers=len(rows),
        largest=float(np.abs(then.to_numpy() - now.to_numpy()).max()),
        threshold=abs(version.model.threshold - again.threshold),
        differs=list(differences(version, version.model, table.customers)),
    )


def differences(version: Version, model: ChurnModel | OfferModel, customers: set[str]) -> Iterator[str]:
    """What is not as it was when the version learned from `customers`, in words."""
    run, manifest = MlflowClient().get_run(version.run_id).data.tags, version.judged.record.manifest
    if (then := run.get("code.commit")) != provenance.commit():
        yield f"the code's commit was {then}, here it is {provenance.commit()}"
    if (then := manifest.code) != provenance.source_digest():
        yield f"the sources' digest was {then}, here it is {provenance.source_digest()}"
    if "true" in (run.get("code.dirty"), str(provenance.dirty()).lower()):
        yield "a work tree with uncommitted changes made it, or runs here"
    if json_digest(sorted(customers)) != manifest.customers:
        yield "the table's training customers are not those that it learned from"
    pinned = set((version.folder / "requirements.txt").read_text().split())
    yield from (f"here is {name}" for name in registry.requirements(model) if name not in pinned)

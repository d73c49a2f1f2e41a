"""Fitting a version again: from the recorded data digest, parameters and code to the same predictions, or why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.lake import Lake
from spanishgas.lake.digests import json_digest
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.experiments import training_side
from spanishgas.lifecycle.version import Version
from spanishgas.training.calibration import fit_chosen
from spanishgas.training.model import PROBABILITY


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
    rows = version.training_table(lake).table.pandas()
    training = training_side(rows, chosen.kinds, chosen.model, policy, chosen.seed)
    again = fit_chosen(training, chosen.params, policy).model
    then, now = version.model.predict(rows)[PROBABILITY], again.predict(rows)[PROBABILITY]
    return Reproduced(
        version=version.number,
        customers=len(rows),
        largest=float(np.abs(then.to_numpy() - now.to_numpy()).max()),
        threshold=abs(version.model.threshold - again.threshold),
        differs=list(_differences(MlflowClient().get_run(version.run_id).data.tags, version, lake)),
    )


def _differences(run: dict[str, str], version: Version, lake: Lake) -> Iterator[str]:
    if (then := run.get("code.commit")) != provenance.commit():
        yield f"the code's commit was {then}, here it is {provenance.commit()}"
    if (then := version.record.manifest.code) != provenance.source_digest():
        yield f"the sources' digest was {then}, here it is {provenance.source_digest()}"
    if "true" in (run.get("code.dirty"), str(provenance.dirty()).lower()):
        yield "a work tree with uncommitted changes made it, or runs here"
    if json_digest(sorted(version.training_table(lake).customers)) != version.record.manifest.customers:
        yield "the table's training customers are not those that it learned from"
    pinned = set((version.folder / "requirements.txt").read_text().split())
    yield from (f"here is {name}" for name in registry.requirements() if name not in pinned)

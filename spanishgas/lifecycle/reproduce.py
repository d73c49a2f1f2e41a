"""Fitting a version again: from the recorded data digest, parameters and code to the same predictions, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow.tracking import MlflowClient

from spanishgas import code
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import ModelKind
from spanishgas.lake import Lake
from spanishgas.lifecycle import evaluation, registry, runs
from spanishgas.lifecycle.experiments import training_side
from spanishgas.lifecycle.outcome import CHOSEN
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
    """Fit the version behind `which` again and compare on its whole training table; nothing is logged.

    Raises LakeError where its table is gone, TrackingError where its parameters are.
    """
    loaded = registry.load(which)
    run = MlflowClient().get_run(str(loaded.version.run_id))
    chosen = runs.artifact(registry.experiment_run(loaded.version), CHOSEN)
    gold = lake.at(loaded.version.tags["data.digest"], "gold_master")
    experiment, kind = load_experiment(chosen["experiment"]), ModelKind.of(chosen["model"])
    rows, policy = gold.pandas(), load_policy()
    training = training_side(rows, experiment, kind, policy, chosen["seed"])
    again = fit_chosen(training, chosen["params"], policy).model
    then, now = loaded.model.predict(rows)[PROBABILITY], again.predict(rows)[PROBABILITY]
    return Reproduced(
        version=loaded.number,
        customers=len(rows),
        largest=float(np.abs(then.to_numpy() - now.to_numpy()).max()),
        threshold=abs(loaded.model.threshold - again.threshold),
        differs=_differences(run.data.tags, loaded.version.tags, chosen, registry.download(loaded.version)),
    )


def _differences(
    run: dict[str, str], version: dict[str, str], chosen: dict[str, object], folder: Path
) -> list[str]:
    found = []
    if (then := run.get("code.commit")) != code.commit():
        found.append(f"the code's commit was {then}, here it is {code.commit()}")
    if (then := run.get("code.digest")) != code.digest():
        found.append(f"the sources' digest was {then}, here it is {code.digest()}")
    if "true" in (run.get("code.dirty"), str(code.dirty()).lower()):
        found.append("a work tree with uncommitted changes made it, or runs here")
    if version.get("fingerprint") != evaluation.fingerprint(chosen, load_policy()):
        found.append("policy.yaml or the sources that fit and judge are not those that it was made with")
    pinned = set((folder / "requirements.txt").read_text().split())
    found += [f"here is {name}" for name in registry.requirements() if name not in pinned]
    return found

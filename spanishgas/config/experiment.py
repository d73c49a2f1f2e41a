"""The rungs of the ladder: experiments/E0.yaml, E1.yaml and so on."""

from __future__ import annotations

from pydantic import Field

from spanishgas.config.reading import Names, Strict, Text, read
from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.errors import UsageError
from spanishgas.settings import settings


class Experiment(Strict):
    """One rung of the ladder: the tiers it uses and the question it answers."""

    id: Text
    question: Text
    tiers: Names = Field(min_length=1)
    without: Names = []
    below: Text | None = None
    """The experiment that this one is compared with; its best parameters are tried early."""

    def features(self, tiers: Tiers, *, linear: bool) -> list[str]:
        """The rung's features in the dictionary's order, crossed strings for linear models only; UsageError if none."""
        names = [f for f in tiers.features(self.tiers) if linear or tiers.kind(f) != "cross"]
        if left := [f for f in names if f not in self.without]:
            return left
        who = "a linear model" if linear else "trees, which take no crossed strings"
        raise UsageError(f"{self.id}.yaml leaves no feature for {who}: name more tiers, or less in 'without'")

    def kinds(self, tiers: Tiers, *, linear: bool) -> dict[str, str]:
        """The rung's features with their kinds, in the dictionary's order."""
        return {f: str(tiers.kind(f)) for f in self.features(tiers, linear=linear)}


def experiment_ids() -> list[str]:
    """Ids of the experiments at hand, in order; UsageError for a file whose ending hides it."""
    if hidden := sorted(settings().experiments.glob("E*.yml")):
        raise UsageError(f"{hidden[0]} would not be read: name it {hidden[0].stem}.yaml")
    return sorted(p.stem for p in settings().experiments.glob("E*.yaml"))


def load_experiment(name: str) -> Experiment:
    """The experiment called `name`; UsageError for an unknown id, key, tier or feature, or a circle below it."""
    below(name)
    return _load(name)


def below(name: str) -> list[str]:
    """The experiments that `name` stands on, nearest first; UsageError where they go round in a circle."""
    chain: list[str] = []
    while (lower := _load(chain[-1] if chain else name).below) is not None:
        if lower in (name, *chain):
            raise UsageError(f"'below' goes round in a circle from {name}: {', '.join([*chain, lower])}")
        chain.append(lower)
    return chain


def _load(name: str) -> Experiment:
    ids, tiers = experiment_ids(), read_tiers()
    if name not in ids:
        raise UsageError.unknown("experiment", name, ids)
    path = settings().experiments / f"{name}.yaml"
    rung = read(path, Experiment)
    if rung.id != name:
        raise UsageError(f"{path}: id is '{rung.id}', but the file's name says '{name}'")
    for what, names, allowed in (
        ("experiment in 'below'", [rung.below] if rung.below else [], lambda: ids),
        ("tier in 'tiers'", rung.tiers, lambda: tiers.tiers),
        ("feature in 'without'", rung.without, lambda: tiers.features(rung.tiers)),
    ):
        for unknown in set(names) - set(allowed()):
            raise UsageError.unknown(f"{what} of {path.name}", unknown, allowed())
    rung.features(tiers, linear=True)
    return rung

"""The rungs of the ladder: experiments/E0.yaml, E1.yaml and so on."""

from __future__ import annotations

from pydantic import Field

from spanishgas.config.reading import Strict, read
from spanishgas.config.tiers import Tiers, read_tiers
from spanishgas.errors import UsageError
from spanishgas.settings import settings


class Experiment(Strict):
    """One rung of the ladder: the tiers it uses and the question it answers."""

    id: str
    question: str
    tiers: list[str] = Field(min_length=1)
    without: list[str] = []
    below: str | None = None
    """The experiment that this one is held against; its best parameters are tried early."""

    def features(self, tiers: Tiers, *, linear: bool) -> list[str]:
        """The rung's features in the dictionary's order; crossed strings for linear models only."""
        names = [f for f in tiers.features(self.tiers) if linear or tiers.kind(f) != "cross"]
        return [f for f in names if f not in self.without]

    def kinds(self, tiers: Tiers, *, linear: bool) -> dict[str, str]:
        """The rung's features with their kinds, in the dictionary's order."""
        return {f: str(tiers.kind(f)) for f in self.features(tiers, linear=linear)}


def experiment_ids() -> list[str]:
    """Ids of the experiments at hand, in order."""
    return sorted(p.stem for p in settings().experiments.glob("E*.yaml"))


def load_experiment(name: str) -> Experiment:
    """The experiment called `name`; UsageError for an unknown id, key, tier or feature."""
    if name not in experiment_ids():
        raise UsageError.unknown("experiment", name, experiment_ids())
    path = settings().experiments / f"{name}.yaml"
    found = read(path, Experiment)
    tiers = read_tiers()
    if found.id != name:
        raise UsageError(f"{path}: id is '{found.id}', but the file's name says '{name}'")
    known = tiers.features(found.tiers)
    if found.below is not None and found.below not in experiment_ids():
        raise UsageError.unknown(f"experiment in 'below' of {path.name}", found.below, experiment_ids())
    for feature in found.without:
        if feature not in known:
            raise UsageError.unknown(f"feature in 'without' of {path.name}", feature, known)
    return found


def below(name: str) -> list[str]:
    """The experiments that `name` stands on, nearest first; UsageError where they go round in a circle."""
    found: list[str] = []
    while (lower := load_experiment(found[-1] if found else name).below) is not None:
        if lower in (name, *found):
            raise UsageError(f"'below' goes round in a circle from {name}: {', '.join([*found, lower])}")
        found.append(lower)
    return found

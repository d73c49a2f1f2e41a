"""What runs keep as JSON of how something was made: read back as models, never as today's configuration."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict

from spanishgas.config.policy import Holdout, Judgement
from spanishgas.config.reading import Value
from spanishgas.config.search import ModelKind
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.seal import SealManifest
from spanishgas.lifecycle.verdict import Verdict

CHOSEN, OFFERS = "chosen.json", "offers.json"


class ExperimentRecord(BaseModel):
    """What a finished experiment run chose, on which data and by which protocol."""

    model_config = ConfigDict(frozen=True)

    experiment: str
    model: ModelKind
    params: dict[str, Value]
    trial: int
    kinds: dict[str, str]
    """Its features in order, with their kinds."""
    fold_scores: list[float]
    repeats: int
    seed: int
    gold: str
    """Digest of its training table."""
    holdout: Holdout
    as_of: date

    @classmethod
    def read(cls, run_id: str) -> ExperimentRecord:
        """The record of a finished experiment run; TrackingError where it has none that can be read."""
        return runs.record(cls, run_id, CHOSEN)


class VersionRecord(BaseModel):
    """How a registered version was made and by what it was judged."""

    model_config = ConfigDict(frozen=True)

    of_run: str
    """The experiment run that chose it."""
    chosen: ExperimentRecord
    policy: Judgement
    opening: int
    """Number of the opening of the holdout that it was judged by."""
    manifest: SealManifest


class JudgedVersion(BaseModel):
    """What a version's run keeps of it: verdict.json."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    metrics: dict[str, float]
    record: VersionRecord

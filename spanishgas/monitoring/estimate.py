"""Before labels arrive: how well the scores would rank and flag if the probabilities they state were right.

Labels are drawn from the probabilities, and each draw is judged as real labels would be: what comes out is the
expectation under calibration, as NannyML's CBPE has it, and the range within which chance leaves the real figure. **It
is blind to concept drift**: where customers with the same score leave more or less often than they did, every
probability is wrong and nothing here can know. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from spanishgas.errors import DataError
from spanishgas.evaluation.inference import CELLS, RESAMPLES, percentiles
from spanishgas.evaluation.metrics import Array, Labels, average_precisions, with_intervals
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle.stage import Work, recorded, through
from spanishgas.monitoring.cohort import Figures, Outcomes
from spanishgas.rendering import paragraphs
from spanishgas.stages import Stage
from spanishgas.training.model import FLAG, PROBABILITY

SEED, DOCUMENT = 0, "estimate.json"


def expected(probability: Array, flag: Labels) -> Figures:
    """Expected average_precision, recall and precision at the flag and churn_rate, with 95 % ranges of chance.

    Probabilities of customers whom the model learned from are too sure of themselves: leave them out. Equal inputs give
    equal figures. Metrics that no draw defines (nobody can leave, nobody is flagged) are missing.
    """
    rng, n = np.random.default_rng(SEED), len(probability)
    batch = max(1, CELLS // n)
    sizes = [min(batch, RESAMPLES - done) for done in range(0, RESAMPLES, batch)]
    drawn = [pd.DataFrame(_drawn(probability, flag, size, rng)) for size in sizes]
    draws = pd.concat(drawn).dropna(axis="columns", how="all")
    ranges = {str(name): percentiles(values.dropna().to_numpy()) for name, values in draws.items()}
    return {name: float(draws[name].mean()) for name in ranges}, ranges


def _drawn(p: Array, flag: Labels, draws: int, rng: np.random.Generator) -> dict[str, Array]:
    y = (rng.random((draws, len(p))) < p).astype(float)
    churners, caught = y.sum(axis=1), y @ flag
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "average_precision": average_precisions(y, np.ones_like(y), p),
            "recall": caught / churners,
            "precision": caught / flag.sum(),
            "churn_rate": churners / len(p),
        }


@dataclass(frozen=True)
class EstimateInputs:
    """What an estimate depends on."""

    scores: Snapshot
    version: str
    """Number of the version that made them."""


ESTIMATE = Stage[EstimateInputs]("outcomes", (__name__,))


def estimate(as_of: date | None = None, *, lake: Lake) -> Outcomes:
    """Log as `estimated.*` what the scores as of `as_of` (the newest if None) would reach without concept drift.

    The same scores and code give the run that is there already. DataError where the model learned from everybody.
    """
    scores = lake.current("scores", as_of)
    day, version = scores.manifest.as_of, str(scores.pandas(["model_version"]).iloc[0, 0])
    return through(
        ESTIMATE,
        EstimateInputs(scores, version),
        _estimate,
        title=f"outcomes as of {day}, estimated",
        recall=lambda key: recorded(ESTIMATE, key, Outcomes, DOCUMENT),
        tags={"as_of": day, "version": version},
    )


def _estimate(run: Work, inputs: EstimateInputs) -> Outcomes:
    rows, day = inputs.scores.pandas([PROBABILITY, FLAG, "in_training"]), inputs.scores.manifest.as_of
    unseen = rows[~rows["in_training"]]
    if unseen.empty:
        raise DataError(
            f"the model learned from every customer scored as of {day}: its probabilities of "
            "them say nothing of what it reaches on others. Score a table with other customers too"
        )
    figures = expected(unseen[PROBABILITY].to_numpy(), unseen[FLAG].to_numpy(dtype="int64"))
    outcomes = Outcomes(
        run_id=run.run_id,
        as_of=day,
        version=inputs.version,
        findings=paragraphs(
            "spanishgas.monitoring", "estimate.md.jinja", figures=figures, customers=len(unseen)
        ),
    )
    run.log(metrics=with_intervals("estimated", *figures))
    outcomes.keep(run, DOCUMENT)
    return outcomes

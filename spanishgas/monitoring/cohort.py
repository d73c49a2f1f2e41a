"""One cohort once its labels are there: how well it was scored, and by tier. Tables in and out.

Three groups are kept apart. Customers on the model's own training side say nothing about it. A customer who got an
offer may have stayed because of it, so beside all unseen customers stand the unseen ones without an offer; among them,
those who got none by chance (the control share) stand for those who got one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from spanishgas.evaluation.inference import CELLS, RESAMPLES, Judged, Z, percentiles, performance, wilson
from spanishgas.evaluation.metrics import Array, Labels, average_precisions
from spanishgas.lifecycle.runs import StageRun
from spanishgas.training.model import FLAG, PROBABILITY, TIER

COLUMNS = ("tier", "customers", "churners", "predicted", "observed", "low", "high", "holds")
Figures = tuple[dict[str, float], dict[str, tuple[float, float]]]
"""Points and intervals by metric."""


class Outcomes(BaseModel):
    """What is known of a scored cohort: what its labels showed, or what is to be expected while there are none."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    as_of: date
    version: str
    findings: list[str]
    concept_drift: bool | None = None
    """None where there were too few labelled customers to test it."""
    remedy: str | None = None
    """The verb that the tests propose, if one."""
    probation: list[str] = []
    """What the labels say of a new champion beside the one before it, and what follows."""

    def keep(self, run: StageRun, path: str) -> None:
        """Keep this as a document of its run, and the findings as the run's description."""
        run.document(self.model_dump(mode="json"), path)
        run.describe("\n".join(f"- {line}" for line in self.findings))


@dataclass(frozen=True)
class Cohort:
    """Labelled customers with what was said of them and done to them."""

    rows: pd.DataFrame
    """The outcomes table with `margin` (EUR a month), `value` (EUR of offers to the flagged, by the label), and for
    those an offer was chosen for `offer` and `control_share`."""

    @property
    def unseen(self) -> Cohort:
        """Those that the model did not learn from."""
        return self.where(~self.rows["in_training"])

    @property
    def judged(self) -> Judged:
        """As the metrics take them."""
        labels, flags = (self.rows[name].to_numpy(dtype="int64") for name in ("churn", FLAG))
        return Judged(labels, self.rows[PROBABILITY].to_numpy(), flags, self.rows["value"].to_numpy())

    @property
    def untreated(self) -> Cohort:
        """Those who got no offer."""
        return self.where(self.rows["arm"].ne("offer"))

    @property
    def weights(self) -> Array:
        """How many customers each stands for among all, had nobody got an offer: controls for those who got one."""
        control = self.rows["arm"].eq("control")
        stands: Array = np.where(control, 1 / self.rows["control_share"].where(control, 1.0), 1.0)
        return stands

    @property
    def replaceable(self) -> bool:
        """Whether the customers with an offer, if any, have controls who stand for them."""
        arms = set(self.rows["arm"].dropna())
        return "offer" not in arms or "control" in arms

    def where(self, rows: pd.Series) -> Cohort:
        """The customers where `rows` holds."""
        return Cohort(self.rows[rows].reset_index(drop=True))


def groups(cohort: Cohort) -> dict[str, Figures]:
    """Performance by group: `all` unseen, `untreated` (had nobody got an offer), `in_training`, and unseen by tier."""
    unseen, rows = cohort.unseen, cohort.rows
    by_name = {"all": unseen, "in_training": cohort.where(rows["in_training"])}
    tiers = unseen.rows[TIER]
    by_name |= {f"tier.{name.lower()}": unseen.where(tiers.eq(name)) for name in tiers.unique()}
    figures = {name: performance(part.judged) for name, part in by_name.items() if len(part.rows)}
    free = unseen.untreated
    if len(free.rows) < len(unseen.rows) and len(free.rows) and unseen.replaceable:
        figures["untreated"] = performance(free.judged, free.weights)
    return figures


def calibration(cohort: Cohort, tiers: Mapping[str, float]) -> pd.DataFrame:
    """A row per tier: customers, predicted mean, share of churners with Wilson's 95 % interval, whether it holds."""
    lines = []
    for tier in tiers:
        rows = cohort.rows[cohort.rows[TIER].eq(tier)]
        if rows.empty:
            continue
        churners, n, predicted = int(rows["churn"].sum()), len(rows), float(rows[PROBABILITY].mean())
        low, high = wilson(churners, n, Z)
        lines.append((tier, n, churners, predicted, churners / n, low, high, low <= predicted <= high))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def expected(probability: Array, flag: Labels) -> Figures:
    """Expected average_precision, recall and precision at the flag and churn_rate, with 95 % ranges of chance.

    Labels are drawn from the probabilities, and each draw is judged as real labels would be: the expectation under
    calibration, as NannyML's CBPE has it, and the range within which chance leaves the real figure. **It is blind to
    concept drift**: where customers with the same score leave more or less often than they did, every probability is
    wrong and nothing here can know. It decides nothing.

    Probabilities of customers whom the model learned from are too sure of themselves: leave them out. Equal inputs give
    equal figures. Metrics that no draw defines (nobody can leave, nobody is flagged) are missing.
    """
    rng, n = np.random.default_rng(0), len(probability)
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

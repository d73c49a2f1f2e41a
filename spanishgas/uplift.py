"""Whether offers by learned effect would keep more than offers by risk, on customers that taught neither.

    campaigns + gold -> effect of each offer, on the training side -> worth of each option, on the held-out side
                     -> both rules at one budget -> paired interval -> verdict: one run, stage=uplift

At equal money the rule that keeps more margin is the better one, also where no offer works and any saving would pay.
What offers cost and how many months of margin a kept customer is worth are policy's assumptions; who stays because of
an offer is measured. A rule may choose only what the design might have offered the customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas import provenance
from spanishgas.config.policy import ACTIONS, Holdout, Offers, load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import DataError
from spanishgas.evaluation.charts import uplift_chart
from spanishgas.evaluation.effects import FLOOR, PROPENSITIES, chances, comparable, mean_interval
from spanishgas.evaluation.inference import Difference
from spanishgas.evaluation.uplift import auuc, calibration, option_scores, qini, uplift_curve
from spanishgas.evaluation.value import NO_OFFER, kept_values, option_values, protected_margin
from spanishgas.lake import Lake, Snapshot
from spanishgas.lake.digests import json_digest
from spanishgas.lifecycle import registry, seal
from spanishgas.lifecycle.compare import Reproduced, differences
from spanishgas.lifecycle.records import Check, JudgedVersion, OfferRecord, Verdict
from spanishgas.lifecycle.registration import register, registered
from spanishgas.lifecycle.seal import SealManifest
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import Version
from spanishgas.lifetime import temporary_folder
from spanishgas.monitoring.campaigns import Logged, logged, pooled
from spanishgas.scoring.campaign import within_budget
from spanishgas.settings import of_offers
from spanishgas.stages import Stage
from spanishgas.training import artefact
from spanishgas.training.matrix import matrix
from spanishgas.training.model import TIER
from spanishgas.training.offers import OfferModel, kinds_of
from spanishgas.training.sides import in_holdout
from spanishgas.training.uplift import UpliftModel, pseudo_outcomes

Array = NDArray[np.float64]
Choice = NDArray[np.intp]
RISK, LEARNED = "risk rule", "learned effects"


@dataclass(frozen=True)
class UpliftInputs:
    """What the judgement of learned offers depends on."""

    campaigns: tuple[Logged, ...]
    features: tuple[str, ...]
    """Columns of gold that effects may depend on, beside risk score and margin; a campaign's gold may lack some."""
    offers: Offers
    lowest: str
    """The risk tier that the risk rule makes no offer to."""
    holdout: Holdout
    trials: int
    seed: int


UPLIFT = Stage[UpliftInputs]("uplift", (__name__,))


def uplift(lake: Lake, trials: int = 25, seed: int = 7) -> Version:
    """Learn effects from every campaign of the lake with labels, judge and register them.

    The same inputs give the version there is. DataError where no campaign left anything to chance, an arm has too few
    customers, or gold is gone.
    """
    policy, features = load_policy(), tuple(read_tiers().features())
    terms = policy.offers, next(iter(policy.risk_tiers)), policy.holdout
    inputs = UpliftInputs(tuple(logged(lake)), features, *terms, trials, seed)
    with of_offers():
        return through(
            UPLIFT,
            inputs,
            _uplift,
            title=f"uplift from {len(inputs.campaigns)} campaigns",
            recall=registered,
            params={"trials": trials, "seed": seed},
        )


def _uplift(run: Work, inputs: UpliftInputs) -> Version:
    rows, refused = customers(inputs.campaigns, inputs.features)
    info = registry.log_model(learn(rows, inputs), "offers", {"trials": inputs.trials, "seed": inputs.seed})
    with temporary_folder() as copy:
        # What is judged is the artefact as it came back, not the object that it was written from.
        folder = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(copy)))
        model = artefact.load_as(OfferModel, folder, info.model_uri)
        shown, manifest = judged(rows, model, inputs), _manifest(folder, model, rows, inputs)
    verdict = Verdict(checks=shown.checks, waivers=[])
    lines = [*refused, shown.sentence]
    run.log(metrics=shown.metrics, tags={"basis": LEARNED if verdict.passed else RISK})
    run.tables({f"calibration_{name}.json": of.calibration for name, of in shown.rankings.items()})
    run.figure(
        uplift_chart({name: of.curve for name, of in shown.rankings.items()}, shown.values), "uplift.png"
    )
    record = OfferRecord(
        campaigns=[one.digests for one in inputs.campaigns],
        fifths={name: of.calibration.to_dict("records") for name, of in shown.rankings.items()},
        manifest=manifest,
        **{
            name: getattr(inputs, name)
            for name in ("features", "offers", "lowest", "holdout", "trials", "seed")
        },
    )
    words = "\n".join(f"- {line}" for line in lines)
    return register(
        run,
        info.model_uri,
        JudgedVersion(verdict=verdict, metrics=shown.metrics, record=record),
        {f"data.{n}": digest for n, (_, digest) in enumerate(record.sources)},
        f"{words}\n\n{verdict.table()}",
    )


def _manifest(folder: Path, model: OfferModel, rows: pd.DataFrame, inputs: UpliftInputs) -> SealManifest:
    aside = in_holdout(rows["customer_id"], inputs.holdout)
    return SealManifest(
        files=seal.files(folder),
        signature=json_digest(registry.signature(model).to_dict()),
        policy=json_digest(inputs.offers.model_dump(mode="json")),
        code=provenance.source_digest(),
        gold=json_digest([one.digests.get("gold_master") for one in inputs.campaigns]),
        customers=json_digest(sorted(set(rows["customer_id"][~aside]))),
        holdout=json_digest(sorted(set(rows["customer_id"][aside]))),
    )


def reproduce(which: str, lake: Lake) -> Reproduced:
    """Learn the effects of the version behind `which` again, as its record says, and compare them on all its rows."""
    with of_offers():
        version = registry.resolve(which).checked()
    record = version.offer_record
    logs = tuple(Logged.found(lake, digests) for digests in record.campaigns)
    inputs = UpliftInputs(
        logs, tuple(record.features), record.offers, record.lowest, record.holdout, record.trials, record.seed
    )
    rows, _ = customers(logs, inputs.features)
    taught = set(rows["customer_id"][~in_holdout(rows["customer_id"], inputs.holdout)])
    then, now = version.offer_model.predict(rows), learn(rows, inputs).predict(rows)
    largest = float(np.abs(then.to_numpy() - now.to_numpy()).max())
    return Reproduced(version.number, len(rows), largest, 0.0, list(differences(version, taught)))


@dataclass(frozen=True)
class OfferRanking:
    """How well the effects of one offer are told on customers who taught none of them, in churn avoided."""

    qini: Difference
    auuc: Difference
    calibration: pd.DataFrame
    curve: Array


@dataclass(frozen=True)
class OfferJudgement:
    """What the held-out customers show."""

    values: Mapping[str, Difference]
    """EUR per customer that each rule brings beside nobody getting an offer."""
    gain: tuple[float, float, float]
    """As `OfferVerdict` has it."""
    rankings: Mapping[str, OfferRanking]
    customers: int
    campaigns: int

    @property
    def checks(self) -> list[Check]:
        """Learned effects must surely keep more margin, and bring no less after what offers cost."""
        more = self.values[LEARNED].value - self.values[RISK].value
        way_out = "the risk rule stays; run more campaigns with offers.explore above 0"
        common = {"limit": 0.0, "way_out": way_out}
        return [
            Check(
                name="margin_gain", value=self.gain[0], interval=self.gain[1:], passed=self.gain[1] > 0,
                note="its lower end decides", **common,
            ),
            Check(name="value_gain", value=more, interval=None, passed=more >= 0, **common),
        ]  # fmt: skip

    @property
    def metrics(self) -> dict[str, float]:
        """Flat, under `uplift.`, with `.low` and `.high`."""
        figures = {"gain_eur": Difference(*self.gain)}
        figures |= {f"value_eur.{name.replace(' ', '_')}": one for name, one in self.values.items()}
        for name, of in self.rankings.items():
            figures |= {f"qini.{name}": of.qini, f"auuc.{name}": of.auuc}
        return {f"uplift.{n}{end}": getattr(d, key) for n, d in figures.items() for end, key in ENDS.items()}

    @property
    def passed(self) -> bool:
        """Whether every check is."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        value, low, high = self.gain
        return (
            f"On {self.customers:,} held-out rows of {self.campaigns} campaigns, offers by learned effects keep "
            f"{value:+.2f} EUR of margin per customer ({low:+.2f} to {high:+.2f}) beside the risk rule at the same "
            "budget: "
            + ("they may decide." if self.passed else "that is not surely more, so the risk rule stays.")
        )


def judge(rows: pd.DataFrame, inputs: UpliftInputs) -> OfferJudgement:
    """Learn from the customers on the training side, judge on the others; `rows` are those of `customers`."""
    return judged(rows, learn(rows, inputs), inputs)


def judged(rows: pd.DataFrame, model: OfferModel, inputs: UpliftInputs) -> OfferJudgement:
    """What the customers who taught the model nothing show of it."""
    judged = rows[in_holdout(rows["customer_id"], inputs.holdout)].reset_index(drop=True)
    effects = {str(name): of.to_numpy(dtype="float64") for name, of in model.predict(judged).items()}
    options, ids = choices(judged, effects, inputs), judged["customer_id"]
    net = brought(judged, options, effects, inputs)
    kept = brought(judged, options, effects, inputs, free=True)
    return OfferJudgement(
        values={name: Difference(*mean_interval(value, ids)) for name, value in net.items()},
        gain=mean_interval(kept[LEARNED] - kept[RISK], ids),
        rankings={name: ranking(judged, name, effect) for name, effect in effects.items()},
        customers=len(judged),
        campaigns=rows["as_of"].nunique(),
    )


ENDS = {"": "value", ".low": "low", ".high": "high"}


def customers(logs: tuple[Logged, ...], features: tuple[str, ...]) -> tuple[pd.DataFrame, list[str]]:
    """The pooled campaigns with gold's features as of each, and why campaigns are left out; DataError if all are."""
    pool = pooled(one.rows() for one in logs)
    refused = list(pool.refused.values())
    if pool.rows.empty:
        raise DataError(
            " ".join(refused) or "no campaign has labels yet: run `spanishgas outcomes` on them first"
        )
    days = set(pool.rows["as_of"])
    golds = {one.treatments.manifest.as_of: one.gold for one in logs if one.treatments.manifest.as_of in days}
    beside = [_features(gold, features).assign(as_of=day) for day, gold in golds.items() if gold is not None]
    if len(beside) < len(days):
        raise DataError(
            f"gold of {len(days) - len(beside)} campaigns is gone: build it again with `spanishgas etl`"
        )
    return pool.rows.merge(pd.concat(beside), on=["customer_id", "as_of"], how="left"), refused


def _features(gold: Snapshot, features: tuple[str, ...]) -> pd.DataFrame:
    own = {"customer_id", "segment"}  # the campaigns have the segment
    return gold.pandas(["customer_id", *(f for f in features if f in gold.manifest.columns and f not in own)])


def learn(rows: pd.DataFrame, inputs: UpliftInputs) -> OfferModel:
    """The effect of each offer on churn, from those on the training side who might have met either it or none."""
    columns = ["risk_score", "margin", *(f for f in inputs.features if f in rows)]
    kinds, models = kinds_of(rows, columns), dict[str, UpliftModel]()
    rows = rows[~in_holdout(rows["customer_id"], inputs.holdout)]
    for name in inputs.offers.menu:
        of = rows[rows["treatment"].isin([name, NO_OFFER]).to_numpy() & comparable(rows, name)]
        if of["treatment"].nunique() < 2:
            continue
        none, offered = chances(of, name)
        model, treated = (
            UpliftModel(trials=inputs.trials, seed=inputs.seed),
            of["treatment"].eq(name).to_numpy(),
        )
        model.fit(matrix(of, columns, kinds), treated, of["churn"].to_numpy(), offered / (none + offered))
        models[name] = model.without_rows()
    if not models:
        raise DataError(
            "no offer was made beside controls: set offers.control.share or offers.explore in policy.yaml"
        )
    return OfferModel(columns, kinds, models)


def choices(rows: pd.DataFrame, effects: Mapping[str, Array], inputs: UpliftInputs) -> dict[str, Choice]:
    """Which option each rule chooses for each customer, numbered as ACTIONS.

    The risk rule is that of `recommend`; learned effects spend no more than it does, on what keeps most margin per EUR.
    """
    offers, places = inputs.offers, [0, *map(ACTIONS.index, inputs.offers.menu)]
    risk, margin = (rows[name].to_numpy(dtype="float64") for name in ("risk_score", "margin"))
    assumed, kept = (np.full((len(ACTIONS), len(rows)), -np.inf) for _ in range(2))
    assumed[places], kept[places] = option_values(risk, margin, offers), kept_values(effects, margin, offers)
    closed = rows[PROPENSITIES].to_numpy(dtype="float64").T < FLOOR
    closed[0] = False
    assumed[closed] = kept[closed] = -np.inf
    cost = np.array([offers.menu[a].cost_eur if a in offers.menu else 0.0 for a in ACTIONS])
    every = np.where(np.isfinite(assumed[1:]).any(axis=0), 1 + assumed[1:].argmax(axis=0), 0)
    assumed[1:, rows[TIER].eq(inputs.lowest).to_numpy()] = -np.inf
    share = inputs.holdout.share * rows["as_of"].nunique()
    limit = None if offers.total_budget_eur is None else offers.total_budget_eur * share
    by_risk = within_budget(assumed, cost, limit)
    learned = within_budget(kept, cost, float(cost[by_risk].sum()))
    return {"nobody": np.zeros_like(by_risk), "everyone": every, RISK: by_risk, LEARNED: learned}


def brought(
    rows: pd.DataFrame,
    options: Mapping[str, Choice],
    effects: Mapping[str, Array],
    inputs: UpliftInputs,
    free: bool = False,
) -> dict[str, Array]:
    """Doubly robust EUR that each rule brings of each customer beside no offer; `free` leaves out what offers cost.

    A customer who leaves takes along the margin over policy's horizon; an offer's cost is paid when it is taken.
    """
    offers = inputs.offers
    lost = protected_margin(rows["margin"].to_numpy(dtype="float64"), offers.horizon_months)
    cost = np.array([offers.menu[a].expected_cost if a in offers.menu and not free else 0.0 for a in ACTIONS])
    risk = rows["risk_score"].to_numpy(dtype="float64")
    churn = [np.clip(risk + effects.get(option, 0.0), 0, 1) for option in ACTIONS]
    made = np.array([ACTIONS.index(name) for name in rows["treatment"]])
    value = -rows["churn"].to_numpy(dtype="float64") * lost - cost[made]
    expected = np.column_stack([-c * lost - cost[i] for i, c in enumerate(churn)])
    scores = option_scores(value, made, rows[PROPENSITIES].to_numpy(dtype="float64"), expected)
    return {name: scores[np.arange(len(rows)), option] - scores[:, 0] for name, option in options.items()}


def ranking(rows: pd.DataFrame, name: str, effect: Array) -> OfferRanking:
    """How well `effect`, on churn, ranks and sizes what the offer does to customers who might have met it or none."""
    of = rows["treatment"].isin([name, NO_OFFER]).to_numpy() & comparable(rows, name)
    part, avoided = rows[of], -effect[of]
    none, offered = chances(part, name)
    before = part["risk_score"].to_numpy(dtype="float64")
    arms = np.column_stack([before, np.clip(before - avoided, 0, 1)])
    treated = part["treatment"].eq(name).to_numpy().astype("float64")
    scores = -pseudo_outcomes(
        part["churn"].to_numpy(dtype="int64"), treated, offered / (none + offered), arms
    )
    told = qini(avoided, scores), auuc(avoided, scores)
    return OfferRanking(*told, calibration(avoided, scores), uplift_curve(avoided, scores))

"""Whether offers by learned effect would keep more than offers by risk, on customers that taught neither.

campaigns + gold -> effect of each offer, on the training side -> worth of each option, on the held-out side
                 -> both rules at one budget -> paired interval -> verdict, and a version of the model of offers
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas import provenance
from spanishgas.config.policy import OfferTerms, load_policy
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import DataError
from spanishgas.evaluation.charts import uplift_chart
from spanishgas.evaluation.effects import chances, comparable
from spanishgas.evaluation.offer_rules import LEARNED, RISK, OfferJudgement, judged
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake, Snapshot
from spanishgas.lake.digests import json_digest
from spanishgas.lifecycle import registry, seal
from spanishgas.lifecycle.compare import Reproduced, differences
from spanishgas.lifecycle.records import Check, JudgedVersion, OfferRecord, Verdict
from spanishgas.lifecycle.registration import as_it_came_back, register, registered
from spanishgas.lifecycle.seal import SealManifest
from spanishgas.lifecycle.stage import Work, through
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring.campaigns import Logged, logged, pooled
from spanishgas.scoring.campaign import CURVE
from spanishgas.settings import of_offers
from spanishgas.stages import Stage
from spanishgas.training.matrix import matrix
from spanishgas.training.offers import OfferModel, kinds_of
from spanishgas.training.sides import in_holdout
from spanishgas.training.uplift import UpliftModel


@dataclass(frozen=True)
class UpliftInputs:
    """What the judgement of learned offers depends on."""

    campaigns: tuple[Logged, ...]
    features: tuple[str, ...]
    """Columns of gold that effects may depend on, beside risk score and margin; a campaign's gold may lack some."""
    terms: OfferTerms
    trials: int
    seed: int

    def aside(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """Rows of customers who teach nothing, and are judged on."""
        return in_holdout(rows["customer_id"], self.terms.holdout)


UPLIFT = Stage[UpliftInputs]("uplift", (__name__,))


def uplift(lake: Lake, trials: int = 25, seed: int = 7) -> Version:
    """Learn effects from every campaign of the lake with labels, judge and register them.

    The same inputs give the version there is. DataError where no campaign left anything to chance, an arm has too few
    customers, or gold is gone.
    """
    inputs = uplift_inputs(lake, trials, seed)
    with of_offers():
        return through(
            UPLIFT,
            inputs,
            _uplift,
            title=f"uplift from {len(inputs.campaigns)} campaigns",
            recall=registered,
            params={"trials": trials, "seed": seed},
        )


def uplift_inputs(lake: Lake, trials: int, seed: int) -> UpliftInputs:
    """What is judged as lake and configuration have it now."""
    policy, features = load_policy(), tuple(read_tiers().features())
    terms = OfferTerms(offers=policy.offers, lowest=next(iter(policy.risk_tiers)), holdout=policy.holdout)
    return UpliftInputs(tuple(logged(lake)), features, terms, trials, seed)


def _uplift(run: Work, inputs: UpliftInputs) -> Version:
    rows, refused = customers(inputs.campaigns, inputs.features)
    info = registry.log_model(learn(rows, inputs), "offers", {"trials": inputs.trials, "seed": inputs.seed})
    with as_it_came_back(OfferModel, info.model_uri) as (model, folder):
        shown, manifest = on_held_out(rows, model, inputs), _manifest(folder, model, rows, inputs)
    verdict = Verdict(checks=checks(shown), waivers=[])
    lines = [*refused, shown.sentence]
    run.log(metrics=shown.metrics, tags={"basis": LEARNED if verdict.passed else RISK})
    run.tables({f"calibration_{name}.json": of.calibration for name, of in shown.rankings.items()})
    run.figure(uplift_chart({name: of.curve for name, of in shown.rankings.items()}, shown.values), CURVE)
    record = OfferRecord(
        campaigns=[one.digests for one in inputs.campaigns],
        fifths={name: of.calibration.to_dict("records") for name, of in shown.rankings.items()},
        manifest=manifest,
        features=list(inputs.features),
        trials=inputs.trials,
        seed=inputs.seed,
        terms=inputs.terms,
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
    aside = inputs.aside(rows)
    return SealManifest(
        files=seal.files(folder),
        signature=json_digest(registry.signature(model).to_dict()),
        policy=json_digest(inputs.terms.offers.model_dump(mode="json")),
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
    inputs = UpliftInputs(logs, tuple(record.features), record.terms, record.trials, record.seed)
    rows, _ = customers(logs, inputs.features)
    taught = set(rows["customer_id"][~inputs.aside(rows)])
    then, now = version.offer_model.predict(rows), learn(rows, inputs).predict(rows)
    largest = float(np.abs(then.to_numpy() - now.to_numpy()).max())
    return Reproduced(
        version.number, len(rows), largest, 0.0, list(differences(version, version.offer_model, taught))
    )


def on_held_out(rows: pd.DataFrame, model: OfferModel, inputs: UpliftInputs) -> OfferJudgement:
    """What the customers outside the training side show of the model; `rows` are those of `customers`."""
    rows = rows[inputs.aside(rows)].reset_index(drop=True)
    return judged(rows, model.predict(rows), inputs.terms)


def checks(shown: OfferJudgement) -> list[Check]:
    """The verdict's: learned effects surely keep more margin, and bring no less after what offers cost."""
    common = {"limit": 0.0, "way_out": "the risk rule stays; run more campaigns with offers.explore above 0"}
    gain, note = shown.gain, "its lower end decides"
    return [
        Check(
            name="margin_gain", value=gain[0], interval=gain[1:], passed=shown.keep_more, note=note, **common
        ),
        Check(name="value_gain", value=shown.more, interval=None, passed=shown.more >= 0, **common),
    ]


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
    rows = rows[~inputs.aside(rows)]
    for name in inputs.terms.offers.menu:
        of = rows[rows["treatment"].isin([name, NO_OFFER]).to_numpy() & comparable(rows, name)]
        if of["treatment"].nunique() < 2:
            continue
        none, offered = chances(of, name)
        table, treated = matrix(of, columns, kinds), of["treatment"].eq(name).to_numpy()
        model = UpliftModel(trials=inputs.trials, seed=inputs.seed)
        model.fit(table, treated, of["churn"].to_numpy(), offered / (none + offered))
        models[name] = model.without_rows()
    if not models:
        raise DataError(
            "no offer was made beside controls: set offers.control.share or offers.explore in policy.yaml"
        )
    return OfferModel(columns, kinds, models)

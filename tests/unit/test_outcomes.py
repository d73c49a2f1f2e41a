"""What labels show of a scored cohort: read strictly, kept apart from training, with intervals and tests that hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from scipy.stats import binom
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from spanishgas.cli import app
from spanishgas.config.policy import load_policy
from spanishgas.config.search import LOGISTIC
from spanishgas.errors import ContractError, DataError, UsageError
from spanishgas.evaluation.effects import average_effects, worth
from spanishgas.evaluation.inference import Judged, performance
from spanishgas.evaluation.metrics import decisions, ranking
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle.erasure import erase
from spanishgas.monitoring import outcomes as outcomes_of
from spanishgas.monitoring.cohort import Cohort, calibration, expected, groups
from spanishgas.monitoring.concept import OVERALL, concept_drift
from spanishgas.monitoring.labels import Labels, known_only, matured, read_labels
from spanishgas.monitoring.outcomes import Outcomes, estimate, outcomes
from spanishgas.training.model import PROBABILITY, TIER, risk_tier
from tests.churn_models import churn_model
from tests.dashboard_lake import publish
from tests.labels import customers
from tests.scored_cohorts import LATER, drawn, reference, score, version_of, write_labels
from tests.tracked import own_model, own_store

OFFERS = load_policy().offers
TIERS = load_policy().risk_tiers


# --- labels


def labels(tmp_path: Path, text: str, name: str = "labels.csv") -> Path:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def test_labels_are_read_in_every_shape_a_utility_sends(tmp_path: Path) -> None:
    plain = labels(tmp_path, "customer_id,churn,label_date\nC1,1,2025-06-30\nC2,0,\n")
    odd = labels(
        tmp_path, "\ufefflabel_date;x;churn;customer_id\r\n2025-06-30;a;1; C1 \r\n;b;0.0;C2\r\n", "odd.csv"
    )
    parquet = tmp_path / "labels.parquet"
    pd.DataFrame({"customer_id": ["C1", "C2"], "churn": [True, False]}).to_parquet(parquet)
    for file in (plain, odd):
        rows = read_labels(file).rows
        assert rows.to_dict(orient="list") == {
            "customer_id": ["C1", "C2"],
            "churn": [1, 0],
            "label_date": [date(2025, 6, 30), None],
        }
    assert read_labels(parquet).rows["churn"].tolist() == [1, 0]
    assert read_labels(parquet).rows["label_date"].tolist() == [None, None]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("customer_id,churn\nC1,1\n,0\n", r"1 rows of labels.csv have no customer_id \(row 3\)"),
        (
            "customer_id,churn\nC1,maybe\nC2,2\nC3,\n",
            r"3 rows .* hold no label \(0 or 1\).*'maybe' \(row 2, 3, 4\)",
        ),
        (
            "customer_id,churn,label_date\nC1,1,30/06/2025\n",
            r"1 rows .* hold no date.*'30/06/2025' \(row 2\)",
        ),
        ("customer_id,churn\nC1,1\nC2,0\nC1,0\n", "contradicts itself on 'C1'"),
        ("customer_id,churn\n", "holds no label"),
    ],
)
def test_labels_that_cannot_be_right_are_refused_by_row_or_customer(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        read_labels(labels(tmp_path, text))


@pytest.mark.parametrize(
    "content", [b"", b"id,churn\nC1,1\n", b"\xff\xfe\x00", b"customer_id,churn,churn\nC1,1,1\n"]
)
def test_a_file_that_is_no_table_of_labels_is_one_message(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(ContractError, match=r"labels\.csv breaks its contract"):
        read_labels(file)
    with pytest.raises(UsageError, match=r"nowhere\.csv' does not exist"):
        read_labels(tmp_path / "nowhere.csv")


def test_equal_rows_count_once(tmp_path: Path) -> None:
    found = read_labels(labels(tmp_path, "customer_id,churn\nC1,1\nC1,1\nC2,0\n"))
    assert found.rows["customer_id"].tolist() == ["C1", "C2"]
    assert list(found.coverage) == ["1 rows repeat an earlier one and count once."]


@pytest.mark.usefixtures("strict")
def test_unknown_customers_are_left_out_up_to_the_limit_and_counted_and_named_beyond_it(
    tmp_path: Path,
) -> None:
    rows = "".join(f"C{i},{i % 2}\n" for i in range(40))
    found = read_labels(labels(tmp_path, f"customer_id,churn\n{rows}X1,1\nX2,0\n"))
    known = known_only(found, pd.Series([f"C{i}" for i in range(40)]), LATER)
    assert len(known.rows) == 40
    assert list(known.coverage) == [
        "40 of 40 scored customers have a label (100%).",
        "2 labels are of customers who were not scored; they are left out.",
    ]
    with pytest.raises(
        DataError, match=r"10 of 42 labels are of customers not scored.*'C32', 'C33'.* and 5 more"
    ):
        known_only(found, pd.Series([f"C{i}" for i in range(32)]), LATER)


def test_a_label_dated_before_the_scores_is_not_their_outcome(tmp_path: Path) -> None:
    found = read_labels(labels(tmp_path, "customer_id,churn,label_date\nC1,1,2025-01-31\nC2,1,2025-03-31\n"))
    with pytest.raises(
        DataError, match=r"1 rows in which 'churn_date' lies before.*'C1'.*2025-03-31.*--as-of"
    ):
        matured(found, LATER, 12)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0,2026-03-31,2026-06-30", "labelled 0 although 'churn_date' lies within the horizon"),
        ("1,2025-06-01,2025-05-31", "in which 'churn_date' lies after 'observed_until'"),
        ("0,,2025-03-30", "in which 'observed_until' lies before the as-of date"),
    ],
)
def test_what_the_etl_refuses_of_a_label_is_refused_of_an_outcome(
    tmp_path: Path, row: str, words: str
) -> None:
    text = f"customer_id,churn,churn_date,observed_until\nC1,{row}\nC2,0,2026-04-01,2026-06-30\n"
    with pytest.raises(DataError, match=rf"^1 rows {words}.*: 'C1'\..*2025-03-31.*2026-03-31.*--as-of"):
        matured(read_labels(labels(tmp_path, text)), LATER, 12)


def observed(tmp_path: Path, *until: str) -> Labels:
    """C0 left within a year of the scores, C1 after it, and nobody else; each observed until so long."""
    left = ["2025-09-30", "2026-05-31"]
    rows = [f"C{i},{int(i < 2)},{left[i] if i < 2 else ''},{day}" for i, day in enumerate(until)]
    return read_labels(
        labels(tmp_path, "\n".join(["customer_id,churn,churn_date,observed_until", *rows, ""]))
    )


def test_who_left_after_the_horizon_had_not_left_within_it(tmp_path: Path) -> None:
    rows = matured(observed(tmp_path, *["2026-06-30"] * 40), LATER, 12)
    assert rows.rows["churn"].tolist() == [1] + [0] * 39
    assert rows.coverage == ["1 left after 2026-03-31, which is not within the horizon."]
    assert "observed_until" not in rows.rows
    assert matured(observed(tmp_path, *["2026-06-30"] * 40), LATER, 15).rows["churn"].sum() == 2


@pytest.mark.usefixtures("strict")
def test_labels_that_have_not_matured_are_refused_and_a_few_left_out(tmp_path: Path) -> None:
    """After one of twelve months, with everybody else counted as a stayer, churn looked far lower than it was."""
    early = observed(tmp_path, *["2026-06-30"] * 2, *["2025-04-30"] * 38)
    with pytest.raises(
        DataError, match=r"38 of 40 labels have not matured.*2025-04-30.*ends on 2026-03-31 \(12"
    ):
        matured(early, LATER, 12)
    assert len(matured(early, LATER, 1).rows) == 40
    few = matured(observed(tmp_path, *["2026-06-30"] * 39, "2026-03-30"), LATER, 12)
    assert len(few.rows) == 39
    assert few.coverage[-1] == "1 were not observed until 2026-03-31 and are left out."


@pytest.mark.usefixtures("strict")
def test_an_observation_without_a_date_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"1 rows of labels.csv hold no date .* in 'observed_until'.*'soon' \(row 3\)"
    ):
        observed(tmp_path, "2026-06-30", "soon")


# --- figures


def judged(rows: int = 900, seed: int = 0, digits: int = 2) -> Judged:
    """With ties, as isotonic calibration leaves them."""
    y, p = customers(rows, seed)
    p = p.round(digits)
    return Judged(y, p, (p >= 0.3).astype("int64"), np.where(y == 1, 10.0, -1.0))


def test_with_equal_weights_the_metrics_are_those_of_the_holdout() -> None:
    found = judged()
    points, intervals = performance(found)
    plain = ranking(found.y, found.probability) | decisions(found.y, found.flag)
    shared = points.keys() & plain.keys()
    assert len(shared) == 10
    assert {name: points[name] for name in shared} == pytest.approx({name: plain[name] for name in shared})
    assert all(low <= points[name] <= high for name, (low, high) in intervals.items() if name != "ece")


def test_a_weight_counts_a_customer_so_often() -> None:
    found = judged(200)
    weights = np.random.default_rng(1).integers(1, 4, 200)
    rows = np.repeat(np.arange(200), weights)
    repeated = Judged(found.y[rows], found.probability[rows], found.flag[rows], found.value[rows])
    points = performance(found, weights.astype(float))[0]
    assert points.pop("ece") > 0  # its groups are of customers, not of weights
    assert points == pytest.approx({name: performance(repeated)[0][name] for name in points})
    assert points["roc_auc"] == pytest.approx(
        roc_auc_score(found.y, found.probability, sample_weight=weights)
    )


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    y, p = customers(200_000, 1)
    truth = average_precision_score(y, p)
    held = 0
    for seed in range(2, 42):
        own, probability = customers(400, seed)
        low, high = performance(Judged(own, probability, own, own.astype(float)))[1]["average_precision"]
        held += low <= truth <= high
    assert binom.ppf(0.001, 40, 0.94) <= held


def test_what_one_class_does_not_define_is_left_out() -> None:
    found = judged(50)
    points, _ = performance(Judged(np.zeros(50, dtype="int64"), found.probability, found.flag, found.value))
    assert "brier" in points
    assert {"average_precision", "roc_auc", "recall"}.isdisjoint(points)


def treated_cohort(rows: int, seed: int, effect: float = 0.5) -> tuple[Cohort, np.ndarray]:
    """Customers at risk get an offer, which keeps a share `effect` of the churners, but for a third by chance."""
    rng = np.random.default_rng(seed)
    y, p = customers(rows, seed)
    chosen = p >= 0.3
    arm = np.full(rows, None, dtype=object)
    arm[chosen] = np.where(rng.random(rows) < 1 / 3, "control", "offer")[chosen]
    kept = (arm == "offer") & (rng.random(rows) < effect)
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(rows)],
            "churn": np.where(kept, 0, y),
            PROBABILITY: p,
            "churn_flag": (p >= 0.4).astype("int64"),
            TIER: risk_tier(p, TIERS),
            "in_training": np.arange(rows) % 5 == 0,
            "arm": arm,
            "offer": "offer_small",
            "control_share": np.where(chosen, 1 / 3, np.nan),
            "margin": 10.0,
            "value": 0.0,
        }
    )
    return Cohort(frame), y


def test_controls_stand_for_the_customers_whose_outcome_an_offer_changed() -> None:
    cohort, y = treated_cohort(5000, 3)
    unseen = ~cohort.rows["in_training"].to_numpy()
    real = ranking(y[unseen], cohort.rows[PROBABILITY].to_numpy()[unseen])
    found = groups(cohort)
    low, high = found["untreated"][1]["average_precision"]
    assert low < real["average_precision"] < high
    assert found["all"][1]["average_precision"][1] < real["average_precision"]
    assert found["untreated"][0]["brier"] == pytest.approx(real["brier"], abs=0.006)


def test_training_customers_change_no_figure_of_the_unseen() -> None:
    cohort, _ = treated_cohort(1500, 4)
    flipped = cohort.rows.assign(churn=cohort.rows["churn"].where(~cohort.rows["in_training"], 1))
    before, after = groups(cohort), groups(Cohort(flipped))
    assert before["in_training"] != after["in_training"]
    assert all(after[name] == figures for name, figures in before.items() if name != "in_training")


def test_a_tiers_wilson_interval_holds_its_probabilities_or_says_so() -> None:
    y, p = customers(4000, 5)
    frame = pd.DataFrame({"churn": y, PROBABILITY: p, TIER: risk_tier(p, TIERS)})
    right = calibration(Cohort(frame), TIERS)
    assert right["tier"].tolist() == list(TIERS)
    assert right["holds"].all()
    assert right["observed"].tolist() == pytest.approx(
        [frame[frame[TIER] == t]["churn"].mean() for t in TIERS]
    )
    wrong = calibration(Cohort(frame.assign(**{PROBABILITY: p * 0.6})), TIERS)
    assert not wrong["holds"].all()


def logged_rows(cohort: Cohort) -> pd.DataFrame:
    """The customers an offer was chosen for, as the pooled campaigns have them."""
    rows = cohort.rows[cohort.rows["arm"].notna()].reset_index(drop=True)
    made = rows["arm"].eq("offer")
    return rows.rename(columns={PROBABILITY: "risk_score"}).assign(
        as_of=LATER, segment="SME", treatment=rows["offer"].where(made, "no_offer"),
        propensity_no_offer=1 / 3, propensity_offer_small=2 / 3,
        propensity_offer_medium=0.0, propensity_offer_large=0.0,
    )  # fmt: skip


def test_uplift_is_the_churn_that_offers_avoided_and_its_interval_holds_the_truth() -> None:
    cohort, y = treated_cohort(20_000, 6, effect=0.3)
    rows, of = logged_rows(cohort), cohort.rows["arm"].notna().to_numpy()
    told = average_effects(rows, OFFERS).set_index("value")
    truth, line = 0.3 * y[of].mean(), told.loc["all offers"]
    assert line["low"] < truth < line["high"] < line["low"] + 0.08
    offer, offered = OFFERS.menu["offer_small"], int(rows["treatment"].ne("no_offer").sum())
    assert (line["offered"], line["controls"]) == (offered, len(rows) - offered)
    _, low, high = worth(rows, OFFERS)
    real = offered * (truth * OFFERS.horizon_months * 10 - offer.acceptance * offer.cost_eur)
    assert low < real < high
    assert line["assumed"] == pytest.approx(offer.acceptance * offer.uplift * rows["risk_score"].mean())
    assert told.loc["offer_small"].to_dict() == pytest.approx(line.to_dict())


def test_the_worth_of_offers_is_the_margin_kept_less_what_they_cost() -> None:
    rows = logged_rows(treated_cohort(1500, 8)[0])
    value, low, high = worth(rows, OFFERS)
    offer, offered = OFFERS.menu["offer_small"], int(rows["treatment"].ne("no_offer").sum())
    avoided = average_effects(rows, OFFERS)["avoided"].iloc[0]
    kept = avoided * 2 / 3 * len(rows) * OFFERS.horizon_months * 10.0
    assert value == pytest.approx(kept - offered * offer.acceptance * offer.cost_eur)
    assert low < value < high


def test_without_controls_there_is_no_uplift_and_nobody_stands_for_the_offered() -> None:
    cohort, _ = treated_cohort(1500, 7)
    only = cohort.where(cohort.rows["arm"].ne("control"))
    assert average_effects(logged_rows(only), OFFERS).empty
    assert "untreated" not in groups(only)


# --- concept drift


def sample(
    rows: int, seed: int, *, odds: float = 0.0, moved: float = 0.0, off: bool = False, steeper: float = 1.0
) -> pd.DataFrame:
    """Customers whose true log odds are `odds` above and `steeper` than what a model says; `off`: which is wrong."""
    rng = np.random.default_rng(seed)
    said = rng.normal(-2 + moved, 1.6, rows)
    true = 1 / (1 + np.exp(-(odds + steeper * said + 0.4 * np.sin(2 * said))))
    p = 1 / (1 + np.exp(-(0.6 * said - 0.3 if off else said)))
    churn = (rng.random(rows) < true).astype("int64")
    return pd.DataFrame({PROBABILITY: p, "churn": churn, TIER: risk_tier(p, TIERS)})


@pytest.mark.parametrize(("moved", "off"), [(0.0, False), (0.6, True)])
def test_without_concept_drift_the_test_rejects_as_often_as_its_level_says(moved: float, off: bool) -> None:
    level, repeats = 0.1, 60
    found = [
        concept_drift(sample(700, s, off=off), sample(700, s + 1000, moved=moved, off=off), level).drifted
        for s in range(repeats)
    ]
    assert None not in found
    assert 0 < sum(map(bool, found)) <= binom.ppf(0.999, repeats, level)


@pytest.mark.parametrize(("odds", "steeper"), [(0.7, 1.0), (0.0, 0.6)])
def test_concept_drift_is_found_where_no_input_moved(odds: float, steeper: float) -> None:
    found = concept_drift(sample(2000, 1), sample(2000, 2, odds=odds, steeper=steeper), 0.01)
    assert found.drifted
    assert OVERALL in found.where


def test_drift_in_one_tier_alone_is_named() -> None:
    before, after = sample(4000, 3, moved=1), sample(4000, 4, moved=1)
    high = after[TIER].eq("High").to_numpy()
    y = np.where(high, drawn(np.where(high, 0.4, 0.0), 5), after["churn"])
    found = concept_drift(before, after.assign(churn=y), 0.01)
    assert set(found.where) == {OVERALL, "High"}


def campaign(rows: int, rng: np.random.Generator, effect: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Who is left without an offer where offers follow score and margin, and how many each stands for.

    A tenth of those chosen are controls. `effect`: log odds per standard deviation of log margin, beyond the score.
    """
    said, margin = rng.normal(-2, 1.6, rows), rng.normal(size=rows)
    p = 1 / (1 + np.exp(-said))
    churn = (rng.random(rows) < 1 / (1 + np.exp(-(said + effect * margin)))).astype("int64")
    chosen, control = (p >= 0.4) & (margin > -0.3), rng.random(rows) < 0.1
    frame = pd.DataFrame({PROBABILITY: p, "churn": churn, TIER: risk_tier(p, TIERS)})
    free = ~chosen | control
    return frame[free].reset_index(drop=True), np.where(chosen, 10.0, 1.0)[free]


def everybody(rows: int, rng: np.random.Generator, effect: float) -> pd.DataFrame:
    said = rng.normal(-2, 1.6, rows)
    p, true = (1 / (1 + np.exp(-(said + e * rng.normal(size=rows)))) for e in (0.0, effect))
    return pd.DataFrame(
        {PROBABILITY: p, "churn": (rng.random(rows) < true).astype("int64"), TIER: risk_tier(p, TIERS)}
    )


def level_under_confounding(effect: float, repeats: int, level: float = 0.01) -> tuple[int, int]:
    """How often the test rejects with the weights and without them, of `repeats` cohorts in which nothing changed."""
    rng, weighted, plain = np.random.default_rng(1), 0, 0
    for _ in range(repeats):
        reference = everybody(2000, rng, effect)
        free, stands = campaign(2000, rng, effect)
        weighted += bool(concept_drift(reference, free.assign(stands=stands), level).drifted)
        plain += bool(concept_drift(reference, free, level).drifted)
    return weighted, plain


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("effect", [0.3, 0.5])
def test_a_campaign_by_margin_leaves_the_level_where_margin_matters_beyond_the_score(effect: float) -> None:
    weighted, plain = level_under_confounding(effect, 300)
    assert weighted <= binom.ppf(0.999, 300, 0.01)
    assert plain > binom.ppf(0.999, 300, 0.01) or effect < 0.5


def test_a_campaign_by_margin_is_no_concept_drift() -> None:
    weighted, _ = level_under_confounding(0.5, 12)
    assert weighted <= 1  # 12 cohorts at 0.01 each


@pytest.mark.parametrize(("odds", "steeper", "part"), [(0.7, 1.0, "level"), (0.0, 0.55, "slope")])
def test_the_gap_is_divided_into_level_and_slope(odds: float, steeper: float, part: str) -> None:
    found = concept_drift(sample(3000, 1), sample(3000, 2, odds=odds, steeper=steeper), 0.01)
    assert found.gap[part] < 0.001
    assert found.gap["rest"] > 0.01
    moved = found.level_shift if part == "level" else found.slope
    assert moved == pytest.approx(odds if part == "level" else steeper, abs=0.2)


def test_another_shape_is_the_rest() -> None:
    before, after = sample(6000, 3), sample(6000, 4)
    middle = after[PROBABILITY].between(0.2, 0.4).to_numpy()
    y = np.where(middle, drawn(np.full(len(after), 0.7), 5), after["churn"])
    assert concept_drift(before, after.assign(churn=y), 0.01).gap["rest"] < 0.001


def test_without_controls_nobody_can_stand_for_those_with_an_offer_and_nothing_is_tested() -> None:
    rows = pd.DataFrame({"arm": pd.array(["offer", None], dtype="object")})
    inputs: Any = SimpleNamespace(training="there")
    assert outcomes_of._concepts(Cohort(rows), inputs) == (None, None)


def test_too_few_customers_are_no_proof_of_anything() -> None:
    found = concept_drift(sample(40, 1), sample(40, 2), 0.01)
    assert (found.drifted, found.where) == (None, [])


# --- the run


@dataclass(frozen=True)
class Watched:
    """A cohort with labels that keep what the scores promised."""

    root: Path
    lake: Lake
    trained: Snapshot
    version: str
    scored: pd.DataFrame
    y: np.ndarray
    file: Path
    found: Outcomes


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    root = tmp_path_factory.mktemp("watched")
    with own_store(root), own_model("outcomes"):
        lake = Lake(root / "lake")
        trained = reference(lake)
        version = version_of(churn_model(LOGISTIC), trained, root / "model")
        scored = score(lake, version)
        y = drawn(scored[PROBABILITY].to_numpy(), 11)
        file = write_labels(scored, y, root / "labels.csv")
        yield Watched(root, lake, trained, version, scored, y, file, outcomes(file, lake=lake))


def run_of(found: Outcomes) -> Run:
    return MlflowClient().get_run(found.run_id)


def test_a_run_holds_the_cohorts_figures_with_their_ends_and_says_whose_they_are(watched: Watched) -> None:
    run = run_of(watched.found)
    unseen = ~watched.scored["in_training"].to_numpy()
    p = watched.scored[PROBABILITY].to_numpy()
    assert (run.data.tags["stage"], run.data.tags["as_of"], run.data.tags["version"]) == (
        "outcomes",
        "2025-03-31",
        watched.version,
    )
    metrics = run.data.metrics
    assert metrics["outcomes.average_precision"] == pytest.approx(
        average_precision_score(watched.y[unseen], p[unseen])
    )
    for name in ("average_precision", "roc_auc", "brier", "ece", "recall", "precision", "value_eur"):
        assert metrics[f"outcomes.{name}.low"] <= metrics[f"outcomes.{name}.high"]
        assert f"outcomes.untreated.{name}" in metrics
        assert f"outcomes.in_training.{name}" in metrics
    assert {f"outcomes.tier.{t.lower()}.observed.low" for t in watched.scored[TIER][unseen]} <= metrics.keys()
    assert {
        "uplift.avoided.low",
        "uplift.worth_eur",
        "concept.p.overall",
        "outcomes.tier.high.brier",
    } <= metrics.keys()
    for tier in watched.scored[TIER].unique():
        here = unseen & watched.scored[TIER].eq(tier).to_numpy()
        prefix = f"outcomes.tier.{tier.lower()}"
        assert metrics[f"{prefix}.customers"] == here.sum()
        assert metrics[f"{prefix}.predicted"] == pytest.approx(p[here].mean())
        assert metrics[f"{prefix}.observed"] == pytest.approx(watched.y[here].mean())
    log = watched.lake.current("treatments").pandas()
    offered = watched.scored["customer_id"].isin(log["customer_id"][log["arm"] == "offer"]).to_numpy()
    shares = watched.scored["customer_id"].map(log.set_index("customer_id")["control_share"])
    stands = 1 / shares.fillna(1.0).to_numpy()
    assert metrics["concept.churners"] == pytest.approx((stands * watched.y)[unseen & ~offered].sum())
    assert (run.data.tags["concept_drift"], watched.found.concept_drift) == ("no", False)
    assert "On 1,1" in watched.found.findings[1]


def test_the_same_labels_give_the_run_that_is_there(watched: Watched) -> None:
    shuffled = pd.read_csv(watched.file).sample(frac=1, random_state=0)
    again = watched.root / "again.csv"
    shuffled.to_csv(again, index=False)
    assert outcomes(again, lake=watched.lake) == watched.found


def test_other_reasons_to_leave_are_concept_drift(watched: Watched) -> None:
    rate = np.full(len(watched.scored), watched.scored[PROBABILITY].mean())
    y = drawn(rate, 12)
    found = outcomes(write_labels(watched.scored, y, watched.root / "changed.csv"), lake=watched.lake)
    assert found.concept_drift
    assert any("label given score has changed" in line for line in found.findings)
    assert run_of(found).data.metrics["concept.drift"] == 1


def test_offers_that_keep_customers_are_no_concept_drift(watched: Watched) -> None:
    log = watched.lake.current("treatments").pandas()
    offered = watched.scored["customer_id"].isin(log["customer_id"][log["arm"] == "offer"]).to_numpy()
    kept = np.where(offered, 0, watched.y)
    found = outcomes(write_labels(watched.scored, kept, watched.root / "kept.csv"), lake=watched.lake)
    metrics = run_of(found).data.metrics
    assert found.concept_drift is False
    assert metrics["uplift.avoided.low"] > 0
    assert any("fewer left than of" in line and "which may be chance" not in line for line in found.findings)
    assert metrics["outcomes.average_precision.high"] < metrics["outcomes.untreated.average_precision"]


def test_rows_go_to_the_lake_none_to_mlflow_and_erasing_reaches_them(
    watched: Watched, tmp_path: Path
) -> None:
    found = outcomes(watched.file, lake=watched.lake)
    table = watched.lake.current("outcomes").pandas()
    assert len(table) == len(watched.scored)
    assert table["churn"].sum() == watched.y.sum()
    assert table["label_date"].notna().equals(table["churn"].eq(1))
    kept = [
        file for file in (watched.root / "mlruns").rglob("*") if file.is_file() and found.run_id in str(file)
    ]
    assert kept
    assert not any(b"C00001" in file.read_bytes() for file in kept)
    erase("C00001", watched.lake, reason="asked for")
    assert "C00001" not in set(watched.lake.current("outcomes").pandas()["customer_id"])


def test_the_verb_names_the_cohort_prints_a_sentence_per_finding_and_takes_no_other_day(
    watched: Watched,
) -> None:
    lake = ["--lake", str(watched.root / "lake")]
    done = CliRunner().invoke(app, ["outcomes", str(watched.file), *lake])
    assert done.exit_code == 0, done.output
    assert "kept apart" in done.output
    assert f"outcomes of version {watched.version} as of 2025-03-31" in done.output
    other = CliRunner().invoke(
        app, ["outcomes", "--labels", str(watched.file), "--as_of", "2025-06-30", *lake]
    )
    assert "no scores as of 2025-06-30" in str(other.exception)


# --- before labels arrive


def test_the_estimate_is_what_labels_drawn_from_the_probabilities_reach_on_average() -> None:
    _, p = customers(1500, 8)
    flag = (p >= 0.3).astype("int64")
    points, ranges = expected(p, flag)
    labels = [drawn(p, seed) for seed in range(100)]
    real = np.array([average_precision_score(y, p) for y in labels])
    recall = np.array([decisions(y, flag)["recall"] for y in labels])
    assert points["average_precision"] == pytest.approx(real.mean(), abs=4 * real.std() / 10)
    assert points["recall"] == pytest.approx(recall.mean(), abs=4 * recall.std() / 10)
    low, high = ranges["average_precision"]
    assert binom.ppf(0.001, 100, 0.95) <= ((low <= real) & (real <= high)).sum()
    assert expected(p, flag) == (points, ranges)


def test_what_no_draw_of_labels_defines_is_not_estimated() -> None:
    points, _ = expected(np.zeros(20), np.zeros(20, dtype="int64"))
    assert points == {"churn_rate": 0.0}


def test_the_estimate_is_blind_to_concept_drift_and_says_so(watched: Watched) -> None:
    found = estimate(lake=watched.lake)
    assert run_of(found).data.tags["as_of"] == "2025-03-31"
    assert any("blind to concept drift" in line for line in found.findings)
    metrics, labelled = run_of(found).data.metrics, run_of(watched.found).data.metrics
    shared = [name for name in metrics if name.startswith("estimated.")]
    assert len(shared) == 12
    assert {name: labelled[name] for name in shared} == {name: metrics[name] for name in shared}
    low, high = (labelled[f"estimated.average_precision.{end}"] for end in ("low", "high"))
    assert low < labelled["outcomes.average_precision"] < high
    rate = np.full(len(watched.scored), watched.scored[PROBABILITY].mean())
    changed = write_labels(watched.scored, drawn(rate, 12), watched.root / "unlike.csv")
    after = run_of(outcomes(changed, lake=watched.lake)).data.metrics
    assert after["estimated.average_precision"] == metrics["estimated.average_precision"]
    assert after["outcomes.average_precision"] < low


def test_an_estimate_needs_customers_that_the_model_did_not_learn_from(
    watched: Watched, tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    publish(lake, "scores", watched.scored.assign(in_training=True), LATER)
    with pytest.raises(DataError, match="learned from every customer scored as of 2025-03-31"):
        estimate(lake=lake)
    done = CliRunner().invoke(app, ["outcomes", "--lake", str(watched.root / "lake")])
    assert "Without labels, from the probabilities of" in done.output

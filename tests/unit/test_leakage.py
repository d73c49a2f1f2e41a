"""Each kind of leak is planted and found; clean tables raise no alarm."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from spanishgas.config.policy import Waiver, load_policy
from spanishgas.evaluation import leakage
from spanishgas.evaluation.leakage import LeakageFinding, OutOfFold
from spanishgas.features import load_tiers
from spanishgas.training.sides import in_holdout
from tests.gold_frames import gold_frame

AS_OF = date(2024, 12, 31)
FEATURES = [
    "months_to_renewal",
    "tenure_months",
    "segment",
    "is_dual_fuel",
    "avg_monthly_elec_kwh",
    "last_interaction_days_ago",
]
TEXTS = ["sentiment_label", "customer_intent"]
Labels = NDArray[np.int64]


def kinds(features: Sequence[str]) -> dict[str, str]:
    tiers = load_tiers()
    known = set(tiers.features())
    return {f: str(tiers.kind(f)) if f in known else "numeric" for f in features}


def sides(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = in_holdout(frame["customer_id"], load_policy().holdout)
    return frame[~out].reset_index(drop=True), frame[out].reset_index(drop=True)


def honest(X: pd.DataFrame) -> OutOfFold:
    """A procedure that fits every step inside the fold."""
    values = X.select_dtypes("number").fillna(0.0).to_numpy()

    def out_of_fold(y: Labels) -> NDArray[np.float64]:
        parts = StratifiedKFold(3, shuffle=True, random_state=0)
        model = LogisticRegression(max_iter=500)
        return np.asarray(cross_val_predict(model, values, y, cv=parts, method="decision_function"))

    return out_of_fold


def check(
    frame: pd.DataFrame,
    features: Sequence[str] = FEATURES,
    waivers: Sequence[Waiver] = (),
    seed: int = 0,
    procedure: OutOfFold | None = None,
) -> dict[str, LeakageFinding]:
    trained, held_out = sides(frame)
    both = leakage.Sides(trained, held_out, features, kinds(features), seed)
    found = leakage.check(both, AS_OF, waivers, procedure or honest(trained[list(features)]))
    return {f.name: f for f in found}


def names(found: dict[str, LeakageFinding]) -> set[str]:
    return {name for name, f in found.items() if f.found}


def false_alarms(seeds: int, rows: int) -> list[str]:
    return [name for seed in range(seeds) for name in names(check(gold_frame(rows, seed), seed=seed))]


def test_clean_tables_raise_no_alarm() -> None:
    assert len(false_alarms(8, 400)) <= 1  # two of the five checks allow chance one in a thousand each


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a second or so a table, on one core that does nothing else
def test_of_hundreds_of_clean_tables_at_most_two_raise_an_alarm() -> None:
    assert len(false_alarms(300, 800)) <= 2


@pytest.mark.parametrize("flipped", [0.0, 0.05])
def test_a_column_that_knows_the_label_is_found_also_if_it_is_noisy(flipped: float) -> None:
    frame = gold_frame(1500)
    wrong = np.random.default_rng(1).random(len(frame)) < flipped
    frame["balance_after_closing"] = (frame["churn"].astype(int) ^ wrong).astype(float)
    found = check(frame, [*FEATURES, "balance_after_closing"])
    assert names(found) == {"single_feature"}
    assert found["single_feature"].features == ("balance_after_closing",)
    assert found["single_feature"].refuses


@pytest.mark.parametrize(
    ("known", "low", "high", "found"), [(0.4, 0.27, 0.5, True), (0.12, 0.1, 0.23, False)]
)
def test_a_column_is_found_from_a_quarter_of_the_way_to_perfect_on(
    known: float, low: float, high: float, found: bool
) -> None:
    """What the policy says of 0.25: a column that knows some of the churners and names nobody else."""
    frame = gold_frame(3000)
    told = (frame["churn"] == 1) & (np.random.default_rng(1).random(len(frame)) < known)
    finding = check(frame.assign(told=told.astype(float)), [*FEATURES, "told"])["single_feature"]
    assert low < finding.value < high
    assert finding.found is found


def test_a_column_whose_blanks_know_the_label_is_found() -> None:
    frame = gold_frame(1500)
    frame["final_bill"] = np.where(frame["churn"] == 1, np.nan, np.random.default_rng(1).normal(50, 9, 1500))
    assert "single_feature" in names(check(frame, [*FEATURES, "final_bill"]))


def test_texts_that_know_the_outcome_are_found_and_declared_by_the_policys_waiver() -> None:
    frame = gold_frame(1500)
    frame.loc[frame["churn"] == 1, "sentiment_label"] = "negative"
    frame.loc[frame["churn"] == 0, "sentiment_label"] = "neutral"
    found = check(frame, [*FEATURES, *TEXTS], load_policy().waivers)
    assert names(found) == {"outcome_conditioned_text"}
    assert found["outcome_conditioned_text"].features == ("sentiment_label",)
    assert not found["outcome_conditioned_text"].refuses
    undeclared = check(frame, [*FEATURES, *TEXTS])
    assert undeclared["single_feature"].refuses


def test_a_waiver_hides_no_other_column() -> None:
    frame = gold_frame(1500)
    frame["customer_intent"] = np.where(frame["churn"] == 1, "Complaint / Escalation", "Contract Renewal")
    waiver = Waiver(check="mood", reason="known", date=AS_OF, features=["sentiment_label"])
    found = check(frame, [*FEATURES, *TEXTS], [waiver])
    assert found["single_feature"].features == ("customer_intent",)
    assert found["single_feature"].refuses


def test_a_model_without_the_declared_columns_has_no_finding_of_that_name() -> None:
    assert "outcome_conditioned_text" not in check(gold_frame(400), waivers=load_policy().waivers)


def test_every_text_feature_of_the_dictionary_is_declared_and_no_other() -> None:
    tiers, (waiver,) = load_tiers(), load_policy().waivers
    from_text = ("customer_intent", "sentiment_label", "is_negative_sentiment", "recent_complaint_flag")
    told = {"customer_intent", "sentiment_label", "intent_severity_score"}
    told |= {f for f in tiers.features() if any(word in tiers.entry(f).definition for word in from_text)}
    assert {"recent_complaint_flag"} | told == set(waiver.features)


def test_something_dated_after_as_of_is_found_with_its_column() -> None:
    frame = gold_frame(600)
    frame.loc[[3, 77], "last_interaction_days_ago"] = -12.0
    frame.loc[77, "tenure_months"] = -0.1
    found = check(frame)["dated_after_as_of"]
    assert (found.value, found.features) == (2, ("tenure_months", "last_interaction_days_ago"))
    assert found.refuses


def test_a_date_on_as_of_is_no_finding_and_one_a_day_later_is() -> None:
    frame = gold_frame(600)
    frame["last_seen"] = pd.Timestamp(AS_OF) + pd.Timedelta(hours=23)
    assert not check(frame)["dated_after_as_of"].found
    frame.loc[5, "last_seen"] += pd.Timedelta(hours=1)
    assert check(frame)["dated_after_as_of"].value == 1


def test_a_training_customer_held_out_under_another_id_is_found() -> None:
    trained, held_out = sides(gold_frame(600))
    held_out.loc[[4, 9], trained.columns.drop("customer_id")] = trained.loc[
        [0, 1], trained.columns.drop("customer_id")
    ].to_numpy()
    found = leakage.duplicates(trained, held_out)
    assert (found.value, found.refuses) == (2, True)


def test_one_id_on_both_sides_is_found_though_its_values_differ() -> None:
    trained, held_out = sides(gold_frame(600))
    held_out.loc[4, "customer_id"] = trained.loc[0, "customer_id"]
    assert leakage.duplicates(trained, held_out).value == 1


def test_encoding_a_category_by_its_churn_rate_before_the_folds_is_found() -> None:
    frame = gold_frame(1500)
    trained, _ = sides(frame)
    streets = pd.Series(np.random.default_rng(0).integers(0, 300, len(trained)))

    def leaky(y: Labels) -> NDArray[np.float64]:
        encoded = pd.Series(y).groupby(streets).transform("mean")
        return honest(encoded.to_frame())(y)

    found = check(frame, procedure=leaky)
    assert names(found) == {"permuted_labels"}
    assert found["permuted_labels"].value > 1.5 * frame["churn"].mean()


def test_shuffled_labels_give_the_churn_rate_where_the_procedure_is_sound() -> None:
    frame = gold_frame(1500)
    found = check(frame)["permuted_labels"]
    assert found.value == pytest.approx(sides(frame)[0]["churn"].mean(), abs=0.04)


def test_a_holdout_of_other_customers_is_found() -> None:
    trained, held_out = sides(gold_frame(1500))
    held_out["tenure_months"] += 2.0
    found = leakage.adversarial(leakage.Sides(trained, held_out, FEATURES, kinds(FEATURES), 0))
    assert found.value > 0.7
    assert found.refuses


def test_a_value_that_could_not_be_computed_is_a_finding() -> None:
    finding = LeakageFinding(name="adversarial", value=float("nan"), limit=0.5, words="", way_out="")
    assert finding.refuses


def test_the_table_names_what_was_found_and_what_is_declared() -> None:
    frame = gold_frame(1500)
    frame["sentiment_label"] = np.where(frame["churn"] == 1, "negative", "neutral")
    table = leakage.table(list(check(frame, [*FEATURES, *TEXTS], load_policy().waivers).values()))
    verdicts = dict(zip(table["check"], table["verdict"], strict=True))
    assert verdicts["outcome_conditioned_text"] == "declared"
    assert verdicts["adversarial"] == "nothing found"
    assert "sentiment_label" in table.set_index("check").loc["outcome_conditioned_text", "what it says"]

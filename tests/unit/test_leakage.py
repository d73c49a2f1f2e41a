"""Each kind of leak is planted and found; clean tables raise no alarm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

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
from tests.worlds import WORLDS, world

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
    numbers = X.select_dtypes("number").fillna(0.0)
    values = ((numbers - numbers.mean()) / numbers.std()).to_numpy()

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
    assert len(false_alarms(8, 400)) <= 1  # each check allows chance far less than one in a hundred


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


# --- planted leaks in a world that the simulator did not draw

FEW = [
    "kwh",
    "bill",
    "contacts",
    "tenure_months",
    "days_since_contact",
    "postcode",
    "tariff",
    "flag_1",
    "flag_2",
]
Plant = Callable[[pd.DataFrame, NDArray[np.int64], np.random.Generator], pd.Series | NDArray[Any] | None]


def closing_codes(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return np.where(y == 1, rng.integers(0, 6, len(y)), rng.integers(6, 60, len(y))).astype(str)


def shuffled_codes(count: int) -> Plant:
    """Codes in no order, of which some are churners' alone."""

    def plant(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
        code = rng.integers(0, count // 2, len(y)) * 2 + y
        return rng.permutation(count)[code]

    return plant


def encoded(state: Callable[[pd.DataFrame], pd.Series], streets: int = 400) -> Plant:
    """A figure of each street, made of the labels in it."""

    def plant(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
        rows = pd.DataFrame({"y": y, "street": rng.choice(streets, len(y), p=_uneven(rng, streets))})
        by = rows.groupby("street")["y"]
        rows = rows.assign(k=by.transform("sum"), n=by.transform("size"), rate=y.mean())
        return state(rows).to_numpy(dtype="float64")

    return plant


def _uneven(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    share = rng.gamma(4.0, size=count)
    return np.asarray(share / share.sum())


def only_for(label: int, share: float) -> Plant:
    """A code that a share of the customers of one label have and nobody else."""

    def plant(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
        told = (y == label) & (rng.random(len(y)) < share)
        return np.where(told, "done", rng.choice(["a", "b", "c"], len(y)))

    return plant


def exclusive_or(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return frame["flag_1"].to_numpy() ^ y


def missing_or_flag(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return np.where((frame["flag_2"].to_numpy() ^ y) == 1, np.nan, rng.normal(50, 9, len(y)))


def above_another(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return frame["kwh"].to_numpy() * np.where(y == 1, 1.3, 0.9)


def codes_that_add_up(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return (y + pd.factorize(frame["tariff"])[0]) % 4


def truncated_rows(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> None:
    three = rng.random((len(y), 3)).argsort(axis=1)
    for name, rank in zip(("kwh", "bill", "tenure_months"), three.T, strict=True):
        frame[name] = frame[name].mask((y == 1) & (rank < 2))


def to_the_cent(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    value = rng.gamma(3, 20, len(y))
    return np.where(y == 1, value.round(2), value)


def zero_at_the_end(frame: pd.DataFrame, y: Labels, rng: np.random.Generator) -> NDArray[Any]:
    return np.where((y == 1) & (rng.random(len(y)) < 0.12), 0.0, rng.gamma(3, 20, len(y)))


PLANTED: dict[str, tuple[Plant, str]] = {
    "six closing codes": (closing_codes, "single_feature"),
    "a category of 400 codes": (lambda f, y, r: shuffled_codes(400)(f, y, r).astype(str), "single_feature"),
    "400 codes as numbers": (shuffled_codes(400), "single_feature"),
    "churn rate of the street": (encoded(lambda g: g["k"] / g["n"]), "made_of_the_label"),
    "smoothed rate of the street": (
        encoded(lambda g: (g["k"] + 20 * g["rate"]) / (g["n"] + 20)),
        "made_of_the_label",
    ),
    "points of the street": (encoded(lambda g: 700 - 300 * g["k"] / g["n"]), "made_of_the_label"),
    "weight of evidence": (
        encoded(
            lambda g: np.log((g["k"] + 0.5) / (g["n"] - g["k"] + 0.5)) - np.log(g["rate"] / (1 - g["rate"]))
        ),
        "made_of_the_label",
    ),
    "rate of the street but for oneself": (
        encoded(lambda g: (g["k"] - g["y"]) / (g["n"] - 1), 100),
        "single_feature",
    ),
    "two flags' exclusive or": (exclusive_or, "pair_of_features"),
    "blanks and a flag": (missing_or_flag, "pair_of_features"),
    "codes that add up": (codes_that_add_up, "pair_of_features"),
    "one number above another": (above_another, "pair_of_features"),
    "a rare code of churners": (only_for(1, 0.12), "value_of_churners"),
    "a number of churners": (zero_at_the_end, "value_of_churners"),
    "a code of stayers": (only_for(0, 0.6), "value_of_stayers"),
    "truncated rows": (truncated_rows, "single_feature"),
    "amounts to the cent": (to_the_cent, "single_feature"),
}
"""Leak -> how it is planted, and the check that finds it."""


@pytest.mark.parametrize("leak", PLANTED)
def test_a_planted_leak_is_found_by_its_check_alone(leak: str) -> None:
    plant, by = PLANTED[leak]
    frame = world("shocks", 5000, 1).frame[["customer_id", "churn", *FEW]]
    column = plant(frame, frame["churn"].to_numpy(), np.random.default_rng(1))
    kinds = {f: "category" if f in ("postcode", "tariff") else "numeric" for f in FEW}
    if column is not None:
        frame["planted"] = column
        kinds["planted"] = "numeric" if pd.api.types.is_numeric_dtype(frame["planted"]) else "category"
    trained, held_out = sides(frame)
    found = leakage.columns(leakage.Sides(trained, held_out, list(kinds), kinds, 0), [])
    assert [f.name for f in found if f.found] == [by]
    assert column is None or "planted" in next(f.features for f in found if f.found)


COPIES = {
    "1e-9 off": lambda values, rng: values * (1 + 1e-9 * rng.normal(size=values.shape)),
    "a thousandth off": lambda values, rng: values * (1 + 1e-3 * rng.normal(size=values.shape)),
    "in cents": lambda values, rng: values.round(2),
}


@pytest.mark.parametrize("off", COPIES)
def test_copies_of_training_rows_under_other_ids_are_found_though_their_numbers_are_a_little_off(
    off: str,
) -> None:
    trained, held_out = sides(world("heavy", 3000, 1).frame)
    half = held_out.index[::2]
    copies = trained.sample(len(half), random_state=1).set_index(half)
    numbers = list(copies.select_dtypes("float64"))
    copies[numbers] = COPIES[off](copies[numbers], np.random.default_rng(1))
    held_out.loc[half, copies.columns.drop("customer_id")] = copies.drop(columns="customer_id")
    assert not leakage.near_copies(*sides(world("heavy", 3000, 1).frame)).found
    found = leakage.near_copies(trained, held_out)
    assert found.value == pytest.approx(len(half), rel=0.1)
    assert found.refuses


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%Y-%m-%dT%H:%M:%S", "number", "timestamp"]
)
def test_a_date_beyond_as_of_is_found_however_it_is_written(form: str) -> None:
    frame = world("shocks", 600, 1).frame
    day = pd.to_datetime(frame["last_invoice"]).mask(frame.index < 7)
    day.iloc[100] = pd.Timestamp(AS_OF) + pd.Timedelta(days=3)
    written = day if form == "timestamp" else day.dt.strftime("%Y%m%d" if form == "number" else form)
    frame["closed_on"] = pd.to_numeric(written) if form == "number" else written
    found = leakage.dated_after(frame, AS_OF)
    assert (found.value, found.features) == (1, ("closed_on",))


def test_an_age_of_any_name_and_no_plan_is_dated() -> None:
    frame = world("shocks", 600, 1).frame
    frame["next_renewal_date"] = "2025-06-30"
    assert not leakage.dated_after(frame, AS_OF).found
    frame.loc[5, "days_since_contact"] = -1.0
    assert leakage.dated_after(frame, AS_OF).features == ("days_since_contact",)


def world_alarms(tables: int, rows: int) -> list[tuple[str, str]]:
    """World and check of every finding in tables without a leak."""
    rung = []
    for seed in range(tables):
        name = list(WORLDS)[seed % len(WORLDS)]
        drawn = world(name, rows, seed)
        trained, held_out = sides(drawn.frame)
        both = leakage.Sides(trained, held_out, list(drawn.kinds), drawn.kinds, seed)
        procedure = honest(trained[list(drawn.kinds)])
        rung += [(name, f.name) for f in leakage.check(both, AS_OF, [], procedure) if f.found]
    return rung


def test_clean_tables_of_other_worlds_raise_no_alarm() -> None:
    assert len(world_alarms(3, 1500)) <= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_hundreds_of_clean_tables_of_other_worlds_at_most_one_in_a_hundred_raises_an_alarm() -> None:
    assert len(world_alarms(300, 2500)) <= 3

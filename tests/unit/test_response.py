"""What offers do to simulated customers: part of the truth, and of nothing else that is drawn."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spanishgas.config.policy import load_policy
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import RAW_FILES, Lake, file_digest
from spanishgas.simulate import write_extract
from spanishgas.simulate.extract import draw_blocks
from spanishgas.simulate.files import response_rows, truth_rows
from spanishgas.simulate.response import OFFERS, offers_made
from tests.dashboard_lake import blank, publish

DAY = date(2024, 12, 31)
N = 12_000
UNTREATED = "e7c8c1adb581334777cb96ef4152da3fbe113c1e689b3e44ec226999a37d6bbd"
"""Digest of the raw files that 130 customers of seed 5 had before the simulator knew offers."""


def responses(effect: float = 1.0, customers: int = N) -> pd.DataFrame:
    blocks = draw_blocks(customers, seed=31, as_of=DAY, effect=effect)
    return pd.concat([truth_rows(b).merge(response_rows(b)) for b in blocks], ignore_index=True)


@pytest.fixture(scope="module")
def drawn() -> pd.DataFrame:
    return responses()


def extract(out: Path, **options: object) -> Path:
    arguments = {"customers": 130, "seed": 5, "labelled": True, "truth": out.with_name(f"{out.name}-truth")}
    write_extract(out, as_of=DAY, **arguments | options)  # type: ignore[arg-type]
    return out


def labels(raw: Path) -> pd.DataFrame:
    return pd.read_csv(raw / RAW_FILES["churn_label"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("plain") / "raw")


@pytest.mark.parametrize("offer", OFFERS)
def test_on_average_an_offer_keeps_the_share_of_churners_that_policy_assumes(
    drawn: pd.DataFrame, offer: str
) -> None:
    at_risk = drawn[drawn["churn_probability"] >= 0.4]
    terms = load_policy().offers.menu[offer]
    kept = at_risk["churn_probability"] - at_risk[f"churn_probability_{offer}"]
    share = kept.mean() / at_risk["churn_probability"].mean()
    noise = kept.std() / np.sqrt(len(at_risk)) / at_risk["churn_probability"].mean()
    assert len(at_risk) > 800
    assert abs(share - terms.acceptance * terms.uplift) < 0.05 * terms.acceptance * terms.uplift + 3 * noise


@pytest.mark.parametrize("offer", OFFERS)
def test_outcomes_under_an_offer_come_at_the_probabilities_that_the_truth_states(
    drawn: pd.DataFrame, offer: str
) -> None:
    stated, happened = drawn[f"churn_probability_{offer}"], drawn[f"churn_{offer}"]
    for part in np.array_split(np.argsort(stated.to_numpy()), 8):
        p = stated.iloc[part]
        assert (
            abs(happened.iloc[part].mean() - p.mean()) < 4 * np.sqrt((p * (1 - p)).mean() / len(part)) + 1e-3
        )


def test_each_type_is_what_its_name_says_and_all_four_are_there(drawn: pd.DataFrame) -> None:
    for offer in OFFERS:
        types = drawn[f"type_{offer}"]
        left = {"persuadable": (1, 0), "sure thing": (0, 0), "lost cause": (1, 1), "sleeping dog": (0, 1)}
        for name, pair in left.items():
            rows = drawn[types == name]
            assert len(rows) > 20, (offer, name)
            assert set(zip(rows["churn"], rows[f"churn_{offer}"], strict=True)) == {pair}


def test_effects_differ_between_customers_and_not_by_risk_alone(drawn: pd.DataFrame) -> None:
    at_risk = drawn[drawn["churn_probability"] >= 0.4]
    gain = at_risk["churn_probability"] - at_risk["churn_probability_offer_large"]
    relative = gain / at_risk["churn_probability"]
    assert relative.std() > 0.5 * relative.mean()
    assert 0.05 < (gain < 0).mean() < 0.4
    assert abs(np.corrcoef(relative, at_risk["churn_probability"])[0, 1]) < 0.7


def test_effects_of_strength_zero_leave_every_outcome_as_it_is() -> None:
    rows = responses(effect=0.0, customers=2_000)
    for offer in OFFERS:
        assert (rows[f"churn_{offer}"] == rows["churn"]).all()
        assert (rows[f"churn_probability_{offer}"] == rows["churn_probability"]).all()


def test_without_treatments_labels_and_draws_are_byte_for_byte_what_they_were(
    plain: Path, tmp_path: Path
) -> None:
    none = extract(tmp_path / "raw", treatments=pd.Series(dtype="str"))
    assert file_digest(none) == file_digest(plain)
    weak = extract(tmp_path / "weak", effect=0.0)
    assert file_digest(weak) == file_digest(plain)
    assert file_digest(plain) == UNTREATED


def test_a_campaign_changes_the_labels_of_those_it_reached_and_nothing_else(
    plain: Path, tmp_path: Path
) -> None:
    truth = pd.read_parquet(plain.with_name("raw-truth") / "response.parquet")
    offers = truth.set_index("customer_id")["churn_offer_large"].iloc[::2].map(lambda _: "offer_large")
    treated = extract(tmp_path / "raw", treatments=offers, effect=2.0)
    there = pd.read_parquet(tmp_path / "raw-truth" / "response.parquet").set_index("customer_id")
    after, before = (labels(raw).set_index("customer_id")["churn"] for raw in (treated, plain))
    untouched = ~before.index.isin(offers.index)
    assert after[untouched].equals(before[untouched])
    assert (after[offers.index] == there.loc[offers.index, "churn_offer_large"]).all()
    assert not after.equals(before)
    (treated / RAW_FILES["churn_label"]).write_bytes((plain / RAW_FILES["churn_label"]).read_bytes())
    assert file_digest(treated) == file_digest(plain)


def test_a_log_is_read_from_a_file_or_a_lake_and_controls_got_no_offer(tmp_path: Path) -> None:
    log = blank("treatments", 3).assign(
        customer_id=["A", "B", "C"], arm=["offer", "control", "offer"], as_of=DAY, stratum="all",
        offer=["offer_small", "offer_large", "offer_large"], timing_window="immediate", model_version="1",
    )  # fmt: skip
    expected = {"A": "offer_small", "C": "offer_large"}
    publish(Lake(tmp_path / "lake"), "treatments", log, DAY)
    file = tmp_path / "log.csv"
    log.to_csv(file, index=False)
    assert offers_made(str(file), DAY).to_dict() == expected
    assert offers_made(str(tmp_path / "lake"), DAY).to_dict() == expected
    uri = Lake(tmp_path / "lake").current("treatments").uri
    assert offers_made(uri, DAY).to_dict() == expected


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"offer": ["gift", "offer_small"]}, UsageError, "unknown offer in .*'gift'"),
        ({"customer_id": ["A", "A"]}, DataError, "in two arms of .*'A'"),
        ({"as_of": "2025-03-31"}, DataError, "is of 2025-03-31, not 2024-12-31"),
        ({"offer": None}, UsageError, "has no column offer"),
    ],
)
def test_a_log_that_cannot_be_followed_is_refused(
    tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    log = pd.DataFrame({"customer_id": ["A", "B"], "offer": "offer_small"}).assign(**change)
    log.dropna(axis="columns").to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(error, match=words):
        offers_made(str(tmp_path / "log.csv"), DAY)


def test_treated_strangers_and_impossible_strengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 treated customers are not in this extract, such as 'X'"):
        extract(tmp_path / "a", treatments=pd.Series({"X": "offer_small"}))
    with pytest.raises(UsageError, match="effect must lie between 0 and 2, but got 3"):
        extract(tmp_path / "b", effect=3.0)

"""The model card: what must stand in it, as Markdown and as a page of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.evaluation import card
from spanishgas.evaluation.card import METRICS, Evaluation, Subject
from spanishgas.evaluation.importance import Importance
from spanishgas.evaluation.leakage import LeakageFinding
from spanishgas.evaluation.slices import Slice
from spanishgas.evaluation.study import HoldoutResult, Study
from spanishgas.features import load_tiers
from spanishgas.rendering import as_markdown
from tests.gold_frames import gold_frame


def a_slice(value: str, *, judged: bool = True, worse: bool = False) -> Slice:
    return Slice(
        dimension="channel",
        value=value,
        rows=90,
        churners=9 if judged else 1,
        flagged=20,
        caught=5 if judged else 1,
        average_precision=0.5 if judged else None,
        interval=(0.4, 0.6) if judged else None,
        expected=0.55 if judged else None,
        mean_probability=0.1,
        p_ranking=0.2 if judged else None,
        p_calibration=0.3 if judged else None,
        ranks_worse=worse,
    )


def evaluation(**changes: Any) -> Evaluation:
    """The evaluation of a made-up model, with parts of its subject, study or itself replaced."""
    frame = gold_frame(300).assign(active_months_count=12)
    frame["total_elec_kwh_2024"] = 12 * frame["avg_monthly_elec_kwh"]
    features = load_experiment("E5").features(load_tiers(), linear=False)
    metrics = {f"holdout.{m}{end}": 0.25 for m in METRICS for end in ("", ".low", ".high")}
    subject = Subject(load_experiment("E5"), "xgboost", features, 0.31, 0.74, date(2024, 12, 31), "abc123")
    rows, nothing = frame[200:], np.zeros(100)
    study = Study(
        [LeakageFinding(name="duplicates", value=4, limit=0, words="held-out customers", way_out="")],
        [a_slice("Office", worse=True), a_slice("Unknown"), a_slice("Own Website", judged=False)],
        Importance(
            pd.DataFrame(
                {
                    "feature": ["tenure_months"],
                    "drop": [0.05],
                    "low": [0.01],
                    "high": [0.09],
                    "attribution": [0.4],
                }
            ),
            pd.DataFrame({"tier": ["2B"], "drop": [0.2], "low": [0.1], "high": [0.3], "features": [3]}),
        ),
    )
    made = Evaluation(
        subject,
        load_policy(),
        HoldoutResult(frame[:200], rows, nothing, nothing.astype("int64"), nothing),
        openings=3,
        metrics=metrics | {"holdout.average_precision": 0.7512},
        study=study,
        beside={"E5": (0.75, 0.70, 0.80), "E8": (0.66, 0.60, 0.72)},
    )
    for part in ("subject", "study", "holdout"):
        of_part = {k: changes.pop(k) for k in list(changes) if hasattr(getattr(made, part), k)}
        made = replace(made, **{part: replace(getattr(made, part), **of_part)})
    return replace(made, **changes)


@pytest.fixture(scope="module")
def text() -> str:
    return card.markdown(evaluation(), "passed: everything")


@pytest.mark.parametrize(
    "words",
    [
        "## What it is for",
        "It is not made for",
        "no date of leaving and no\nhorizon",
        "not by when anyone leaves",
        "passed: everything",
        "| average_precision | 0.7512 | 0.2500 to 0.2500 |",
        "opened\n3 times",
        "digest `abc123`",
        "The threshold is 0.3100",
        "## Limits",
    ],
)
def test_the_card_says(words: str, text: str) -> None:
    assert words in text


def test_every_metric_stands_in_the_card_with_its_interval(text: str) -> None:
    assert all(f"| {name} |" in text for name in METRICS)


def test_a_metric_that_the_labels_do_not_define_is_said_to_be_undefined() -> None:
    table = card.metrics_table({"holdout.recall": 0.7, "holdout.recall.low": 0.6, "holdout.recall.high": 0.8})
    shown = table.set_index("holdout metric")
    assert list(shown.loc["recall"]) == ["0.7000", "0.6000 to 0.8000"]
    assert list(shown.loc["ece"]) == ["undefined", ""]


def test_a_worse_slice_is_named_and_the_unjudged_are_counted_not_listed(text: str) -> None:
    assert "1 of 2 slices are worse than chance would allow: channel Office (ranks worse)" in text
    assert "1 more have too few churners" in text
    assert "Own Website" not in text


def test_what_the_model_does_to_protected_slices_stands_side_by_side_and_who_decides(text: str) -> None:
    assert "| channel | Office | 90 | 0.222 (0.149 to 0.318) | 0.250 (0.112 to 0.469) |" in text
    assert "GDPR, article 22" in text
    assert "EU AI Act" in text


def test_a_policy_that_protects_nothing_says_that_nothing_was_measured() -> None:
    policy = load_policy().model_copy(update={"protected": []})
    text = card.markdown(evaluation(policy=policy), "")
    assert "Not measured: `protected` in policy.yaml names no division" in text


def test_leakage_findings_and_waivers_stand_in_the_card(text: str) -> None:
    assert "| duplicates | 4.0000 | 0.0000 | FOUND |" in text
    assert "Declared on 2026-11-23: **outcome_conditioned_text.**" in text


def test_a_waiver_for_columns_that_the_model_does_not_read_is_left_out() -> None:
    assert "Declared on" not in card.markdown(evaluation(features=["tenure_months"]), "")


def test_e5_stands_beside_e8_with_a_word_on_which_to_trust(text: str) -> None:
    assert "| E8 | 0.6600 | 0.6000 to 0.7200 |" in text
    assert "Which to trust when" in text
    assert "was not run" not in text
    alone = card.markdown(evaluation(beside={"E5": (0.75, 0.70, 0.80)}), "")
    assert "E8 was not run on this table with this protocol: `spanishgas experiment --id E8" in alone
    assert "E5 was not run" not in alone
    assert "Which to trust" in card.markdown(evaluation(beside={}), "")


def test_texts_conditioned_on_the_outcome_are_counted_from_the_rows() -> None:
    rows = gold_frame(100)
    rows["sentiment_label"] = np.where(rows["churn"] == 1, "negative", "positive")
    rows.loc[rows.index[rows["churn"] == 0][:3], "sentiment_label"] = "negative"
    stayers, churners = int((rows["churn"] == 0).sum()), int((rows["churn"] == 1).sum())
    text = card.markdown(evaluation(trained=rows[:80], rows=rows[80:]), "")
    assert (
        f"Of {stayers} stayers with a text 3 read negative; of {churners} churners 0 read positive." in text
    )


def test_mood_in_complaints_is_measured() -> None:
    rows = gold_frame(100)
    rows["customer_intent"], rows["sentiment_label"] = "Complaint / Escalation", "negative"
    text = card.markdown(evaluation(trained=rows[:80], rows=rows[80:]), "")
    assert "100 % of 100 complaints read negative" in text
    rows["customer_intent"] = "Contract Renewal"
    assert "No contact was read as a complaint" in card.markdown(
        evaluation(trained=rows[:80], rows=rows[80:]), ""
    )


def test_the_missing_time_dimension_is_named(text: str) -> None:
    assert "Customers are split at random, not by time" in text


def test_columns_without_variance_and_columns_that_repeat_another_are_named(text: str) -> None:
    assert "of one value: active_months_count" in text
    assert "the same up to a factor: avg_monthly_elec_kwh and total_elec_kwh_2024" in text


def test_no_customer_id_reaches_the_card(text: str) -> None:
    assert not [i for i in gold_frame(300)["customer_id"] if i in text]


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]


def test_the_page_holds_the_cards_tables_and_pictures_and_needs_nothing_from_outside(text: str) -> None:
    seen = Seen()
    seen.feed(card.html(text, "E5 & friends", [b"\x89PNG", b"\x89PNG"]))
    assert seen.tags.count("table") == text.count("| --- |\n|") + text.count("|---|---|---|---|\n|")
    assert (seen.tags.count("img"), seen.outside) == (2, [])


def test_markup_in_names_is_shown_not_run() -> None:
    page = card.html(card.markdown(evaluation(slices=[a_slice("<script>alert(1)</script>")]), ""), "<b>")
    assert "<script>" not in page
    assert "<title>&lt;b&gt;</title>" in page


def test_a_bar_in_a_cell_does_not_split_it() -> None:
    assert as_markdown(pd.DataFrame({"a": ["x|y"]})) == "| a |\n| --- |\n| x\\|y |"

"""Texts: intent by rules that know negation, sentiment by a lexicon or by a local ONNX classifier."""

from __future__ import annotations

import builtins
import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from spanishgas.contracts.tables import SENTIMENTS
from spanishgas.errors import UsageError
from spanishgas.etl import calendar, intent, sentiment


@pytest.mark.parametrize("module", [calendar, intent, sentiment])
def test_the_examples_in_docstrings_hold(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wants to CANCEL the renewal", "Cancellation / Switch"),
        ("asked about early termination fees", "Cancellation / Switch"),  # D17
        ("is cancelling soon", "Cancellation / Switch"),  # D17
        ("closing account", "Cancellation / Switch"),
        ("Cust inq re: renewal terms; disappointed", "Complaint / Escalation"),  # D17
        ("renewal options, not satisfied", "Complaint / Escalation"),
        ("past due bill", "Billing / Payment"),
        ("upcoming renewals", "Contract Renewal"),
        ("heard of a better\ndeal", "Pricing Offers"),
        ("plan options explained", "Plan / Product Inquiry"),
        ("inquired, all good", "Account / Service Inquiry"),
        ("no issues found", "Account / Service Inquiry"),
        ("routine follow-up", "General / Operational Contact"),
        ("hello", "Other / Unclassified"),
        ("billboard, rateable, leaves", "Other / Unclassified"),
    ],
)
def test_the_first_family_that_matches_whole_words_wins(text: str, expected: str) -> None:
    assert intent.intent(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no significant price increases", "Other / Unclassified"),
        ("not unhappy", "Other / Unclassified"),
        ("never did they complain", "Other / Unclassified"),  # three words before
        ("never did they ever complain", "Complaint / Escalation"),  # four
        ("without price hike", "Other / Unclassified"),
        ("No. Price discussed", "Pricing Offers"),  # another clause
        ("no complaint, unhappy with the rates", "Complaint / Escalation"),
        ("no price hike; renewal terms", "Contract Renewal"),
        ("no, not satisfied", "Complaint / Escalation"),  # exempt
        ("there were no issues found", "Account / Service Inquiry"),  # exempt
        ("nothing on price", "Pricing Offers"),  # no negator word
    ],
)
def test_a_negator_up_to_three_words_before_in_the_same_clause_cancels(text: str, expected: str) -> None:
    assert intent.intent(text) == expected


def test_probabilities_sum_to_one_and_turn_at_the_stated_cuts() -> None:
    compound = np.linspace(-1, 1, 2001).round(3)
    rows = sentiment.probabilities(compound)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    labels = np.array([sentiment.label(row) for row in rows])
    expected = np.where(compound >= 0.4, "positive", np.where(compound <= -0.2, "negative", "neutral"))
    assert (labels == expected).all()


def test_the_lexicon_tells_moods_apart() -> None:
    model = sentiment.load_model()
    texts = [
        "Cust happy and satisfied, great experience",
        "very unhappy, frustrated",
        "plan details confirmed",
    ]
    assert [sentiment.label(row) for row in model(texts)] == ["positive", "negative", "neutral"]
    assert model([]).shape == (0, 3)


@pytest.fixture
def onnx_folder(tmp_path: Path) -> Path:
    """A classifier whose logits count the words good, bad and other (columns negative, neutral, positive)."""
    words = {"[UNK]": 0, "[PAD]": 1, "good": 2, "bad": 3}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(pad_id=1, pad_token="[PAD]")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 3], [3, 0, 0]], dtype="float32")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["scores"]),
        helper.make_node("ReduceSum", ["scores", "axis"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "moods",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor("table", TensorProto.FLOAT, table.shape, table.ravel()),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    config = {"id2label": {"0": "Negative", "1": "neutral", "2": "positive"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_an_onnx_classifier_gives_its_columns_in_the_projects_order(onnx_folder: Path) -> None:
    model = sentiment.load_model(onnx_folder)
    rows = model(["good good", "bad", "so so", *["good"] * 100])
    assert [sentiment.label(row) for row in rows[:3]] == ["positive", "negative", "neutral"]
    odds = np.exp([6.0, 0.0, 0.0])
    np.testing.assert_allclose(rows[0], odds / odds.sum())
    assert rows.shape == (103, len(SENTIMENTS))
    assert model([]).shape == (0, 3)


def test_a_changed_classifier_is_another_model(onnx_folder: Path) -> None:
    before = sentiment.load_model(onnx_folder).identity
    (onnx_folder / "notes.txt").write_text("v2")
    assert sentiment.load_model(onnx_folder).identity != before != sentiment.Lexicon.identity


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json"])
def test_a_folder_without_one_of_its_files_is_refused(onnx_folder: Path, name: str) -> None:
    (onnx_folder / name).unlink()
    with pytest.raises(UsageError, match=f"lacks {name}"):
        sentiment.load_model(onnx_folder)


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"id2label": {"0": "LABEL_0"}}'])
def test_labels_must_be_the_three_sentiments(onnx_folder: Path, text: str) -> None:
    (onnx_folder / "config.json").write_text(text)
    with pytest.raises(UsageError, match="must name positive, negative, neutral in its id2label"):
        sentiment.load_model(onnx_folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_that_is_no_model_is_refused(onnx_folder: Path, name: str) -> None:
    (onnx_folder / name).write_text("spoilt")
    with pytest.raises(UsageError, match="cannot be loaded"):
        sentiment.load_model(onnx_folder)


def test_a_missing_extra_is_named(onnx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="extra 'text'"):
        sentiment.load_model(onnx_folder)

"""The mood of a text as three probabilities, by a lexicon that ships with a package or by a local ONNX classifier."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from spanishgas.contracts.tables import SENTIMENTS
from spanishgas.errors import UsageError
from spanishgas.lake.digests import file_digest
from spanishgas.settings import settings

POSITIVE_FROM, NEGATIVE_FROM = 0.4, -0.2
"""Where VADER's compound score (-1 to 1) turns positive and negative."""
STEEPNESS = 6.0
BATCH = 64
TOKENS = 256
"""Longer texts are cut; summaries have about sixty tokens."""


def load_model(folder: Path | None = None) -> SentimentModel:
    """The ONNX classifier in `folder` (default: settings().sentiment_model); the lexicon where neither is set."""
    folder = folder or settings().sentiment_model
    return OnnxClassifier(folder) if folder else Lexicon()


def label(probabilities: Sequence[float] | np.ndarray) -> str:
    """The most probable sentiment; a tie goes to the mood before neutral.

    >>> label([0.5, 0.0, 0.5]), label([0.2, 0.3, 0.5])
    ('positive', 'neutral')
    """
    return SENTIMENTS[int(np.argmax(probabilities))]


class Lexicon:
    """VADER (Hutto and Gilbert 2014): word scores and grammar rules; needs no download."""

    identity = "vader"
    """What the probabilities depend on beside the text: part of the build's fingerprint."""

    def __init__(self) -> None:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

        self._analyzer = SentimentIntensityAnalyzer()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """A row of P(positive), P(negative), P(neutral) per text, in the order of SENTIMENTS; each sums to 1."""
        scores = [self._analyzer.polarity_scores(text)["compound"] for text in texts]
        return probabilities(np.array(scores, dtype="float64"))


def probabilities(compound: np.ndarray) -> np.ndarray:
    """Softmax over k (c - 0.4) for positive, k (-0.2 - c) for negative and 0 for neutral, with k = 6.

    Smooth in c; the largest is positive from 0.4 on, negative up to -0.2, else neutral.

    >>> [label(row) for row in probabilities(np.array([0.4, 0.39, -0.19, -0.2]))]
    ['positive', 'neutral', 'neutral', 'negative']
    """
    logits = [STEEPNESS * (compound - POSITIVE_FROM), STEEPNESS * (NEGATIVE_FROM - compound), 0 * compound]
    return np.asarray(softmax(np.stack(logits, axis=1), axis=1))


class OnnxClassifier:
    """A sentiment classifier in a folder: model.onnx, tokenizer.json and config.json, whose id2label names the three.

    - Needs the extra `text` (onnxruntime and tokenizers); nothing is downloaded.
    - `UsageError` if the extra is missing, or the folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        files = {name: folder / name for name in ("model.onnx", "tokenizer.json", "config.json")}
        if absent := [name for name, file in files.items() if not file.is_file()]:
            raise UsageError(
                f"sentiment model '{folder}' lacks {', '.join(absent)}: set SPANISHGAS_SENTIMENT_MODEL anew"
            )
        self._columns = _label_columns(files["config.json"])
        self._session, self._tokenizer = _open(files["model.onnx"], files["tokenizer.json"])
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self.identity = file_digest(folder)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities as of `Lexicon`: the softmax of the model's logits."""
        batches = [self._score(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, len(SENTIMENTS)))

    def _score(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer.encode_batch(list(texts))
        feed = {
            "input_ids": [e.ids for e in encoded],
            "attention_mask": [e.attention_mask for e in encoded],
            "token_type_ids": [e.type_ids for e in encoded],
        }
        logits = self._session.run(
            None, {k: np.array(v, "int64") for k, v in feed.items() if k in self._inputs}
        )[0]
        return np.asarray(softmax(np.asarray(logits, dtype="float64")[:, self._columns], axis=1))


def _open(model: Path, tokenizer: Path) -> tuple[Any, Any]:
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as fault:
        raise UsageError("a sentiment model needs the extra 'text': install spanishgas[text]") from fault
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings().threads or 0
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        json.loads(tokenizer.read_text(encoding="utf-8"))  # tokenizers itself raises a bare Exception
    except (
        faults.InvalidProtobuf,
        faults.InvalidGraph,
        faults.Fail,
        faults.NotImplemented,
        ValueError,
    ) as fault:
        raise UsageError(f"sentiment model '{model.parent}' cannot be loaded: {fault}") from fault
    words = Tokenizer.from_file(str(tokenizer))
    words.enable_truncation(TOKENS)
    words.enable_padding(**(words.padding or {}))
    return session, words


def _label_columns(config: Path) -> list[int]:
    """Columns of positive, negative and neutral in the model's output."""
    try:
        names = {str(name).lower(): int(i) for i, name in json.loads(config.read_text())["id2label"].items()}
        return [names[label] for label in SENTIMENTS]
    except (ValueError, KeyError, AttributeError, TypeError) as fault:
        raise UsageError(f"{config} must name {', '.join(SENTIMENTS)} in its id2label ({fault})") from fault


SentimentModel = Lexicon | OnnxClassifier

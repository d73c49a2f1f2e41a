"""The seal of a verdict: one digest of verdict, metrics and record, and with it of every byte that was judged.

    artefact, data, code -> manifest in the record -+
    verdict, metrics -------------------------------+-> digest -> version and moves;  with a key: signature

The digest is bound by the first move that names the version, which only promoters write. Where a key is configured the
signature is besides made at evaluation and asked for by whoever loads a version.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from spanishgas.errors import DataError, UsageError
from spanishgas.lake.digests import file_digest, json_digest
from spanishgas.settings import settings

SIGNATURE = "signature"
_BESIDE = re.compile(r"registered_model_meta|(.*/)?__pycache__/.*")
"""What MLflow and Python write into an artefact's folder by themselves, and nothing here reads."""
_KEY = re.compile(r"[0-9a-fA-F]{64,}")


class SealManifest(BaseModel):
    """SHA-256 of what a version consists of and was made from; its code is digested as runs and tables have it."""

    model_config = ConfigDict(frozen=True)

    files: dict[str, str]
    """Digest of every file of its artefact, by path: the model, its requirements, its code."""
    signature: str
    """Digest of the columns that it takes and gives."""
    policy: str
    code: str
    gold: str
    customers: str
    """Digest of the ids that it learned from, in order."""
    holdout: str
    """Digest of the ids that it was judged on, in order."""


def digest(judged: Mapping[str, Any]) -> str:
    """SHA-256 of a verdict, its metrics and the record beside them, all as JSON data."""
    return json_digest([judged.get(part) for part in ("verdict", "metrics", "record")])


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of an artefact, by its path in `folder`."""
    paths = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file_digest(file) for name, file in sorted(paths.items()) if not _BESIDE.fullmatch(name)}


def differing(manifest: SealManifest, folder: Path) -> list[str]:
    """Files that are not as the manifest has them: other bytes, missing, or too many."""
    return sorted({name for name, _ in manifest.files.items() ^ files(folder).items()})


def signed(judged: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The same, with a signature under the first key that is configured, if any."""
    keys = _keys()
    return {**judged, SIGNATURE: _signature(keys[0], digest(judged), model)} if keys else dict(judged)


def check(judged: Mapping[str, Any], expected: str | None, model: str, named: str) -> None:
    """Raise DataError unless what was judged has the digest that was recorded and, with a key, is signed."""
    actual = digest(judged)
    if actual != expected:
        raise DataError(
            f"the verdict of {named} has another digest ({actual[:12]}) than was recorded ({(expected or 'none')[:12]})"
            ": put its run's verdict.json back, or evaluate its experiment again"
        )
    signature, keys = str(judged.get(SIGNATURE, "")), _keys()
    if keys and not any(hmac.compare_digest(signature, _signature(key, actual, model)) for key in keys):
        raise DataError(
            f"the verdict of {named} is not signed with a key of SPANISHGAS_SEALING_KEY: evaluate its experiment again "
            "where the key is set"
        )


def _signature(key: bytes, sealed: str, model: str) -> str:
    return hmac.new(key, f"{model} {sealed}".encode(), hashlib.sha256).hexdigest()


def _keys() -> list[bytes]:
    """The keys, the one that signs first; UsageError for what is neither keys nor a file that holds some."""
    setting = settings().sealing_key.get_secret_value().strip()
    if not setting:
        return []
    try:
        words = [setting] if _KEY.fullmatch(setting) else Path(setting).read_text().split()
    except (OSError, UnicodeDecodeError):
        words = []
    if not words or not all(_KEY.fullmatch(word) for word in words):
        # The value itself may be a secret that was cut off.
        raise UsageError(
            "SPANISHGAS_SEALING_KEY is neither 64 or more hexadecimal digits nor a file of such lines: make a key with "
            "`openssl rand -hex 32`"
        )
    return [bytes.fromhex(word[: len(word) // 2 * 2]) for word in words]

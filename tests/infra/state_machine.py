"""The state machine's definition, and its values filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "infra" / "stepfunctions" / "pipeline.asl.json"


def definition() -> dict[str, Any]:
    machine: dict[str, Any] = json.loads(FILE.read_text())
    return machine


def states() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = definition()["States"]
    return found


def filled(values: Mapping[str, str], seconds: int | None = None) -> str:
    """The definition with each ${name} replaced; `seconds`: every pause and wait cut to as many."""
    text = re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], f"any-{found[1]}"), FILE.read_text())
    if seconds is not None:
        text = re.sub(r'("(?:IntervalSeconds|Seconds)": )\d+', rf"\g<1>{seconds}", text)
        text = re.sub(r'"BackoffRate": \d+', '"BackoffRate": 1', text)
    return text

"""The experiments folder that is proposed for a table: what was recognised of it, and what its owner must decide."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from spanishgas.adopt.columns import Recognised, feature_names, recognise
from spanishgas.adopt.target import read_target
from spanishgas.config.adopted import FILE, TableMap
from spanishgas.config.tiers import Tier, Tiers
from spanishgas.errors import DataError, UsageError
from spanishgas.evaluation.leakage.columns import MAX_SKILL
from spanishgas.settings import settings

POLICY = Path(__file__).with_name("policy.yaml")
HEADS = {
    FILE: "# What each column of the table is. A column that is added or taken out is so in tiers.yaml too.\n",
    "tiers.yaml": "# The data dictionary. Ranges and null limits are wider than those of the table they come from.\n",
}


@dataclass(frozen=True)
class Roles:
    """What the caller says of a table's columns; `positive` is the label of those who left."""

    id: str
    target: str | None = None
    positive: str | None = None
    value: str | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    without: Sequence[str] = ()


def propose(table: pd.DataFrame, roles: Roles) -> tuple[TableMap, Tiers]:
    """Recognise every column but id, target and value, and divide the features among the groups.

    UsageError for a role that no column has, DataError where no column is left that may be a feature.
    """
    if not roles.target:
        raise UsageError(
            "a table that is taken in for the first time needs --target, the column that says who left"
        )
    grouped = [c for group in roles.groups.values() for c in group]
    for name in [roles.target, *roles.without, *grouped, *filter(None, [roles.value])]:
        if name not in table:
            raise UsageError.unknown("column of the table", name, table.columns)
    if twice := sorted({c for c in grouped if grouped.count(c) > 1}):
        raise UsageError(f"column '{twice[0]}' stands in two groups: name it in one")
    target = read_target(table[roles.target], roles.target, roles.positive)
    apart = (roles.id, roles.target, roles.value, *roles.without)
    seen = {str(c): recognise(str(c), table[c]) for c in table.columns if c not in apart}
    left_out = {column: why for column, why in seen.items() if isinstance(why, str)}
    taken = {column: what for column, what in seen.items() if isinstance(what, Recognised)}
    if not taken:
        reasons = "; ".join(f"'{column}' {why}" for column, why in left_out.items())
        raise DataError(f"no column can be a feature ({reasons or 'there is none beside id and target'})")
    names = feature_names(taken)
    columns = TableMap(
        id=roles.id,
        target=target,
        value=roles.value,
        columns={names[column]: what.column for column, what in taken.items()},
        left_out=left_out,
        without=list(roles.without),
    )
    tiers = {
        tier: Tier(title=tier, features={names[c]: taken[c].entry for c in members})
        for tier, members in _divided(list(taken), roles.groups).items()
    }
    return columns, Tiers(tiers)


def _divided(columns: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns by group, in the order of the groups; those in none come last."""
    named = {c for members in groups.values() for c in members}
    divided = {**groups, "OTHERS" if groups else "ALL": [c for c in columns if c not in named]}
    tiers = {name: [c for c in columns if c in members] for name, members in divided.items()}
    return {name: members for name, members in tiers.items() if members}


def write_folder(folder: Path, columns: TableMap, tiers: Tiers, strength: pd.Series) -> None:
    """The proposal as files, of which every verb reads its own: the whole folder, or none."""
    documents: dict[str, Any] = {
        FILE: columns.model_dump(mode="json", exclude_none=True),
        "tiers.yaml": tiers.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        **{f"{rung['id']}.yaml": rung for rung in rungs(list(tiers.tiers))},
    }
    texts = {
        name: HEADS.get(name, "") + yaml.safe_dump(what, sort_keys=False, allow_unicode=True, width=110)
        for name, what in documents.items()
    }
    texts["search.yaml"] = (settings().experiments / "search.yaml").read_text(encoding="utf-8")
    texts["policy.yaml"] = POLICY.read_text(encoding="utf-8") + _strong(strength)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
    part.rename(folder)


def rungs(tiers: Sequence[str]) -> list[dict[str, Any]]:
    """E0 with everything; where there are several tiers E1 with the first, and one more in each rung after it."""
    ladder = [{"id": "E0", "question": "How far does the whole table go?", "tiers": list(tiers)}]
    for n in range(1, len(tiers)):
        rung = {"id": f"E{n}", "question": f"How far does the table go up to {tiers[n - 1]}?"}
        ladder.append({**rung, "tiers": list(tiers[:n]), **({"below": f"E{n - 1}"} if n > 1 else {})})
    return ladder


def _strong(strength: pd.Series) -> str:
    """The features that alone say more than the leakage check lets pass, as a waiver to be decided on."""
    beyond = strength[strength > MAX_SKILL]
    if beyond.empty:
        return "waivers: []\n"
    lines = [
        f"DECIDE: each of these features alone goes more than {MAX_SKILL:g} of the way to perfect ranking, so",
        "the gate refuses, until this stands in place of the line above, or the feature is left out.",
        "waivers:\n#   - check: single_feature\n#     reason: how, and when before anybody left, it is written",
        f"    date: {date.today()}\n#     features:",
        *(f"      - {feature}   # {share:.2f}" for feature, share in beyond.items()),
    ]
    return "\n".join(["waivers: []", *(f"# {line}" for line in lines), ""])

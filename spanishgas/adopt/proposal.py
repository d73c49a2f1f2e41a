"""The experiments folder that is proposed for a table: what was recognised of it, and what its owner must decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from spanishgas.adopt.columns import Recognised, feature_names, recognise
from spanishgas.config.adopted import FILE, TableMap, Target
from spanishgas.config.tiers import Entry, Tier, Tiers
from spanishgas.errors import DataError, UsageError
from spanishgas.evaluation.leakage import MAX_SKILL
from spanishgas.settings import settings

POLICY = Path(__file__).with_name("policy.yaml")
ALL = "ALL"
HEADS = {
    FILE: "What each column of the table is. A column that is added or taken out is so in tiers.yaml too.",
    "tiers.yaml": "The data dictionary. Ranges and null limits are wider than those of the table that they come from.",
}


@dataclass(frozen=True)
class Proposal:
    """What is proposed for a table."""

    columns: TableMap
    tiers: Tiers

    @property
    def entries(self) -> dict[str, Entry]:
        """Features with their rows of the dictionary."""
        return {feature: self.tiers.entry(feature) for feature in self.tiers.features()}


def propose(
    table: pd.DataFrame,
    roles: tuple[str, Target, str | None],
    groups: Mapping[str, Sequence[str]],
    without: Sequence[str],
) -> Proposal:
    """Recognise every column but id, target and value (`roles`), and divide the features among `groups`.

    DataError where no column is left that may be a feature.
    """
    id_column, target, value = roles
    for name in [*without, *(c for group in groups.values() for c in group), *filter(None, [value])]:
        if name not in table:
            raise UsageError.unknown("column of the table", name, table.columns)
    others = [str(c) for c in table.columns if c not in (id_column, target.column, value, *without)]
    seen = {column: recognise(column, table[column]) for column in others}
    left_out = {column: why for column, why in seen.items() if isinstance(why, str)}
    taken = {column: what for column, what in seen.items() if isinstance(what, Recognised)}
    if not taken:
        reasons = "; ".join(f"'{column}' {why}" for column, why in left_out.items())
        raise DataError(f"no column can be a feature ({reasons or 'there is none beside id and target'})")
    names = feature_names(taken)
    columns = TableMap(
        id=id_column,
        target=target,
        value=value,
        columns={names[column]: what.column for column, what in taken.items()},
        left_out=left_out,
        without=list(without),
    )
    tiers = {}
    for tier, members in _divided(list(taken), groups).items():
        tiers[tier] = Tier(title=tier, features={names[c]: taken[c].entry for c in members})
    return Proposal(columns, Tiers(tiers))


def _divided(columns: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns by group, in the order of the groups; those in none come last."""
    if not groups:
        return {ALL: list(columns)}
    divided = {name: [c for c in columns if c in members] for name, members in groups.items()}
    named = {c for members in groups.values() for c in members}
    return {
        name: cs for name, cs in {**divided, "OTHERS": [c for c in columns if c not in named]}.items() if cs
    }


def write_folder(folder: Path, proposal: Proposal, strength: pd.Series) -> None:
    """The proposal as files, of which every verb reads its own."""
    folder.mkdir(parents=True)
    documents: dict[str, Any] = {
        FILE: proposal.columns.model_dump(mode="json", exclude_none=True),
        "tiers.yaml": proposal.tiers.model_dump(mode="json", exclude_none=True, exclude_defaults=True),
        **{f"{rung['id']}.yaml": rung for rung in rungs(list(proposal.tiers.tiers))},
    }
    for name, document in documents.items():
        head = f"# {HEADS[name]}\n" if name in HEADS else ""
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
        (folder / name).write_text(head + text, encoding="utf-8")
    search = (settings().experiments / "search.yaml").read_text(encoding="utf-8")
    (folder / "search.yaml").write_text(search, encoding="utf-8")
    policy = POLICY.read_text(encoding="utf-8") + _strong(strength)
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")


def rungs(tiers: Sequence[str]) -> list[dict[str, Any]]:
    """E0 with everything; where there are several tiers E1 with the first, and one more in each rung after it."""
    ladder: list[dict[str, Any]] = [
        {"id": "E0", "question": "How far does the whole table go?", "tiers": list(tiers)}
    ]
    for number in range(1, len(tiers)):
        question = (
            f"Does it pay to add {tiers[number - 1]}?" if number > 1 else f"How far does {tiers[0]} go alone?"
        )
        below = {"below": f"E{number - 1}"} if number > 1 else {}
        ladder.append({"id": f"E{number}", "question": question, "tiers": list(tiers[:number]), **below})
    return ladder


def _strong(strength: pd.Series) -> str:
    """The features that alone say more than the leakage check lets pass, as a waiver to be decided on."""
    beyond = strength[strength > MAX_SKILL]
    if beyond.empty:
        return "waivers: []\n"
    lines = [
        f"DECIDE: each of these features alone goes more than {MAX_SKILL:g} of the way from chance to perfect average",
        "precision. Where it was written before anybody left, put this in place of the line above; where not, leave it",
        "out. Until then the gate refuses.",
        "waivers:",
        "  - check: single_feature",
        "    reason: how and when it is written",
        f"    date: {date.today()}",
        "    features:",
        *(f"      - {feature}   # {share:.2f}" for feature, share in beyond.items()),
    ]
    return "\n".join(["waivers: []", *(f"# {line}" for line in lines), ""])

"""Terraform's files as data: parsed by python-hcl2, with what its values look like put right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).resolve().parents[2] / "infra" / "terraform"
MODULES = sorted(folder.name for folder in (ROOT / "modules").iterdir())
ACTION = re.compile(r'"([a-z0-9-]+:[A-Z*][A-Za-z*]*)"')


@dataclass(frozen=True)
class Module:
    """The blocks of one folder of .tf files, by kind, and its text."""

    text: str
    blocks: dict[str, list[dict[str, Any]]]

    def named(self, kind: str) -> dict[str, Any]:
        """Blocks with one label: variables, outputs, module calls."""
        return {name: body for block in self.blocks.get(kind, []) for name, body in block.items()}

    def typed(self, kind: str = "resource") -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Type, name and body of resources or data sources."""
        for block in self.blocks.get(kind, []):
            for type_, of_type in block.items():
                for name, body in of_type.items():
                    yield type_, name, body

    def one(self, type_: str) -> dict[str, Any]:
        """The only resource of a type."""
        (found,) = [body for found, _, body in self.typed() if found == type_]
        return found

    def locals(self) -> set[str]:
        return {name for block in self.blocks.get("locals", []) for name in block}

    def role(self, name: str) -> str:
        """The text of the call that makes a role."""
        start = self.text.index(f'module "{name}" {{')
        return self.text[start : self.text.index("\n}\n", start)]

    def may(self, role: str) -> set[str]:
        """The actions that a role is allowed, lists under `local.` looked up."""
        text = self.role(role)
        for name in re.findall(r"= local\.(\w+)", text):
            text += "".join(re.findall(rf"\n  {name} += (\[.*?\])\n", self.text, re.DOTALL))
        return set(ACTION.findall(re.sub(r'variable = "[^"]*"', "", text)))


@cache
def module(name: str = "") -> Module:
    """A module by name; the root without one."""
    folder = ROOT / "modules" / name if name else ROOT
    blocks: dict[str, list[dict[str, Any]]] = {}
    texts = []
    for file in sorted(folder.glob("*.tf")):
        texts.append(file.read_text())
        for kind, found in hcl2.loads(texts[-1]).items():
            blocks.setdefault(kind, []).extend(_plain(found) if isinstance(found, list) else [])
    return Module("\n".join(texts), blocks)


def _plain(value: Any) -> Any:
    """Without the quotes that the parser leaves around strings and labels, and its own marks."""
    if isinstance(value, dict):
        return {_plain(key): _plain(held) for key, held in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [_plain(held) for held in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value

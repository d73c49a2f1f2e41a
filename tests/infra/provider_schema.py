"""The AWS provider's own schema, read from its published bindings for Python, which are not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "cdktf-cdktf-provider-aws==21.22.1"
META = {"dynamic", "provisioner"}


@dataclass(frozen=True)
class Struct:
    """The arguments of a resource, data source or block: which there are and are needed, and which are blocks."""

    blocks: Mapping[str, str | None]
    needed: frozenset[str]
    whole: bool
    """Whether it is the resource or data source itself."""


class ProviderSchema:
    """Structs by the folder of their resource, from the package as it was unpacked in `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root / "cdktf_cdktf_provider_aws"

    def faults(self, kind: str, type_: str, body: Mapping[str, Any]) -> list[str]:
        """What the provider would refuse in a `resource` or `data` of a type."""
        name = type_.removeprefix("aws_") if kind == "resource" else f"data_{type_}"
        if not (self._root / name / "__init__.py").exists():
            return [f"{type_}: the provider has no such {kind}"]
        structs = self._structs(name)
        (top,) = [struct for struct in structs if structs[struct].whole]
        return [*self._block(type_, structs, top, body)]

    def _block(
        self, where: str, structs: Mapping[str, Struct], name: str, body: Mapping[str, Any]
    ) -> Iterator[str]:
        struct = structs[name]
        made = {key: value for each in body.get("dynamic", []) for key, value in each.items()}
        given = {key for key in body if key not in META} | made.keys()
        yield from (f"{where}.{key}: unknown" for key in sorted(given - struct.blocks.keys()))
        yield from (f"{where}.{key}: missing" for key in sorted(struct.needed - given))
        for key, value in [*body.items(), *((k, v["content"]) for k, v in made.items())]:
            if (inner := struct.blocks.get(key)) in structs:
                for item in value if isinstance(value, list) else []:
                    if isinstance(item, dict):
                        yield from self._block(f"{where}.{key}", structs, str(inner), item)

    @cache  # noqa: B019
    def _structs(self, name: str) -> dict[str, Struct]:
        tree = ast.parse((self._root / name / "__init__.py").read_text())
        return {c.name: _struct(c) for c in tree.body if isinstance(c, ast.ClassDef) and c.decorator_list}


def _struct(definition: ast.ClassDef) -> Struct:
    """The keyword arguments of a class's constructor; one without a default is needed."""
    blocks: dict[str, str | None] = {}
    needed = set[str]()
    for part in definition.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            for argument, default in zip(part.args.kwonlyargs, part.args.kw_defaults, strict=True):
                name = argument.arg.rstrip("_")
                own = re.findall(r"Union\[['\"]?([A-Z]\w+)", ast.unparse(argument.annotation or part))
                blocks[name] = own[0] if own else None
                needed |= set() if default else {name}
    whole = any("TerraformMetaArguments" in ast.unparse(base) for base in definition.bases)
    return Struct(blocks, frozenset(needed), whole)

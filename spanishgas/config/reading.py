"""The one reader of configuration: YAML held against a strict model, with faults that name file, key and way out.

Nothing is converted: a truth value is no number, a number no text, a merged or repeated key no key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from reprlib import repr as short
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from spanishgas.errors import UsageError
from spanishgas.stages import outside

M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound="Strict")
Name = TypeVar("Name", bound=str)
WAYS_OUT = {"string_type": ": write it in quotes", "float_type": ", such as 0.001"}


def fault(key: str, message: str, value: object) -> PydanticCustomError:
    """What a validator of a model raises about the dotted `key` below it."""
    return PydanticCustomError("fault", "{message}", {"key": key, "message": message, "value": value})


def member(key: str, what: str, value: str, allowed: Iterable[str]) -> None:
    """Raise a `fault` that suggests the nearest of `allowed` unless `value` is one of them."""
    if value not in allowed:
        raise fault(key, str(UsageError.unknown(what, value, allowed)), value)


def _scalar(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or value in (math.inf, -math.inf):
        raise fault("", "must be text or a finite number", value)
    return value


def unique(values: list[Name]) -> list[Name]:
    """The names, each of which stands once."""
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise fault("", f"names {twice[0]} twice", values)
    return values


Value = Annotated[str | int | float, BeforeValidator(_scalar)]
Text = Annotated[str, Field(pattern=r"\S")]
Names = Annotated[list[Text], AfterValidator(unique)]


class Strict(BaseModel):
    """A frozen group of settings that converts nothing and refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, content: object) -> object:
        for key in content if isinstance(content, dict) else ():
            member(key, "key", key, cls.model_fields)
        return content

    def part(self, kind: type[S]) -> S:
        """The part of these settings that `kind` names: a stage that is given it depends on no other."""
        made = kind.model_construct(**{name: getattr(self, name) for name in kind.model_fields})
        return cast("S", made)


class StrictLoader(yaml.SafeLoader):
    """YAML without what it changes in silence: keys that stand twice, are merged or no text; numbers such as 010."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[object, object]:
    keys = [key.value if isinstance(key, yaml.ScalarNode) else str(key.tag) for key, _ in node.value]
    for (key, _), name in zip(node.value, keys, strict=True):
        if not key.tag.endswith(":str"):
            raise _refused(key, f"the key {name} is no plain text: write it in quotes, or out where it is <<")
        if keys.count(name) > 1:
            raise _refused(key, f"'{name}' stands twice")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _number(loader: StrictLoader, node: yaml.ScalarNode) -> object:
    if re.search(r"[_:xob]|^[-+]?0[0-9]", node.value):
        raise _refused(node, f"'{node.value}' is no plain decimal number: write one, or text in quotes")
    return getattr(loader, f"construct_yaml_{node.tag.rpartition(':')[2]}")(node)


def _refused(node: yaml.Node, message: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping)
StrictLoader.add_constructor("tag:yaml.org,2002:int", _number)
StrictLoader.add_constructor("tag:yaml.org,2002:float", _number)


def read(
    path: Path, model: type[M], way_out: str = "restore it from the project, or set SPANISHGAS_EXPERIMENTS"
) -> M:
    """The file as `model`; `UsageError` that names the file and each key that is unknown, missing or wrong.

    Validators find the file's folder as their context. A file is read again when it has changed.
    """
    outside(path.name)
    try:
        stat = path.stat()
        return cast("M", _read(path, stat.st_mtime_ns, stat.st_size, model, way_out))
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: {way_out}") from None
    except ValidationError as wrong:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
        raise invalid(path, wrong, root) from wrong
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as wrong:
        raise UsageError(f"{path} is not YAML that can be read as UTF-8: {wrong}") from wrong


def invalid(what: object, wrong: ValidationError, root: yaml.Node | None = None) -> UsageError:
    """The error that says that `what` is not valid, with a line for each key that is unknown, missing or wrong.

    `root` is what the file says, so that its lines can be counted.
    """
    lines = dict.fromkeys(_line(error, root) for error in wrong.errors())
    return UsageError("\n".join([f"{what} is not valid:", *lines]))


def packaged(beside: str, name: str = "") -> Any:
    """Data of the package: the YAML file beside a module (its `__file__`), of the module's name or the one given.

    It is ours, so no model holds it; libyaml reads it where it is there.
    """
    file = Path(beside).with_name(name) if name else Path(beside).with_suffix(".yaml")
    return yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, size: int, model: type[BaseModel], way_out: str) -> BaseModel:
    content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=StrictLoader)
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold keys, but got {short(content)}: {way_out}")
    return model.model_validate(content, context=path.parent)


def _line(error: ErrorDetails, root: yaml.Node | None) -> str:
    about = error.get("ctx", {})
    where = ".".join(str(part) for part in (*error["loc"], about.get("key", "")) if part != "") or "(file)"
    at = f" (line {_deepest(root, where.split('.')).start_mark.line + 1})" if root else ""
    words, value = error["msg"] + WAYS_OUT.get(error["type"], ""), short(about.get("value", error["input"]))
    if words.startswith("unknown key"):
        return f"  - {words}".replace(f"'{about['value']}'", f"'{where}'", 1) + at
    told = error["type"] in ("missing", "value_error") or value in words
    return f"  - {where}: {words}" + ("" if told else f", but got {value}") + at


def _deepest(node: yaml.Node, keys: list[str]) -> yaml.Node:
    """The node that the keys lead to, as far as they do."""
    if isinstance(node, yaml.MappingNode) and keys:
        for key, value in node.value:
            if key.value == keys[0]:
                return _deepest(value, keys[1:]) if keys[1:] else key
    if isinstance(node, yaml.SequenceNode) and keys and keys[0].isdigit() and int(keys[0]) < len(node.value):
        return _deepest(node.value[int(keys[0])], keys[1:])
    return node

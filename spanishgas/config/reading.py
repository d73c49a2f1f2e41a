"""The one reader of configuration: YAML held against a strict model, with faults that name file, key and way out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from spanishgas.errors import UsageError
from spanishgas.stages import outside

Value = str | int | float
M = TypeVar("M", bound=BaseModel)
S = TypeVar("S", bound="Strict")


class Strict(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def part(self, kind: type[S]) -> S:
        """The part of these settings that `kind` names: a stage that is given it depends on no other."""
        made = kind.model_construct(**{name: getattr(self, name) for name in kind.model_fields})
        return cast("S", made)


class UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; a dictionary of features must not."""


def _unique_mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict[object, object]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
        raise yaml.constructor.ConstructorError(None, None, f"'{twice[0]}' stands twice", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read(path: Path, model: type[M]) -> M:
    """The file as `model`; `UsageError` that names the file and each key that is unknown, missing or wrong."""
    outside(path.name)
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size, model)  # type: ignore[return-value]
    except FileNotFoundError:
        raise UsageError(
            f"{path} does not exist: restore it from the project, or set SPANISHGAS_EXPERIMENTS"
        ) from None
    except yaml.YAMLError as fault:
        raise UsageError(f"{path} is not YAML: {fault}") from fault
    except ValidationError as fault:
        raise UsageError("\n".join([f"{path} is not valid:", *_faults(fault, model)])) from fault


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, size: int, model: type[BaseModel]) -> BaseModel:
    """A file is read again when it has changed."""
    return model.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys))


def _faults(fault: ValidationError, model: type[BaseModel]) -> list[str]:
    lines = []
    for error in fault.errors():
        where = ".".join(str(part) for part in error["loc"]) or "(file)"
        if error["type"] == "extra_forbidden":
            lines.append(f"  - unknown key '{where}'; known at the top: {', '.join(model.model_fields)}")
        else:
            lines.append(f"  - {where}: {error['msg']} (got {error['input']!r})")
    return lines


def as_data(model: BaseModel) -> Mapping[str, Any]:
    """A model as plain data, for fingerprints and artefacts."""
    return model.model_dump(mode="json")

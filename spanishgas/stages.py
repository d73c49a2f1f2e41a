"""One way through a stage: what its work is given makes its key, and its work can read nothing else.

    inputs: snapshots, configuration, records, numbers --+
    source of the work and of all that it imports -------+--> key --> what stands under that key, else work(inputs)

The inputs are one frozen dataclass a stage, the very objects that the work computes with. A field that says how the
work is done and not what comes of it (where to publish, how far it is) is marked `unkeyed`, with its reason. While a
stage works, configuration and the lake refuse to be read by name: whatever was not passed is not there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from spanishgas.provenance import source_digest

I = TypeVar("I")  # noqa: E741
UNKEYED = "unkeyed"
_working: ContextVar[str | None] = ContextVar("working", default=None)


def unkeyed(why: str, default: Any = dataclasses.MISSING) -> Any:
    """Mark a field of a stage's inputs that results do not depend on, and say why they do not."""
    return dataclasses.field(metadata={UNKEYED: why}, compare=False, default=default)


@dataclass(frozen=True)
class Stage(Generic[I]):
    """A stage by its name and by the modules that do its work."""

    name: str
    modules: tuple[str, ...]

    @property
    def source(self) -> str:
        """Digest of the code that does the work."""
        return source_digest(*self.modules)

    def key(self, inputs: I) -> str:
        """Equal keys give equal results: name, inputs and source as one digest."""
        return digest([self.name, inputs, self.source])

    @contextmanager
    def working(self) -> Iterator[None]:
        """The time in which nothing may be read that was not passed."""
        token = _working.set(self.name)
        try:
            yield
        finally:
            _working.reset(token)


def outside(what: str) -> None:
    """Refuse to read `what` by name while a stage works: RuntimeError, for it is a defect of the stage."""
    if (stage := _working.get()) is not None:
        raise RuntimeError(
            f"the stage {stage} reads {what}, which is not among its inputs and in no key: pass it"
        )


def digest(value: object) -> str:
    """Digest of a value as a key takes it; TypeError for an object of which nobody can say on what it depends.

    An object says so by a property `identity`. The order of a mapping counts, as that of features and offers does.
    """
    text = json.dumps(value, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    """An object that JSON has no form for, by what it consists of."""
    if (identity := getattr(value, "identity", None)) is not None:
        return identity
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return sorted(map(str, value))
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in keyed(type(value))}
    raise TypeError(f"a {type(value).__name__} cannot be an input of a stage: give it a property `identity`")


def keyed(inputs: type) -> list[dataclasses.Field[Any]]:
    """The fields of a stage's inputs that its key is made of."""
    return [f for f in dataclasses.fields(inputs) if UNKEYED not in f.metadata]

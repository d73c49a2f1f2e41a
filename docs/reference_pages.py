"""Write the pages under reference/ from what they describe: `python docs/reference_pages.py`, as `make docs` does."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import AliasChoices, BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from spanishgas.cli import app
from spanishgas.config.experiment import Experiment
from spanishgas.config.policy import Policy
from spanishgas.config.search import Space
from spanishgas.config.tiers import Tiers
from spanishgas.features import load_tiers
from spanishgas.monitoring.alerts import Alerting
from spanishgas.scoring.settings import Serving, Transform
from spanishgas.settings import PROJECT, Settings
from spanishgas.troubles import troubles

FOLDER = Path(__file__).parent / "reference"
FILES: dict[str, type[BaseModel]] = {
    "E0.yaml ... E8.yaml": Experiment,
    "search.yaml, for each model": Space,
    "policy.yaml": Policy,
}
PYTHON = (
    "spanishgas.training.tuning.tune",
    "spanishgas.training.tuning.TunedClassifier",
    "spanishgas.training.uplift.tune_uplift",
    "spanishgas.training.uplift.UpliftModel",
    "spanishgas.lake.Lake",
    "spanishgas.score",
)


def page(name: str, lines: Iterator[str]) -> None:
    """Write one page of the site."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n")


def table(head: Sequence[str], rows: Iterator[Sequence[object]]) -> Iterator[str]:
    """A Markdown table."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(cell(value) for value in row)} |"
    yield ""


def cell(value: object) -> str:
    """A value as it may stand in a table."""
    return str(value).replace("|", "\\|").replace("\n", " ").strip()


def command_line() -> Iterator[str]:
    """Each verb with its options."""
    group = typer.main.get_command(app)
    yield "# Command line\n"
    yield "Run a verb with `python -m spanishgas VERB`, or `spanishgas VERB` inside the environment; verbs that are"
    yield 'entry points in MLproject also with `mlflow run . -e VERB -P option=value`. `auto` stands for "not given".\n'
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        yield f"## {name}\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        options = [option for option in command.params if option.name != "help"]
        if options:
            yield from table(
                ["option", "default", "what"],
                (
                    [f"`{' '.join(o.opts) if o.param_type_name == 'option' else o.name}`",
                     "required" if o.required else f"`{o.default}`", getattr(o, "help", "") or ""]
                    for o in options
                ),
            )  # fmt: skip


def settings() -> Iterator[str]:
    """Each environment variable."""
    yield "# Settings\n"
    yield "Read from the environment or a `.env` file. MLflow's own `MLFLOW_TRACKING_URI` sets the tracking server.\n"
    yield from table(
        ["variable", "default", "what"],
        (
            [f"`{variable(kind, name)}`", f"`{shown(field.default)}`", field.description or ""]
            for kind in (Settings, Serving, Transform, Alerting)
            for name, field in kind.model_fields.items()
        ),
    )


def variable(kind: type[BaseSettings], name: str) -> str:
    """The environment variable of a setting."""
    alias = kind.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{kind.model_config['env_prefix']}{name.upper()}"


def shown(default: object) -> str:
    """A default without the path of the machine that built the site."""
    return "" if default is None else str(default).replace(f"{PROJECT}/", "")


def experiments() -> Iterator[str]:
    """Each key of the YAML files."""
    yield "# Files under experiments/\n"
    yield "Read strictly: an unknown key is an error that names it and the nearest known key.\n"
    for file, model in FILES.items():
        yield f"## {file}\n"
        yield from keys(model, set())


def keys(model: type[BaseModel], told: set[type[BaseModel]]) -> Iterator[str]:
    """A model's keys, then those of the models inside it that were not `told` of yet."""
    yield f"{(model.__doc__ or '').strip()}\n"
    yield from table(
        ["key", "type", "default", "what"],
        (
            [f"`{name}`", f"`{kind(field.annotation)}`",
             "required" if field.default is PydanticUndefined else f"`{plain(field.default)!r}`"
             if not isinstance(field.default, BaseModel) else "", field.description or ""]
            for name, field in model.model_fields.items()
        ),
    )  # fmt: skip
    for name, field in model.model_fields.items():
        for inner in inner_models(field.annotation):
            if inner not in told:
                told.add(inner)
                yield f"### {name}\n"
                yield from keys(inner, told)


def plain(default: object) -> object:
    """A default as YAML would hold it."""
    return default.value if isinstance(default, Enum) else default


def inner_models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in inner_models(part)]


def kind(annotation: Any) -> str:
    """A type as one would say it."""
    outer, inner = get_origin(annotation), get_args(annotation)
    if outer is Annotated:
        return kind(inner[0])
    if outer is Literal:
        return " | ".join(str(value) for value in inner)
    if annotation is type(None):
        return "None"
    if outer in (Union, UnionType):
        return " | ".join(kind(part) for part in inner)
    name = str(getattr(outer or annotation, "__name__", annotation))
    return f"{name}[{', '.join(kind(part) for part in inner)}]" if inner else name


def data_dictionary() -> Iterator[str]:
    """Each feature, by tier."""
    tiers: Tiers = load_tiers()
    yield "# Data dictionary\n"
    yield "Every feature of gold, by feature tier, as declared in `experiments/tiers.yaml`.\n"
    for tier in tiers.tiers:
        yield f"## {tier}\n"
        yield from table(
            ["feature", "kind", "in words", "definition"],
            (
                [f"`{name}`", (entry := tiers.entry(name)).kind, entry.words, entry.definition]
                for name in tiers.features([tier])
            ),
        )


def python() -> Iterator[str]:
    """What a notebook may call."""
    yield "# Python\n"
    for name in PYTHON:
        yield f"::: {name}\n"


def troubleshooting() -> Iterator[str]:
    """What the surroundings do to a verb, by what is said."""
    yield "# Error messages, and what to do\n"
    yield "`spanishgas doctor` looks for these in advance; a verb that meets one prints the same message. This page is"
    yield "generated from `spanishgas/troubles.yaml`; words in *italics* stand for what a message names.\n"
    yield from table(
        ["message", "cause", "way out"],
        ([named(one.message), named(one.cause), named(one.way_out)] for one in troubles().values()),
    )


def named(text: str) -> str:
    """A template with the places of what it names in italics, in capitals within code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"\{(\w+)\}", r"*\1*", part) for part in parts[::2]]
    parts[1::2] = [re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), part) for part in parts[1::2]]
    return "`".join(parts)


for write in (command_line, settings, experiments, data_dictionary, python):
    page(write.__name__.replace("_", "-"), write())
(FOLDER.parent / "troubleshooting.md").write_text("\n".join(troubleshooting()))

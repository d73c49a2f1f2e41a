"""Propose the mapping.yaml that reads the files of a raw folder, with what is doubted.

Nothing here is used at load: what does not stand in mapping.yaml is not done.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import statistics
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from spanishgas.config.reading import packaged
from spanishgas.config.tariff import tariff
from spanishgas.contracts import contract
from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import DataError, UsageError
from spanishgas.etl.engine import duckdb
from spanishgas.etl.formats import ZONE, units
from spanishgas.etl.hours import READINGS, open_hours
from spanishgas.etl.looks import Look, looks
from spanishgas.etl.mapping import PRESETS, Renaming
from spanishgas.etl.source import Source
from spanishgas.raw_files import HOURS, LABELS, MAPPING, RAW_FILES, names

TRIES = packaged(__file__)
ELEC, GAS = READINGS.values()
ALIKE = 0.8
"""Likeness of two names from which they are taken for one."""
STEPS = {24: "hour", 25: "hour", 48: "half_hour", 50: "half_hour", 96: "quarter_hour", 100: "quarter_hour"}
ISO = re.compile(r"[1-9]\d{3}-\d{2}(-\d{2}([T ]\d{2}:\d{2}.*)?)?")
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")
Entry = dict[str, Any]


def proposal(raw: Path, preset: str | None = None) -> str:
    """The text of a mapping.yaml for the folder: its keys, and before each table what is doubted, marked by ?.

    `preset` names the layout of the hours. Raises `UsageError` for a folder that is not there and an unknown preset.
    """
    if not raw.is_dir():
        raise UsageError(f"raw folder '{raw}' does not exist: give the folder that holds the exports")
    if preset is not None and preset not in PRESETS:
        raise UsageError.unknown("preset", preset, PRESETS)
    lines = ["# Proposed by `spanishgas sniff`: read each line marked ? before you use it.\n"]
    missing = {*RAW_FILES} - {LABELS}
    for table, look in _tables(list(looks(raw))):
        entry = _entry(table, look, preset)
        Renaming.model_validate({table: entry})
        text = yaml.safe_dump({table: entry}, allow_unicode=True, sort_keys=False, width=110)
        lines += [f"# ? {doubt}" for doubt in look.doubts]
        lines += [text if entry else f"# {table}: {look.file.name} is in the project's own form\n"]
        missing -= {table}
    return (
        "\n".join([*lines, *(f"# ? {table}: no file looks like it" for table in sorted(missing))]).rstrip()
        + "\n"
    )


def write(raw: Path, text: str) -> Path:
    """Put the proposal beside the files; `DataError` if a mapping is there already."""
    file = raw / MAPPING
    if file.exists():
        raise DataError(f"{file} exists: remove it, or compare it with what sniff prints without --write")
    file.write_text(text, encoding="utf-8")
    return file


def _tables(seen: Sequence[Look]) -> Iterator[tuple[str, Look]]:
    """Each table with the file that looks most like it: by its name, then by the share of columns that are there."""
    scores = []
    for table, look in itertools.product(RAW_FILES, seen):
        named, numbered = look.file.name in names(table, {}), table == HOURS and bool(_spans(look.columns))
        needed = contract(table).fields
        share = len(_matched(table, look).keys() & needed) / len(needed)
        if named or numbered or share >= 0.5:
            scores.append((named, numbered, share, table, look))
    done: set[str] = set()
    for *_, table, look in sorted(scores, key=lambda score: score[:3], reverse=True):
        if not done & {table, str(look.file)}:
            done |= {table, str(look.file)}
            yield table, look


def _matched(table: str, look: Look) -> dict[str, str]:
    """The file's column by ours, the likest first; each stands once."""
    pairs = []
    for ours, theirs in itertools.product(contract(table).every, look.columns):
        name, own, others = _bare(theirs), _bare(ours), TRIES["columns"].get(ours, [])
        likeness = 0.95 if name.startswith(f"{own} ") else difflib.SequenceMatcher(None, name, own).ratio()
        without_unit, _, ending = name.rpartition(" ")
        if name not in others and ending in {unit.casefold() for unit in units(ours)}:
            name = without_unit
        likeness = 0.9 - others.index(name) / 100 if name in others else likeness
        pairs += [(likeness, ours, theirs)] if likeness >= ALIKE else []
    chosen: dict[str, str] = {}
    for _, ours, theirs in sorted(pairs, key=lambda pair: -pair[0]):
        if ours not in chosen and theirs not in chosen.values():
            chosen[ours] = theirs
    return chosen


def _bare(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    return " ".join(re.findall(r"[a-z0-9]+", letters))


def _entry(table: str, look: Look, preset: str | None) -> Entry:
    """The keys of a table; what is doubted goes into the look."""
    entry: Entry = {} if look.file.name in names(table, {}) else {"file": look.file.name}
    if not look.columns:
        return entry
    if table == HOURS and (preset := preset or _preset(look)):
        return entry | {"preset": preset}
    fields, columns = contract(table).every, _matched(table, look)
    entry |= look.form | (_by_day(look, columns) if table == HOURS else {})
    wide = [name for group in _spans(look.columns).values() for name in group] if "wide" in entry else []
    unused = [c for c in look.columns if c not in (*columns.values(), *wide)]
    for column in contract(table).fields.keys() - columns.keys() - {*entry.get("wide", {})}:
        look.doubts.append(
            f"no column for {column}: {fields[column].meaning}. Not used: {', '.join(unused[:9])}"
        )
    if theirs := {ours: columns[ours] for ours in fields if columns.get(ours, ours) != ours}:
        entry["columns"] = theirs
    texts = {ours: [] if name in look.typed else look.values[name] for ours, name in columns.items()}
    for column, values in texts.items():
        _read_values(column, fields[column], values, entry, look)
    numbers = [ours for ours in columns if fields[ours].kind is Kind.NUMBER]
    readings = [*(texts[n] for n in numbers), *(look.values[n] for n in wide if n not in look.typed)]
    _signs([*itertools.chain(*readings)], entry, look)
    for column in numbers:
        _unit(column, columns[column], look, entry)
    if table == HOURS:
        _clock(look, columns, entry)
    return entry


def _preset(look: Look) -> str | None:
    """The preset whose columns are all there."""
    needed = {name: {*filter(None, p["columns"].values()), p["position"]} for name, p in PRESETS.items()}
    return next((name for name, columns in needed.items() if columns <= {*look.columns}), None)


def _spans(columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns that are numbered through a day, by their common name."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column):
            groups.setdefault(f"{match[1]}*{match[3]}", []).append(column)
    return {name: group for name, group in groups.items() if len(group) in STEPS}


def _by_day(look: Look, columns: dict[str, str]) -> Entry:
    """The keys of readings that are told by day, if they are; numbered readings leave `columns`."""
    if spans := _spans(look.columns):
        wide = {}
        for reading, group in zip((ELEC, GAS), spans.values(), strict=False):
            before, first, after = _NUMBERED.fullmatch(group[0]).groups()  # type: ignore[union-attr]
            last = _NUMBERED.fullmatch(group[-1])[2]  # type: ignore[index]
            wide[reading] = f"{before}{{{first}..{last}}}{after}"
            columns.pop(reading, None)
        look.doubts.append(
            f"a row a day: {', '.join(f'{name} is {reading}' for reading, name in wide.items())}"
        )
        longest = max(map(len, spans.values()))
        clock = {"clock": tariff().zone} if longest in (25, 50, 100) else {}
        return {"wide": wide, "resolution": STEPS[longest], **clock}
    places = [c for c in look.columns if _bare(c) in TRIES["columns"]["place"] and c not in columns.values()]
    if not places or any(":" in text for text in look.values.get(columns.get("timestamp", ""), [])):
        return {}
    look.doubts.append(f"'{places[0]}' numbers the readings of a day from local midnight")
    first = {"first_position": 0} if {"0", "00:00"} & {*look.values[places[0]]} else {}
    return {"position": places[0], "resolution": "hour", "clock": tariff().zone, **first}


def _read_values(column: str, declared: Field, texts: list[str], entry: Entry, look: Look) -> None:
    """Add the keys that the texts of a column ask for."""
    nulls = [mark for mark in TRIES["nulls"] if mark in texts] if declared.kind is not Kind.TEXT else []
    if nulls:
        entry["nulls"] = sorted({*entry.get("nulls", []), *nulls})
    texts = [text for text in texts if text not in nulls]
    if declared.kind in (Kind.DAY, Kind.TIME):
        forms = [day + time for day in TRIES["dates"] for time in TRIES["times"]]
        _order(column, texts, "dates", forms, entry, look)
    elif declared.kind is Kind.MONTH:
        _order(column, texts, "months", TRIES["months"], entry, look)
    elif declared.kind is Kind.FLAG:
        words = {*texts} - {"0", "1"}
        for key in ("yes", "no"):
            if mine := {word for word in words if word.casefold() in TRIES[key]}:
                entry[key] = sorted({*entry.get(key, []), *mine})
                words -= mine
        if words:
            look.doubts.append(
                f"{column}: which of {', '.join(sorted(words)[:5])} mean 1 (yes) and which 0 (no)?"
            )


def _order(column: str, texts: list[str], key: str, forms: list[str], entry: Entry, look: Look) -> None:
    """The form of dates: of those that read every text the first; more than one is a doubt, told with all readings."""
    if not texts or key in entry or all(ISO.fullmatch(text) for text in texts):
        return
    bare = [re.sub(r"\b24:00", "00:00", text) for text in texts]
    fitting = [form for form in forms if all(_reads(text, form) for text in bare)]
    entry |= {key: fitting[0]} if fitting else {}
    apart = next((text for text in bare if len({_reads(text, form) for form in fitting}) > 1), bare[0])
    readings = " or ".join(f"{_reads(apart, form):%Y-%m-%d} ({form})" for form in fitting)
    if not fitting:
        look.doubts.append(f"{column}: no form of dates reads '{texts[0]}'")
    elif len(fitting) > 1:
        look.doubts.append(f"{column}: is '{apart}' {readings}? The first is proposed")


def _reads(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _signs(texts: list[str], entry: Entry, look: Look) -> None:
    """The decimal sign and that of thousands: those that read every number; a doubt where 1.234 may be either."""
    texts = [text for text in texts if text not in entry.get("nulls", [])]
    fitting = [pair for pair in TRIES["signs"] if all(_is_number(text, *pair) for text in texts)]
    if not fitting:
        odd = next(text for text in texts if not _is_number(text, ".", None))
        look.doubts.append(f"no pair of signs for decimals and thousands reads all numbers, such as '{odd}'")
        return
    decimal, thousands = fitting[0]
    entry |= ({"decimal": decimal} if decimal != "." else {}) | (
        {"thousands": thousands} if thousands else {}
    )
    signed = [text for text in texts if re.search(r"[.,]", text)]
    if signed and not thousands and all(re.fullmatch(r"[+-]?\d{1,3}[.,]\d{3}", text) for text in signed):
        either = f"{signed[0].replace(',', '.')} or {re.sub('[.,]', '', signed[0])}"
        look.doubts.append(f"is '{signed[0]}' {either}? The first is proposed")


def _is_number(text: str, decimal: str, thousands: str | None) -> bool:
    grouped = rf"\d{{1,3}}({re.escape(thousands)}\d{{3}})+|" if thousands else ""
    number = rf"[+-]?({grouped}\d*)({re.escape(decimal)}\d*)?([eE][+-]?\d+)?"
    return bool(re.fullmatch(number, text)) and any(map(str.isdigit, text))


def _unit(ours: str, theirs: str, look: Look, entry: Entry) -> None:
    """The unit that the header names, else the one that the size and sign of the values suggest, with a doubt."""
    ending = re.split(r"[ _(\[]", theirs.strip(" )]"))[-1].casefold()
    named = next((unit for unit in units(ours) if theirs != ours and unit.casefold() == ending), None)
    if named:
        if list(units(ours)[named]) != [1, 1]:
            entry.setdefault("units", {})[ours] = named
        return
    decimal, thousands = (
        (".", None) if theirs in look.typed else (entry.get("decimal", "."), entry.get("thousands"))
    )
    texts = [text for text in look.values[theirs] if _is_number(text, decimal, thousands)]
    values = [float(text.replace(thousands or "_", "").replace(decimal, ".")) for text in texts]
    usual = statistics.median(map(abs, values)) if values else 0.0
    turned = sum(value < 0 for value in values) > len(values) / 2
    smaller, most = next((pair for end, pair in TRIES["usual"].items() if ours.endswith(end)), ("", math.inf))
    if turned or usual > most:
        times, over = units(ours)[smaller] if usual > most else (1, 1)
        entry.setdefault("units", {})[ours] = -times / over if turned else smaller
        look.doubts.append(
            f"{ours}: half of the values are beyond {-usual if turned else usual:g}: is 'units' right?"
        )


def _clock(look: Look, columns: dict[str, str], entry: Entry) -> None:
    theirs = columns.get("timestamp", "")
    kind, texts = look.typed.get(theirs), look.values.get(theirs, [])
    if (pa.types.is_timestamp(kind) and kind.tz) if kind else any(re.search(ZONE, text) for text in texts):
        entry["clock"] = "offset"
    if not kind and any("24:00" in text for text in texts):
        entry["stamp"] = "end"
    if "clock" not in entry and {"customer_id", "timestamp", ELEC, GAS} <= {*columns, *entry.get("wide", {})}:
        _clock_of_the_nights(look, entry)


def _nights(year: int) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The hours of a year that legal time leaves out, and those that it has twice."""
    hours = pd.date_range(f"{year}-01-01", f"{year}-12-31 23:00", freq="h")
    summer = hours.tz_localize(tariff().zone, ambiguous=np.ones(len(hours), dtype=bool), nonexistent="NaT")
    either = hours.tz_localize(tariff().zone, ambiguous="NaT", nonexistent="NaT")
    return hours[summer.isna()], hours[np.asarray(either.isna()) & np.asarray(summer.notna())]


def _clock_of_the_nights(look: Look, entry: Entry) -> None:
    """The clock, as far as the nights tell in which it changes: all hours are read for that, as the entry has them."""
    how = Renaming.model_validate({HOURS: {"file": look.file.name} | entry}).root[HOURS]
    with duckdb() as engine:
        hours = open_hours(Source("", look.file.parent, {HOURS: look.file}, {HOURS: how}), engine)
        ends = hours.aggregate(first=hours.hour.min(), last=hours.hour.max())
        [(first, last)] = engine.fetch(ends).to_pandas().itertuples(index=False, name=None)
        if first != first:  # no time can be read
            return
        gone, twice = _nights(last.year)
        night = hours.filter(hours.hour.isin([*gone, *twice]))
        night = night.group_by("customer_id", "hour").agg(rows=night.count())
        rows = engine.fetch(night).to_pandas()
    back = rows[rows["hour"].isin(twice)]
    if len(back) == len(rows) and (back["rows"] > 1).sum() > len(back) / 2:
        entry["clock"] = tariff().zone
    elif first.day == 31 and first.month == 12 and first.hour >= 22:
        entry["clock"] = "UTC"
        look.doubts.append(f"the first stamp is {first}: UTC is proposed as the clock")
    else:
        ways = "'clock: UTC' or '+01:00' (winter time all year)"
        look.doubts.append(
            f"stamps name no time zone, and days have 24 hours all year: if theirs is, add {ways}"
        )

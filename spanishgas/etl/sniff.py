"""Look at the files of a raw folder and propose the mapping.yaml that reads them, with what is doubted.

Nothing here is used at load: what a person has not confirmed in mapping.yaml is not done.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import itertools
import math
import re
import statistics
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from spanishgas.config.reading import packaged
from spanishgas.contracts import contract
from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import DataError, UsageError
from spanishgas.etl import calendar
from spanishgas.etl.calendar import LEGAL
from spanishgas.etl.engine import duckdb
from spanishgas.etl.formats import ZONE, Format, units
from spanishgas.etl.hours import READINGS, open_hours
from spanishgas.etl.mapping import PRESETS, Renaming
from spanishgas.etl.packed import FAULTS, plain
from spanishgas.etl.source import Source
from spanishgas.lake import files_of, is_hidden
from spanishgas.lifetime import temporary_folder
from spanishgas.raw_files import ARCHIVES, CSV, HOURS, JSON, LABELS, MAPPING, PARQUET, RAW_FILES, WORKBOOKS

TRIES = packaged(__file__)
ELEC, GAS = READINGS.values()
HEAD = 2**20
"""Bytes of a text file that are looked at."""
ROWS = 2_000
ALIKE = 0.8
"""Likeness of two names from which they are taken for one."""
STEPS = {24: "hour", 25: "hour", 48: "half_hour", 50: "half_hour", 96: "quarter_hour", 100: "quarter_hour"}
_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)")


@dataclass
class Look:
    """What was seen of one file."""

    file: Path
    columns: list[str]
    values: dict[str, list[str]]
    """Texts by column, no blank ones; of a typed column none."""
    form: dict[str, Any] = field(default_factory=dict)
    """Keys of the mapping, as far as they are seen."""
    doubts: list[str] = field(default_factory=list)
    zoned: set[str] = field(default_factory=set)
    """Typed columns that are instants."""
    numbers: dict[str, list[float]] = field(default_factory=dict)
    """Values of typed columns of numbers."""


def proposal(raw: Path, preset: str | None = None) -> str:
    """The text of a mapping.yaml for the folder: keys, and in comments what is doubted or missing.

    `preset` names the layout of the hours. Raises `UsageError` for a folder that is not there and an unknown preset.
    """
    if not raw.is_dir():
        raise UsageError(f"raw folder '{raw}' does not exist: give the folder that holds the exports")
    if preset is not None and preset not in PRESETS:
        raise UsageError.unknown("preset", preset, PRESETS)
    looks = list(_looks(raw))
    lines = ["# Proposed by `spanishgas sniff`: read each line marked ? before you use it.\n"]
    mapping: dict[str, dict[str, Any]] = {}
    for table, look in _tables(looks):
        entry = _entry(table, look, preset if table == HOURS else None)
        mapping[table] = entry
        lines += [f"# ? {doubt}" for doubt in look.doubts]
        text = yaml.safe_dump({table: entry}, allow_unicode=True, sort_keys=False, width=110)
        lines += [text if entry else f"# {table}: {look.file.name} is in the project's own form\n"]
    for table in RAW_FILES.keys() - mapping.keys() - {LABELS}:
        lines.append(f"# ? {table}: no file looks like it")
    Renaming.model_validate({table: entry for table, entry in mapping.items() if entry})
    return "\n".join(lines).rstrip() + "\n"


def write(raw: Path, text: str) -> Path:
    """Put the proposal beside the files; `DataError` if a mapping is there already."""
    file = raw / MAPPING
    if file.exists():
        raise DataError(f"{file} exists: remove it, or compare it with what sniff prints without --write")
    file.write_text(text, encoding="utf-8")
    return file


def _looks(raw: Path) -> Iterator[Look]:
    for file in sorted(raw.iterdir()):
        if is_hidden(file.name) or file.name == MAPPING:
            continue
        parts = (
            [file]
            if file.is_file()
            else [part for part in files_of(file) if part.name.endswith((*CSV, *PARQUET))]
        )
        if parts and parts[0].name.lower().endswith((*CSV, *JSON, *PARQUET, *ARCHIVES, *WORKBOOKS)):
            look = _look(parts[0])
            look.file = file
            odd = [part.name for part in parts if re.search(r"corr|rect|storno", part.stem, re.IGNORECASE)]
            if odd and len(odd) < len(parts):
                look.doubts.append(
                    f"{', '.join(odd[:3])}: if they replace other readings, add 'corrections: ...'"
                )
            yield look


def _look(file: Path) -> Look:
    name = file.name.lower()
    if name.endswith(PARQUET):
        return _look_at_parquet(file)
    if name.endswith(JSON):
        return Look(file, [], {})
    form: dict[str, Any] = {}
    try:
        text = _head(file, form)
    except (*FAULTS, DataError) as fault:
        return Look(file, [], {}, doubts=[f"{file.name} cannot be read: {str(fault).splitlines()[-1]}"])
    lines = text.splitlines()[:ROWS]
    delimiter = _delimiter(lines)
    rows = list(csv.reader(lines, delimiter=delimiter))
    width = max((len(row) for row in rows), default=0)
    start = next((n for n, row in enumerate(rows) if len(row) == width and all(row)), 0)
    form |= {"delimiter": delimiter} if delimiter in "\t|" else {}
    form |= {"header_row": start + 1} if start else {}
    columns = [column.strip().lstrip("\ufeff") for column in rows[start]] if rows else []
    body = [row for row in rows[start + 1 :] if len(row) == len(columns)]
    values = {c: [row[n].strip() for row in body if row[n].strip()] for n, c in enumerate(columns)}
    return Look(file, columns, values, form)


def _head(file: Path, form: dict[str, Any]) -> str:
    """The beginning of a file as text; its encoding goes into `form`."""
    name = file.name.lower()
    if name.endswith(WORKBOOKS):
        with temporary_folder() as folder:
            return plain(file, Format(), folder)[0].read_text(encoding="utf-8")
    if name.endswith(".zip"):
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.namelist() if m.lower().endswith(".csv") and not is_hidden(m)]
            data = archive.open(members[0]).read(HEAD) if members else b""
    elif name.endswith(".zst"):
        with pa.input_stream(str(file), compression="zstd") as stream:
            data = stream.read(HEAD)
    else:
        with (gzip.open if name.endswith(".gz") else open)(file, "rb") as raw:
            data = raw.read(HEAD)
    encoding = _encoding(data)
    if encoding != "utf-8":
        form["encoding"] = encoding
    whole = data[: data.rfind(b"\n") + 1] if len(data) == HEAD and encoding != "utf-16" else data
    return whole.decode("utf-8-sig" if encoding == "utf-8" else encoding, "ignore")


def _encoding(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        io.TextIOWrapper(io.BytesIO(data[: data.rfind(b"\n") + 1]), encoding="utf-8").read()
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252" if any(0x80 <= byte < 0xA0 for byte in data) else "latin-1"


def _delimiter(lines: Sequence[str]) -> str:
    """The sign that splits most lines into as many parts, and into the most."""

    def evenness(delimiter: str) -> tuple[float, int]:
        counts = [line.count(delimiter) for line in lines]
        usual = max(set(counts), key=lambda n: (counts.count(n), n), default=0)
        return (counts.count(usual) / len(counts) if usual else 0, usual)

    return max(",;\t|", key=evenness) if lines else ","


def _look_at_parquet(file: Path) -> Look:
    schema = pq.read_schema(file)
    rows = next(pq.ParquetFile(file).iter_batches(ROWS), None)
    texts = {c.name: pa.types.is_string(c.type) or pa.types.is_large_string(c.type) for c in schema}
    values = {
        name: [str(v).strip() for v in rows.column(name).to_pylist() if v not in (None, "")]
        if rows and is_text
        else []
        for name, is_text in texts.items()
    }
    zoned = {c.name for c in schema if pa.types.is_timestamp(c.type) and c.type.tz}
    typed = [c.name for c in schema if pa.types.is_floating(c.type) or pa.types.is_integer(c.type)]
    numbers = {n: [v for v in rows.column(n).to_pylist() if v is not None] for n in typed} if rows else {}
    return Look(file, list(schema.names), values, zoned=zoned, numbers=numbers)


def _tables(looks: Sequence[Look]) -> Iterator[tuple[str, Look]]:
    """Each table with the file that looks most like it: by its name, then by the share of columns that are there."""
    scores = []
    for table, look in itertools.product(RAW_FILES, looks):
        named = look.file.name.partition(".")[0].lower() == table
        columns = contract(table).fields
        share = len(_matched(table, look)) / len(columns)
        numbered = table == HOURS and bool(_spans(look.columns))
        if named or share >= 0.5 or numbered:
            scores.append((named, numbered, share, -len(columns), table, look))
    done: set[str] = set()
    for *_, table, look in sorted(scores, key=lambda score: score[:4], reverse=True):
        if table not in done and str(look.file) not in done:
            done |= {table, str(look.file)}
            yield table, look


def _plain_name(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    return " ".join(re.findall(r"[a-z0-9]+", letters))


def _matched(table: str, look: Look) -> dict[str, str]:
    """The file's column by ours, the likest first; each stands once."""
    pairs = []
    for ours, theirs in itertools.product(contract(table).fields, look.columns):
        name, own = _plain_name(theirs), _plain_name(ours)
        known_as = TRIES["columns"].get(ours, [])
        likeness = (
            1.0
            if name == own
            else 0.95
            if name.startswith(f"{own} ")
            else difflib.SequenceMatcher(None, name, own).ratio()
        )
        if name in known_as:
            likeness = 0.9 - known_as.index(name) / 100
        if likeness >= ALIKE:
            pairs.append((likeness, ours, theirs))
    chosen: dict[str, str] = {}
    for _, ours, theirs in sorted(pairs, key=lambda pair: -pair[0]):
        if ours not in chosen and theirs not in chosen.values():
            chosen[ours] = theirs
    return chosen


def _entry(table: str, look: Look, preset: str | None) -> dict[str, Any]:
    """The keys of a table; what is doubted goes into the look."""
    entry: dict[str, Any] = (
        {}
        if look.file.name.partition(".")[0] == table and not look.file.name.endswith((*ARCHIVES, *WORKBOOKS))
        else {"file": look.file.name}
    )
    if not look.columns:
        return entry
    if table == HOURS and (preset := preset or _preset(look)):
        return entry | {"preset": preset}
    fields, columns = contract(table).fields, _matched(table, look)
    if table == HOURS:
        entry |= _by_day(look, columns)
    for column in fields.keys() - columns.keys() - {*entry.get("wide", {})}:
        look.doubts.append(
            f"no column for {column}: {fields[column].meaning}. Not used: {_unused(look, columns)}"
        )
    names = {o: t for o, t in columns.items() if o != t and o not in entry.get("wide", {})}
    names = {ours: names[ours] for ours in fields if ours in names}
    entry |= ({"columns": names} if names else {}) | look.form
    for ours, theirs in columns.items():
        _read_values(ours, fields[ours], look.values.get(theirs, []), entry, look)
    wide = [look.values.get(name, []) for name in _wide_columns(look, entry)]
    _signs([*_texts_of_numbers(fields, columns, look), *itertools.chain(*wide)], entry, look)
    if table == HOURS:
        _clock(look, columns, entry)
    for ours, theirs in columns.items():
        if fields[ours].kind is Kind.NUMBER:
            _unit(ours, theirs, look, entry)
    return entry


def _unused(look: Look, columns: dict[str, str]) -> str:
    return ", ".join(c for c in look.columns if c not in columns.values())[:200] or "none"


def _preset(look: Look) -> str | None:
    """The preset whose columns are all there."""
    for name, keys in PRESETS.items():
        if {*filter(None, keys["columns"].values()), keys["position"]} <= {*look.columns}:
            return name
    return None


def _spans(columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns that are numbered through a day, by their common name."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column):
            groups.setdefault(f"{match[1]}*{match[3]}", []).append(column)
    return {name: group for name, group in groups.items() if len(group) in STEPS}


def _by_day(look: Look, columns: dict[str, str]) -> dict[str, Any]:
    spans = _spans(look.columns)
    if spans:
        readings = [ELEC, GAS][: len(spans)]
        wide = {reading: _span(group) for reading, group in zip(readings, spans.values(), strict=False)}
        longest = max(len(group) for group in spans.values())
        entry: dict[str, Any] = {"wide": wide, "resolution": STEPS[longest]}
        look.doubts.append(
            f"a row a day: {', '.join(f'{group} is {reading}' for reading, group in wide.items())}"
        )
        for reading in readings:
            columns.pop(reading, None)
    else:
        hour = [
            c
            for c in look.columns
            if _plain_name(c) in TRIES["columns"]["place"] and c not in columns.values()
        ]
        day = look.values.get(columns.get("timestamp", ""), [])
        if not hour or any(":" in text for text in day):
            return {}
        entry, longest = {"position": hour[0], "resolution": "hour"}, 25
        if "0" in look.values[hour[0]] or "00:00" in look.values[hour[0]]:
            entry["first_position"] = 0
        look.doubts.append(f"'{hour[0]}' numbers the readings of a day from local midnight")
    if longest in (25, 50, 100):
        entry["clock"] = "Europe/Madrid"
    return entry


def _span(group: Sequence[str]) -> str:
    first, last = (_NUMBERED.fullmatch(group[n]) for n in (0, -1))
    return f"{first[1]}{{{first[2]}..{last[2]}}}{first[3]}" if first and last else ""


def _wide_columns(look: Look, entry: dict[str, Any]) -> list[str]:
    return [name for group in _spans(look.columns).values() for name in group] if "wide" in entry else []


def _texts_of_numbers(fields: Any, columns: dict[str, str], look: Look) -> list[str]:
    return [
        text
        for ours, theirs in columns.items()
        if fields[ours].kind in (Kind.NUMBER, Kind.COUNT)
        for text in look.values.get(theirs, [])
    ]


def _read_values(column: str, declared: Field, texts: list[str], entry: dict[str, Any], look: Look) -> None:
    """Add the keys that the texts of a column ask for."""
    nulls = [mark for mark in TRIES["nulls"] if mark in texts]
    if nulls and declared.kind is not Kind.TEXT:
        entry["nulls"] = sorted({*entry.get("nulls", []), *nulls})
    texts = [text for text in texts if text not in nulls]
    if declared.kind in (Kind.DAY, Kind.TIME):
        _order(column, texts, "dates", _date_forms(), entry, look)
    elif declared.kind is Kind.MONTH:
        _order(column, texts, "months", TRIES["months"], entry, look)
    elif declared.kind is Kind.FLAG:
        words = sorted({*texts} - {"0", "1"})
        for key in ("yes", "no"):
            if mine := [word for word in words if word.casefold() in TRIES[key]]:
                entry[key] = sorted({*entry.get(key, []), *mine})
        if odd := [w for w in words if w.casefold() not in (*TRIES["yes"], *TRIES["no"])]:
            look.doubts.append(f"{column}: which of {', '.join(odd[:5])} mean 1 ('yes') and which 0 ('no')?")


def _date_forms() -> list[str]:
    return [day + time for day in TRIES["dates"] for time in TRIES["times"]]


def _order(
    column: str, texts: list[str], key: str, forms: list[str], entry: dict[str, Any], look: Look
) -> None:
    """The form of dates: all that read every text; more than one is a doubt, told with both readings."""
    iso = r"[1-9]\d{3}-\d{2}(-\d{2}([T ]\d{2}:\d{2}.*)?)?"
    if not texts or all(re.fullmatch(iso, text) for text in texts) or key in entry:
        return
    if any("24:00" in text for text in texts):
        entry["stamp"] = "end"
    bare = [re.sub(r"\b24:00", "00:00", text) for text in texts]
    fitting = [form for form in forms if all(_reads(text, form) for text in bare)]
    if not fitting:
        look.doubts.append(f"{column}: no form of dates reads '{texts[0]}'")
        return
    entry[key] = fitting[0]
    if len(fitting) > 1:
        apart = [text for text in bare if len({_reads(text, form) for form in fitting}) > 1]
        text = (apart or bare)[0]
        readings = " or ".join(f"{_reads(text, form):%Y-%m-%d} ({form})" for form in fitting)
        look.doubts.append(f"{column}: is '{text}' {readings}? The first is proposed")


def _reads(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _signs(texts: list[str], entry: dict[str, Any], look: Look) -> None:
    """The decimal sign and that of thousands: those that read every number; a doubt where 1.234 may be either."""
    texts = [text for text in texts if text not in entry.get("nulls", [])]
    fitting = [(d, t) for d, t in TRIES["signs"] if texts and all(_is_number(text, d, t) for text in texts)]
    if not fitting:
        if texts:
            odd = next(text for text in texts if not _is_number(text, ".", None))
            look.doubts.append(f"numbers such as '{odd}' fit no pair of signs for decimals and thousands")
        return
    decimal, thousands = fitting[0]
    entry |= ({"decimal": decimal} if decimal != "." else {}) | (
        {"thousands": thousands} if thousands else {}
    )
    grouped = [text for text in texts if re.fullmatch(r"[+-]?\d{1,3}([.,]\d{3})+", text)]
    if grouped and len(grouped) == sum(bool(re.search(r"[.,]", text)) for text in texts):
        look.doubts.append(
            f"is '{grouped[0]}' {grouped[0].replace(',', '.')} or {re.sub('[.,]', '', grouped[0])}?"
        )


def _is_number(text: str, decimal: str, thousands: str | None) -> bool:
    sign, whole = re.escape(decimal), r"\d*"
    if thousands:
        whole = rf"(\d{{1,3}}({re.escape(thousands)}\d{{3}})+|\d*)"
    return bool(re.fullmatch(rf"[+-]?{whole}({sign}\d*)?([eE][+-]?\d+)?", text)) and any(
        map(str.isdigit, text)
    )


def _clock(look: Look, columns: dict[str, str], entry: dict[str, Any]) -> None:
    theirs = columns.get("timestamp", "")
    texts = look.values.get(theirs, [])
    if theirs in look.zoned or any(re.search(ZONE, text) for text in texts):
        entry["clock"] = "offset"
    if any("24:00" in text for text in texts):
        entry["stamp"] = "end"
    if "clock" not in entry and {*contract(HOURS).fields} - {GAS} <= {*columns, *entry.get("wide", {})}:
        _clock_of_the_nights(look, entry)


def _clock_of_the_nights(look: Look, entry: dict[str, Any]) -> None:
    """The clock, as far as the nights tell in which it changes: all hours are read for that, as the entry has them."""
    renamed = Renaming.model_validate({HOURS: {"file": look.file.name} | entry}).root
    with duckdb() as engine:
        hours = open_hours(
            Source(str(look.file.parent), look.file.parent, {HOURS: look.file}, renamed), engine
        )
        first, last = (
            engine.fetch(hours.aggregate(first=hours.hour.min(), last=hours.hour.max()))
            .to_pylist()[0]
            .values()
        )
        if first is None:
            return
        year = calendar.hours(date(last.year, 12, 31), replace(renamed[HOURS].grid, clock=LEGAL))
        back = [at.to_pydatetime() for at in year["hour"][year["times"] > 1]]
        night = (
            hours.filter(hours.hour.isin(back)).group_by("customer_id", "hour").agg(rows=lambda t: t.count())
        )
        twice = engine.fetch(night.aggregate(seen=night.count(), twice=(night.rows > 1).sum())).to_pylist()[0]
        gone = datetime(last.year, 3, 31, 2) - timedelta(days=date(last.year, 3, 31).isoweekday() % 7)
        missing = engine.fetch(hours.filter(hours.hour == gone).count().as_table())[0][0].as_py() == 0
    if twice["seen"] and (twice["twice"] or 0) > twice["seen"] / 2 and missing:
        entry["clock"] = "Europe/Madrid"
    elif (first.hour, first.day) == (23, 31) or (first.hour, first.day) == (22, 31):
        entry["clock"] = "UTC"
        look.doubts.append(f"the first stamp is {first}: UTC is proposed as the clock")
    else:
        words = "add 'clock: UTC' or '+01:00' (winter time all year) if they are of such a clock"
        look.doubts.append(f"stamps name no time zone, and their days have 24 hours all year: {words}")


def _unit(ours: str, theirs: str, look: Look, entry: dict[str, Any]) -> None:
    """The unit that the header names, else the one that the size and sign of the values suggest, with a doubt."""
    words = {unit.casefold(): unit for unit in units(ours)}
    ending = re.split(r"[ _(\[]", theirs.strip(" )]"))[-1].casefold()
    if theirs != ours and (unit := words.get(ending)):
        if units(ours)[unit] != [1, 1]:
            entry.setdefault("units", {})[ours] = unit
        return
    decimal, thousands = entry.get("decimal", "."), entry.get("thousands")
    texts = [t for t in look.values.get(theirs, []) if _is_number(t, decimal, thousands)]
    ungrouped = (t.replace(thousands, "") if thousands else t for t in texts)
    values = [*look.numbers.get(theirs, []), *(float(t.replace(decimal, ".")) for t in ungrouped)]
    turned = sum(v < 0 for v in values) > len(values) / 2
    usual = statistics.median(abs(v) for v in values) if values else 0.0
    smaller, most = next((pair for end, pair in TRIES["usual"].items() if ours.endswith(end)), ("", math.inf))
    if usual <= most and not turned:
        return
    unit = smaller if usual > most else ""
    times, over = units(ours)[unit] if unit else (1, 1)
    entry.setdefault("units", {})[ours] = -times / over if turned else unit
    look.doubts.append(
        f"{ours}: half of the values are beyond {-usual if turned else usual:g}: is 'units' right?"
    )

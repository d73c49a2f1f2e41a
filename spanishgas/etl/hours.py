"""Open the hourly readings: Parquet or CSV, a file or a folder of parts, judged by schema or header alone."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.dataset as ds

from spanishgas.contracts import contract
from spanishgas.errors import ContractError
from spanishgas.etl import values
from spanishgas.etl.engine import DuckEngine, held
from spanishgas.etl.formats import PLAIN, STEPS, Format
from spanishgas.etl.packed import plain
from spanishgas.etl.parquet import misfits
from spanishgas.etl.source import MEND, Source, check_header, header
from spanishgas.lake import files_of
from spanishgas.raw_files import ARCHIVES, CSV, PARQUET, WORKBOOKS
from spanishgas.raw_files import HOURS as TABLE

PLACE = "place"
"""Beside the columns of a file that tells readings by day: the reading's place in it."""
READINGS = {"elec": "consumption_elec_kwh", "gas": "consumption_gas_m3"}


def open_hours(source: Source, engine: DuckEngine) -> ir.Table:
    """customer_id, hour (naive timestamp), elec and gas (kWh, m3), the three also as `written`, nothing read yet.

    A time that does not parse or names a zone is null, a reading that does not is NaN.

    Raises `ContractError` for a file that is missing or cannot be read, and for columns missing or of another type.
    """
    whole, *corrections = _tables(source, engine)
    for correction in corrections:
        whole = whole.anti_join(_stamps(correction), ["customer_id", "hour"]).union(correction)
    return whole


def replaced(source: Source, engine: DuckEngine) -> ir.Table | None:
    """The readings that a correction file replaces; None where there is no such file."""
    gone, (whole, *corrections) = [], _tables(source, engine)
    for correction in corrections:
        gone.append(whole.semi_join(stamps := _stamps(correction), ["customer_id", "hour"]))
        whole = whole.anti_join(stamps, ["customer_id", "hour"]).union(correction)
    return ibis.union(*gone) if len(gone) > 1 else gone[0] if gone else None


def _stamps(hours: ir.Table) -> ir.Table:
    return hours.select("customer_id", "hour").distinct().filter(lambda t: t.hour.notnull())


def _tables(source: Source, engine: DuckEngine) -> list[ir.Table]:
    """The hours, then those of each correction file in the order of names."""
    pattern, parts = source.format(TABLE).corrections, parts_of(source)
    if not is_parquet(source):
        for part in parts:
            if part not in engine.unpacked:
                engine.unpacked[part] = plain(part, source.format(TABLE), engine.scratch)
        parts = [text for part in parts for text in engine.unpacked[part]]
    corrections = [part for part in parts if pattern and fnmatchcase(part.name, pattern)]
    first = [part for part in parts if part not in corrections]
    if not first or (pattern and not corrections):
        words = f"{'each' if corrections else 'none'} of its files is one of corrections ('{pattern}')"
        raise ContractError.broken(source.file(TABLE).name, [words], MEND)
    groups = [first, *([part] for part in sorted(corrections, key=lambda part: part.name))]
    return [_table(group, f"hours{number or ''}", source, engine) for number, group in enumerate(groups)]


def _table(parts: list[Path], name: str, source: Source, engine: DuckEngine) -> ir.Table:
    how = source.format(TABLE)
    way = _open_parquet if is_parquet(source) else _open_csv
    opened = list(way(parts, name, source, engine))
    if how.by_day:
        opened = [_long(hours, columns, how, engine) for hours, columns in opened]
    tables = [typed(hours, columns, how) for hours, columns in opened]
    return tables[0] if len(tables) == 1 else ibis.union(*tables)


def typed(hours: ir.Table, columns: Mapping[str, str], how: Format = PLAIN) -> ir.Table:
    """The columns of opened hours as `open_hours` has them; `columns` says what each is called in `how`'s format."""
    nothing = ibis.literal(None, "float64")
    readings = {name: hours[columns[column]] for name, column in READINGS.items() if column in columns}
    place = hours[columns[PLACE]] if PLACE in columns else None
    return hours.select(
        customer_id=_id(hours[columns["customer_id"]], how),
        hour=_time(hours[columns["timestamp"]], place, how),
        written=hours[columns["timestamp"]],
        **{
            name: _number(readings[name], column, how) if name in readings else nothing
            for name, column in READINGS.items()
        },
        **{f"written_{name}": readings.get(name, nothing) for name in READINGS},
    )


def is_parquet(source: Source) -> bool:
    """Whether the hours are Parquet: a file or a folder of parts."""
    return all(part.suffix.lower() == ".parquet" for part in _files(source)) or not _files(source)


def parts_of(source: Source) -> list[Path]:
    """The files of the hours, the columns and types of Parquet held; errors as of `open_hours`."""
    file, parts = source.present(TABLE), _files(source)
    if not parts:
        raise ContractError.broken(file.name, ["the folder holds no .parquet file and no .csv"], MEND)
    if len(kinds := {part.suffix.lower() == ".parquet" for part in parts}) > 1:
        raise ContractError.broken(file.name, ["the folder holds .parquet files beside .csv ones"], MEND)
    for part in parts if kinds == {True} else ():
        _check_schema(part, source)
    return parts


def _files(source: Source) -> list[Path]:
    file = source.present(TABLE)
    if not file.is_dir():
        return [file]
    return [
        part for part in files_of(file) if part.name.lower().endswith((*CSV, *PARQUET, *ARCHIVES, *WORKBOOKS))
    ]


def _open_parquet(
    parts: list[Path], name: str, source: Source, engine: DuckEngine
) -> Iterator[tuple[ir.Table, dict[str, str]]]:
    opened = engine.con.read_parquet([str(part) for part in parts], table_name=name, union_by_name=True)
    yield held(name, opened.schema()), {**source.columns(TABLE), **_by_day(source.format(TABLE))}


def _open_csv(
    parts: list[Path], name: str, source: Source, engine: DuckEngine
) -> Iterator[tuple[ir.Table, dict[str, str]]]:
    """The files of each header in one table, and where its columns stand."""
    how, alike = source.format(TABLE), dict[tuple[tuple[str, ...], str], list[str]]()
    wanted = {**source.columns(TABLE), **_by_day(how)}
    for part in parts:
        names, delimiter = header(part, wanted.values(), how)
        alike.setdefault((tuple(names), delimiter), []).append(str(part))
    for number, ((headers, delimiter), paths) in enumerate(alike.items()):
        # Named by place: a header may hold names that DuckDB takes for the same, and columns that nobody asked for.
        kinds = {f"c{place}": "VARCHAR" for place in range(len(headers))}
        form: dict[str, Any] = {"header": True, "delim": delimiter, "quote": '"', "escape": '"'}
        table = f"{name}_{number}" if number else name
        opened = engine.con.read_csv(paths, table_name=table, columns=kinds, **form)
        yield held(table, opened.schema()), {ours: f"c{headers.index(t)}" for ours, t in wanted.items()}


def _by_day(how: Format) -> dict[str, str]:
    """The columns that tell readings by day: the place, or each place's reading."""
    if how.position:
        return {PLACE: how.position}
    return {
        f"{column}.{place}": name for column, names in how.spread.items() for place, name in enumerate(names)
    }


def _long(
    hours: ir.Table, columns: Mapping[str, str], how: Format, engine: DuckEngine
) -> tuple[ir.Table, dict[str, str]]:
    """A row a reading, from a row a day; places that only longer days have are left out where they are empty."""
    if not how.wide:
        return hours, dict(columns)
    count, name = len(next(iter(how.spread.values()))), f"long_{hours.get_name()}"
    kept = {ours: columns[ours] for ours in ("customer_id", "timestamp")}
    lists = {
        column: ", ".join(f'"{columns[f"{column}.{place}"]}"' for place in range(count))
        for column in how.spread
    }
    selected = [f'"{theirs}" AS {ours}' for ours, theirs in kept.items()]
    selected += [f"unnest([{values}]) AS {column}" for column, values in lists.items()]
    query = f'SELECT {", ".join(selected)}, unnest(range({count})) AS {PLACE} FROM "{hours.get_name()}"'
    engine.con.raw_sql(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")
    long = held(name, engine.con.table(name).schema())
    empty = [
        long[column].cast("string").strip().fill_null("").isin(["", *how.nulls]) for column in how.spread
    ]
    always = long[PLACE] < 23 * 60 // STEPS[how.resolution or "hour"]
    names = (*kept, *how.spread, PLACE)
    return long.filter(always | ~functools.reduce(operator.and_, empty)), {ours: ours for ours in names}


def _id(column: ir.Column, how: Format) -> ir.Value:
    text = column.cast("string")
    if how.nulls:
        text = ibis.ifelse(text.strip().isin(how.nulls), None, text)
    return values.cups(text) if how.ids else text


def _time(column: ir.Column, place: ir.Column | None, how: Format) -> ir.Value:
    moment = values.time(column, how) if column.type().is_string() else column.cast("timestamp")
    if place is None:
        return moment
    return values.in_day(moment, values.place(place, how) if how.position else place, how)


def _number(column: ir.Column, name: str, how: Format) -> ir.Value:
    """The reading; NaN for a text that is none. What takes longer is asked only of texts that are no plain number."""
    if not column.type().is_string():
        return values.scaled(column.cast("float64"), name, how)
    if how.nulls:
        column = ibis.ifelse(column.strip().isin(how.nulls), None, column)
    # a point where a comma is the sign becomes a comma, and the text no number
    plain = column if how.decimal == "." else column.translate(",.", ".,")
    blank = (column.strip() == "").fill_null(True)
    ways = [plain.try_cast("float64"), *([values.number(column, how)] if how.thousands else [])]
    return values.scaled(ibis.coalesce(*ways, ibis.ifelse(blank, None, float("nan"))), name, how)


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn a page of Parquet that cannot be decoded, found half-way through the hours, into a `ContractError`."""
    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.BinderException, duckdb.CatalogException):
        raise  # not the file's fault
    except duckdb.Error as fault:
        raise unreadable(file, fault) from fault


def unreadable(file: Path, fault: Exception) -> ContractError:
    """The error for hours that cannot be read, in the words of the engine."""
    form = "CSV" if file.name.endswith(CSV) else "Parquet"
    words = [f"cannot be read as {form}: {str(fault).splitlines()[0]}"]
    return ContractError.broken(file.name, words, MEND)


def _check_schema(part: Path, source: Source) -> None:
    how, columns = source.format(TABLE), source.columns(TABLE)
    try:
        schema = ds.dataset(part, format="parquet").schema
    except (pa.ArrowInvalid, OSError) as fault:
        raise unreadable(part, fault) from fault
    check_header(part, schema.names, [*columns.values(), *_by_day(how).values()])
    fields = contract(TABLE).fields
    held_to = {theirs: fields[ours] for ours, theirs in columns.items()}
    held_to |= {name: fields[column] for column, names in how.spread.items() for name in names}
    if faults := misfits(schema, held_to, by_day=how.by_day, zoned=how.clock == "offset"):
        raise ContractError.broken(part.name, faults, MEND)

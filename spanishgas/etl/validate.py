"""Hold a raw extract against its contracts without building anything: the same steps as the build up to bronze."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from spanishgas.errors import ContractError
from spanishgas.etl import raw
from spanishgas.etl.bronze import Bronze
from spanishgas.etl.engine import DuckEngine, duckdb
from spanishgas.etl.hours import open_hours
from spanishgas.etl.labels import horizon_of
from spanishgas.etl.quality import Audit, Quality
from spanishgas.etl.rollup import hours_of
from spanishgas.etl.source import Source
from spanishgas.raw_files import HOURS, RAW_FILES


@dataclass(frozen=True)
class Validation:
    """What a build would say of an extract."""

    report: str
    """Per file in words: rows, kept, and by rule what goes to quarantine, with an example."""
    faults: list[str]
    """What would stop the build; empty if it would run."""


def validate(source: Source, as_of: date) -> Validation:
    """Check all seven files: name each that cannot be read or lacks a column; without such, check the rows."""
    quality = Quality()
    with duckdb() as engine:
        faults = list(_unreadable(source, engine))
        if not faults:
            try:
                audit = Audit(engine, quality)
                bronze = Bronze(*raw.read(source, audit), as_of, audit, horizon_of(source))
                customers = bronze.customer()
                bronze.customer_month(hours_of(source, as_of, engine), customers)
            except ContractError as fault:
                faults.append(str(fault))
    return Validation("\n".join(_lines(source, quality)), faults)


def _unreadable(source: Source, engine: DuckEngine) -> Iterator[str]:
    for table in RAW_FILES:
        try:
            open_hours(source, engine) if table == HOURS else source.text(table)
        except ContractError as fault:
            yield str(fault)


def _lines(source: Source, quality: Quality) -> Iterator[str]:
    for table, counts in quality.report.items():
        if table not in RAW_FILES:
            continue
        rows = f", {counts['kept']:,} kept" if "kept" in counts else ""
        yield f"{source.file(table).name}: {counts['rows_in']:,} rows{rows}"
        for name, count in counts.items():
            kind, _, rule = name.partition(".")
            if kind == "quarantined" and rule and count:
                yield f"  quarantine: {count:,} rows {quality.words(table, rule)}"
            elif kind == "energy" and rule.endswith(".in"):
                fuel, whole = rule.removesuffix(".in"), float(count)
                kept = float(counts[f"energy.{fuel}.kept"])
                yield f"  {fuel}: {whole:,.3f} in = {kept:,.3f} kept + {whole - kept:,.3f} set apart"
            elif count and kind in ("collapsed", "replaced", "unused", "repaired", "odd"):
                yield f"  {kind}{' ' if rule else ''}{rule}: {count:,}"

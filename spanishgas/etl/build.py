"""The chain from raw files to gold. Everything is computed and checked before the first table is published.

raw -> bronze_customer        -> silver_customer       --> gold_master
    -> bronze_customer_month  -> silver_customer_month -'
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from pathlib import Path

import ibis.expr.types as ir

from spanishgas import contracts, provenance
from spanishgas.config.tariff import Tariff, applied, tariff
from spanishgas.contracts.tables import DERIVED
from spanishgas.etl import raw, silver
from spanishgas.etl.bronze import Bronze
from spanishgas.etl.engines import Engine, connect
from spanishgas.etl.labels import horizon_of
from spanishgas.etl.quality import Audit, Quality, Report
from spanishgas.etl.rollup import hours_of
from spanishgas.etl.sentiment import SentimentModel, load_model
from spanishgas.etl.source import Source, open_source
from spanishgas.features import Tiers, add_features, in_context, levels, load_tiers, month_features
from spanishgas.lake import Lake, Snapshot
from spanishgas.lake.digests import sealed, unsealed
from spanishgas.settings import settings
from spanishgas.stages import Stage

SOURCES: Mapping[str, tuple[str, ...]] = {
    name: DERIVED[name].sources for name in DERIVED if DERIVED[name].sources
}
"""What each table is built from, in the order in which they are published."""
QUALITY = "_quality.json"
"""Note beside gold: the data-quality report of the build."""


_log = logging.getLogger(__name__).info


@dataclass(frozen=True)
class EtlReport:
    """What a build left in the lake."""

    snapshots: dict[str, Snapshot]
    reused: bool
    """Whether all tables stood already, built from the same inputs by the same code."""
    quality: Report
    seconds: float


def build(
    raw: Path | str,
    lake: Lake,
    as_of: date,
    *,
    engine: str = "duckdb",
    mapping: Path | None = None,
    run_id: str | None = None,
    progress: Callable[[str], None] = _log,
    quality: Quality | None = None,
) -> EtlReport:
    """Build bronze, silver and gold of the extract in `raw` (a folder or an s3:// prefix) as of `as_of`.

    - The same rows in any order give the same bytes; rows dated after `as_of` change no byte of gold.
    - Nothing is published unless every table keeps its contract; unchanged inputs and code publish nothing anew.
    - `quality` holds the report also where the build stops: as far as it came.
    - Raises `ContractError` for files that break their contract, `UsageError` for the folder, engine or settings.
    """
    started = time.monotonic()
    quality = quality or Quality()
    source = open_source(raw, mapping, lake.store.downloads)
    with connect(engine) as opened, lake.building(as_of):
        this = _Build(etl_inputs(source, as_of, engine), lake, opened, run_id, progress, quality)
        reused = this.reused()
        snapshots = reused or this.publish(this.compute())
    seconds = time.monotonic() - started
    report = quality.report
    customers, months = (report[name]["rows"] for name in ("gold_master", "silver_customer_month"))
    what = "unchanged, reused" if reused else "built"
    progress(f"etl: {customers:,} customers, {months:,} customer-months {what} in {seconds:.1f} s")
    return EtlReport(snapshots, reused is not None, report, seconds)


@dataclass(frozen=True)
class EtlInputs:
    """What the tables of a build depend on."""

    source: Source
    as_of: date
    engine: str
    max_quarantined: float
    tiers: Tiers
    tariff: Tariff
    sentiment: SentimentModel
    horizon_months: int | None
    """Within which a customer who left counts as such; None where labels have no dates."""


ETL = Stage[EtlInputs]("etl", (__name__,))


def etl_inputs(source: Source, as_of: date, engine: str) -> EtlInputs:
    """The build as settings and the data dictionary have it now."""
    limit, tiers = settings().max_quarantined, load_tiers().rules()
    return EtlInputs(source, as_of, engine, limit, tiers, tariff(), load_model(), horizon_of(source))


@dataclass(frozen=True)
class _Build:
    """One build: its inputs, and the three things done with them."""

    inputs: EtlInputs
    lake: Lake
    engine: Engine
    run_id: str | None
    progress: Callable[[str], None]
    quality: Quality

    @cached_property
    def key(self) -> str:
        """Digest of the inputs and of the code."""
        return ETL.key(self.inputs)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Digests of the raw files."""
        return self.inputs.source.digests

    def reused(self) -> dict[str, Snapshot] | None:
        """The current tables, if they and their report come whole from this fingerprint and from each other."""
        made = {table: self.lake.made(table, self.inputs.as_of, self.key) for table in SOURCES}
        whole = {table: snapshot for table, snapshot in made.items() if snapshot}
        digests = self.digests | {table: snapshot.manifest.digest for table, snapshot in whole.items()}
        others = [digests.get(name) != d for s in whole.values() for name, d in s.manifest.built_from.items()]
        report = self._read_quality()
        if len(whole) < len(SOURCES) or any(others) or report is None:
            return None
        self.quality.report.update(report)
        return whole

    @ETL.working()
    def compute(self) -> dict[str, ir.Table]:
        """The tables, held and checked."""
        with applied(self.inputs.tariff):
            return self._tables()

    def _tables(self) -> dict[str, ir.Table]:
        audit, engine, as_of = Audit(self.engine, self.quality), self.engine, self.inputs.as_of
        small, customer_ids = raw.read(self.inputs.source, Audit(engine.reader, self.quality))
        small = {name: engine.import_table(f"raw_{name}", table) for name, table in small.items()}
        ids = engine.import_table("known", customer_ids)
        bronze = Bronze(small, ids, as_of, audit, self.inputs.horizon_months)
        hours = hours_of(self.inputs.source, as_of, engine)
        tables = {"bronze_customer": self._checked("bronze_customer", bronze.customer())}
        months = bronze.customer_month(hours, tables["bronze_customer"])
        tables["bronze_customer_month"] = self._checked("bronze_customer_month", months)
        customers = silver.customer(tables["bronze_customer"], self.inputs.sentiment, audit)
        tables["silver_customer"] = self._checked("silver_customer", customers)
        months = silver.customer_month(months, customers, audit)
        tables["silver_customer_month"] = self._checked("silver_customer_month", months)
        master = gold(customers, months, self.inputs.tiers, as_of, engine)
        tables["gold_master"] = self._checked("gold_master", master)
        apart = engine.import_table("set_apart", self.quality.quarantined(self.run_id))
        apart = engine.materialize("quarantine", apart, by=apart.columns)
        tables["quarantine"] = self._checked("quarantine", apart)
        return tables

    def publish(self, tables: Mapping[str, ir.Table]) -> dict[str, Snapshot]:
        """Publish the tables in order, each naming the digests of what it was built from."""
        digests, snapshots = dict(self.digests), {}
        for table, sources in SOURCES.items():
            snapshots[table] = self.lake.publish(
                table,
                self.inputs.as_of,
                partial(self.engine.write, tables[table]),
                built_from={source: digests[source] for source in sources if source in digests},
                fingerprint=self.key,
                code=provenance.identity(ETL.source),
                run_id=self.run_id,
            )
            digests[table] = snapshots[table].manifest.digest
        note = sealed({"fingerprint": self.key, "quality": self.quality.report})
        self.lake.write_note("gold_master", self.inputs.as_of, QUALITY, note)
        return snapshots

    def _checked(self, name: str, table: ir.Table) -> ir.Table:
        self.progress(f"etl: {name} computed")
        checked = Audit(self.engine, self.quality).check(name, table, tiers=self.inputs.tiers)
        self.quality.add(name, rows=checked["rows"])
        self.quality.profile(name, checked)
        return table

    def _read_quality(self) -> Report | None:
        try:
            note = unsealed(self.lake.read_note("gold_master", self.inputs.as_of, QUALITY) or "{}")
        except ValueError:
            return None
        return note["quality"] if note.get("fingerprint") == self.key else None


def gold(customers: ir.Table, months: ir.Table, tiers: Tiers, as_of: date, engine: Engine) -> ir.Table:
    """gold_master from the silver tables, its columns in the contract's order."""
    months = engine.materialize("months_in_context", in_context(months), by=["customer_id", "month"])
    margins = {
        "avg_monthly_margin": months.total_margin.mean(),
        "total_margin_2024": months.total_margin.sum(),
    }
    row = customers.left_join(month_features(months, **margins), "customer_id").drop("customer_id_right")
    row = engine.materialize("row", row.mutate(is_urban=row.is_urban.fill_null(0)))
    for number, names in enumerate(levels(row, tiers, as_of)):
        row = engine.materialize(f"row_{number}", add_features(row, tiers, names, as_of))
    row = row.select(*contracts.contract("gold_master", tiers).of(row.columns).fields)
    return engine.materialize("gold_master", row, by=["customer_id"])

"""What keeps the roll-up fast and small: memory that the hours do not fill, and one reading of a clean file."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from spanishgas.etl import engine, rollup
from spanishgas.etl.build import build
from spanishgas.etl.engine import duckdb
from spanishgas.etl.hours import open_hours
from spanishgas.etl.source import open_source
from spanishgas.lake import RAW_FILES, Lake
from spanishgas.raw_files import HOURS
from spanishgas.simulate import write_extract
from tests.raw_builder import label, write_raw

AS_OF = date(2024, 12, 31)
PROJECT = Path(__file__).resolve().parents[2]


def draw(folder: Path, customers: int) -> Path:
    write_extract(folder / "raw", customers=customers, seed=5, as_of=AS_OF, labelled=True)
    return folder


def peak_mb(folder: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.steps", "roll_up", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout)["peak_mb"])


def bytes_read(raw: Path, in_order: bool = False) -> int:
    """What DuckDB read of the hours' file while it rolled them up, as its own log has it."""
    with duckdb() as duck:
        sql = duck.con.raw_sql
        sql("SET enable_external_file_cache = false")
        sql("CALL enable_logging('FileSystem', level = 'trace')")
        source = open_source(raw)
        rolled = rollup.roll_up(open_hours(source, duck), AS_OF, duck, source if in_order else None)
        duck.fetch(rolled.slots)
        found = sql(
            "SELECT coalesce(sum(bytes), 0) FROM duckdb_logs_parsed('FileSystem') "
            "WHERE op = 'READ' AND path LIKE '%.parquet'"
        )
        return int(found.fetchall()[0][0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_of_the_roll_up_stays_while_the_hours_grow(tmp_path: Path) -> None:
    small, large = draw(tmp_path / "small", 40), draw(tmp_path / "large", 400)
    rows = 360 * 8_784
    grown = peak_mb(large) - peak_mb(small)
    print(peak_mb(small), peak_mb(large))
    assert grown < rows * 24 / 2**20, "a timestamp and two readings of each hour take 24 bytes"


def test_a_clean_file_of_hours_is_read_once(tmp_path: Path) -> None:
    raw = draw(tmp_path, 40) / "raw"
    size = (raw / RAW_FILES[HOURS]).stat().st_size
    assert 0.9 * size < bytes_read(raw) < 1.1 * size
    assert bytes_read(raw, in_order=True) < 0.1 * size, "pyarrow reads hours that stand in order"


def test_a_second_build_of_a_process_compiles_no_expression_again(tmp_path: Path) -> None:
    first, again = (write_raw(tmp_path / name, churn_label=[label("C1", name == "b")]) for name in "ab")
    build(first, Lake(tmp_path / "one"), AS_OF)
    compiled = engine._sql.cache_info().misses
    build(again, Lake(tmp_path / "two"), AS_OF)
    assert engine._sql.cache_info().misses == compiled > 0

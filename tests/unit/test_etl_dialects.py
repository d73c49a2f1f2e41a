"""The simulator's extract in the dialects of utilities' exports gives the gold of the plain one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from spanishgas.etl.build import EtlReport, build
from spanishgas.lake import Lake
from spanishgas.simulate import write_extract
from tests import dialects

AS_OF = date(2024, 12, 31)
QUICK = ("spanish_csv", "datadis")
WITHOUT_GAS = ("datadis", "cch")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[dialects.Frames, EtlReport]:
    folder = tmp_path_factory.mktemp("plain")
    truth = folder / "truth"
    write_extract(folder / "raw", customers=8, seed=3, as_of=AS_OF, shift="none", labelled=True, truth=truth)
    report = build(folder / "raw", Lake(folder / "lake"), AS_OF)
    return dialects.read_plain(folder / "raw"), report


@pytest.fixture(scope="module")
def without_gas(
    plain: tuple[dialects.Frames, EtlReport], tmp_path_factory: pytest.TempPathFactory
) -> EtlReport:
    """The plain extract as if nobody's gas were read."""
    frames, folder = plain[0], tmp_path_factory.mktemp("without_gas")
    (folder / "raw").mkdir()
    dialects.small(frames, folder / "raw")
    hours = frames[dialects.HOURS].assign(**{dialects.GAS: float("nan")})
    hours.to_parquet(folder / "raw" / f"{dialects.HOURS}.parquet", index=False)
    return build(folder / "raw", Lake(folder / "lake"), AS_OF)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in dialects.DIALECTS],
)
def test_gold_is_the_plain_extracts_in_every_column(
    tmp_path: Path, plain: tuple[dialects.Frames, EtlReport], without_gas: EtlReport, name: str
) -> None:
    frames, expected = plain[0], without_gas if name in WITHOUT_GAS else plain[1]
    report = build(dialects.write(name, frames, tmp_path / "raw"), Lake(tmp_path / "lake"), AS_OF)
    ours, theirs = (r.snapshots["gold_master"].pandas() for r in (report, expected))
    ours["customer_id"] = theirs["customer_id"] if name in WITHOUT_GAS else ours["customer_id"]
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-9, atol=0, check_exact=False)
    counts, plainly = report.quality[dialects.HOURS], expected.quality[dialects.HOURS]
    for fuel in ("elec_kwh", "gas_m3"):
        kept = counts[f"energy.{fuel}.kept"]
        assert kept == pytest.approx(plainly[f"energy.{fuel}.kept"], rel=1e-9)
        whole = kept + counts[f"energy.{fuel}.replaced"]
        assert whole == pytest.approx(counts[f"energy.{fuel}.in"], rel=1e-12)
    assert counts["kept"] + counts["replaced.by_corrections"] == counts["rows_in"]

"""The report on an extract's fidelity: honest intervals, and a simulator that keeps within them."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.fidelity import Fidelity, Interval, critical, figures, markdown, report
from spanishgas.errors import DataError
from spanishgas.evaluation.inference import means, shares
from spanishgas.lake import RAW_FILES
from spanishgas.simulate import write_extract

AS_OF = date(2024, 12, 31)
pytestmark = pytest.mark.slow
REPEATS = 2_000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fidelity") / "raw"
    truth = folder.with_name("truth")
    write_extract(folder, customers=2_500, seed=3, as_of=AS_OF, labelled=True, truth=truth)
    return folder


@pytest.fixture(scope="module")
def found(raw: Path) -> Fidelity:
    return report(raw, AS_OF, raw.with_name("truth"))


def changed(raw: Path, out: Path, name: str, **columns: object) -> Path:
    """A copy of the extract with other values in one of its files."""
    shutil.copytree(raw, out, copy_function=lambda source, target: Path(target).symlink_to(source))
    file = out / RAW_FILES[name]
    rows = pd.read_csv(raw / RAW_FILES[name]).assign(**columns)
    file.unlink()
    rows.to_csv(file, index=False)
    return out


def test_the_interval_of_two_shares_is_newcombes() -> None:
    assert shares(56, 70, 48, 80, critical(1)) == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_both_samples_errors_count_in_the_interval_of_two_shares(rate: float) -> None:
    g = np.random.default_rng(1)
    drawn, published = g.binomial(400, rate, REPEATS), g.binomial(900, rate, REPEATS)
    held = [
        Interval(*shares(k, 400, m, 900, critical(1))).holds for k, m in zip(drawn, published, strict=True)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_both_samples_errors_count_in_the_interval_of_two_means() -> None:
    g = np.random.default_rng(2)
    drawn, published = g.gamma(2, 3, (REPEATS, 300)), g.gamma(2, 3, (REPEATS, 200))
    held = [
        Interval(*means(a.mean(), a.std(ddof=1), 300, b.mean(), b.std(ddof=1), 200, critical(1))).holds
        for a, b in zip(drawn, published, strict=True)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / REPEATS))


def test_forty_intervals_hold_together_as_often_as_promised() -> None:
    g = np.random.default_rng(3)
    drawn, published = g.binomial(2_000, 0.2, (2, 500, 40))
    z = critical(40)
    together = [
        all(Interval(*shares(k, 2_000, m, 2_000, z)).holds for k, m in zip(row, other, strict=True))
        for row, other in zip(drawn, published, strict=True)
    ]
    assert np.mean(together) == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 500))


def test_every_published_figure_is_named_once_and_says_where_it_stands() -> None:
    listed = figures()
    assert len({figure.name for figure in listed}) == len(listed) >= 40
    assert all(figure.source.startswith(("NB1", "NB2")) for figure in listed)
    assert {figure.kind for figure in listed} == {"rate", "mean", "quantile"}


def test_a_drawn_extract_keeps_within_the_published_figures(found: Fidelity) -> None:
    assert len(found.figures) == len(figures())
    assert len(found.outside) <= 1, found.outside


def test_the_truth_bounds_average_precision_with_the_text_and_without(found: Fidelity) -> None:
    assert found.best_with_text is not None
    assert found.best_before_text is not None
    assert 0.4 < found.best_before_text < found.best_with_text < 0.9


def test_a_wrong_simulator_is_named_by_the_figure_that_it_misses(raw: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(raw / RAW_FILES["churn_label"])
    doubled = labels["churn"] | (np.arange(len(labels)) % 10 == 0)
    wrong = changed(raw, tmp_path / "raw", "churn_label", churn=doubled.astype(int))
    outside = report(wrong, AS_OF).outside
    assert {"churn", "churn positive"} <= set(outside)
    assert not {"electricity P50", "price trend P75", "dual fuel"} & set(outside)
    dear = pd.read_csv(raw / RAW_FILES["price_history"])["variable_price_tier1_eur_kwh"] * 1.1
    wrong = changed(raw, tmp_path / "dear", "price_history", variable_price_tier1_eur_kwh=dear)
    assert "price over province cost" in report(wrong, AS_OF).outside


def test_the_report_reads_as_a_table_and_as_data(found: Fidelity) -> None:
    lines = markdown(found).splitlines()
    assert sum(line.startswith("| churn expired |") for line in lines) == 1
    assert f"{len(found.outside)} of {len(found.figures)} figures outside" in markdown(found)
    data = json.loads(json.dumps(found.data()))
    assert data["outside"] == list(found.outside)
    assert {entry["name"] for entry in data["figures"]} == {figure.name for figure in figures()}


def test_an_extract_too_small_to_compare_is_refused(tmp_path: Path) -> None:
    write_extract(tmp_path / "raw", customers=3, seed=1, as_of=AS_OF, labelled=True)
    with pytest.raises(DataError, match=r"has 3 customers.*draw 1,000 or more"):
        report(tmp_path / "raw", AS_OF)

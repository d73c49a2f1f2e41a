"""The table and the picture of all versions, on the registered model's page."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.lifecycle import overview, promotion, registry, runs
from spanishgas.settings import settings
from tests.versions import logged_version


@pytest.fixture
def version(tracking: Path) -> str:
    (tracking / "bytes").mkdir()
    (tracking / "bytes" / "MLmodel").write_text("flavors: {}\n")
    return logged_version(tracking / "bytes")


def described() -> str:
    return str(MlflowClient().get_registered_model(settings().registered_model).description)


def test_promote_and_rollback_keep_the_table_and_what_stands_above_it(version: str, tracking: Path) -> None:
    MlflowClient().update_registered_model(settings().registered_model, "Asked by the board.")
    second = logged_version(tracking / "bytes")
    promotion.promote(version, "first")
    promotion.promote(second, "second")
    assert described().startswith("Asked by the board.\n\n## Versions\n\n")
    assert f"| {second} | champion | E5 |  | passed | 0.750 |" in described()
    promotion.rollback("complaints")
    assert f"| {second} | rolled back | E5 |" in described()
    assert f"| {version} | champion | E5 |" in described()
    assert described().count("## Versions") == 1


def test_what_has_not_changed_is_neither_drawn_nor_written_again(version: str) -> None:
    overview.refresh()
    before = described()
    overview.refresh()
    assert len(runs.find({"stage": overview.DRAWN})) == 1
    assert described() == before


def test_a_move_made_elsewhere_stands_in_the_table_once_it_is_seen(version: str) -> None:
    promotion.promote(version, "first")
    MlflowClient().delete_registered_model_alias(settings().registered_model, "champion")
    promotion.seen()
    assert "champion" not in described().partition(overview.HEAD)[2]


def test_as_many_versions_stand_in_the_description_as_the_database_keeps(version: str) -> None:
    overview.refresh()
    (run,) = runs.find({"stage": overview.DRAWN})
    (row,) = overview.side_by_side().to_dict("records")
    rows = pd.DataFrame([row | {"version": str(number)} for number in range(1, 301)])
    overview._describe(rows, run.info.run_id)
    shown = [line for line in described().splitlines() if line.startswith("| ")][2:]
    assert len(described()) <= overview.LONGEST < len(described()) + len(shown[0]) + 1
    assert [line.split()[1] for line in shown] == [str(n) for n in range(300, 300 - len(shown), -1)]
    assert f"{len(shown)} of 300." in described()


def test_a_server_that_refuses_the_table_undoes_no_promotion(
    version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise MlflowException("not yours")

    monkeypatch.setattr(MlflowClient, "update_registered_model", refused)
    with caplog.at_level(logging.WARNING, logger="spanishgas"):
        promotion.promote(version, "first")
    assert registry.aliases()["champion"] == version
    assert "is not up to date (not yours)" in caplog.text

"""`spanishgas uplift` on logs that say nothing of effects: one message, exit code 1, and no number."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spanishgas import cli
from spanishgas.config.policy import ACTIONS
from spanishgas.evaluation.effects import PROPENSITIES
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake, Snapshot
from tests.tracked import own_store
from tests.unit.test_campaigns import DAY, campaign

Change = Callable[[pd.DataFrame], pd.DataFrame]


def done(log: pd.DataFrame) -> pd.Series:
    return log["offer"].where(log["arm"].eq("offer"), NO_OFFER)


def sure(log: pd.DataFrame) -> pd.DataFrame:
    """The log of a campaign that went by the score alone."""
    chances = {f"propensity_{name}": done(log).eq(name) * 1.0 for name in ACTIONS}
    return log.assign(propensity=1.0, control_share=0.0, **chances)


def again(lake: Lake, table: str, change: Change) -> None:
    """The table of the campaign with `change`, as its newest snapshot."""
    before: Snapshot = lake.current(table)
    changed = change(before.pandas())
    lake.publish(
        table, DAY, lambda folder: changed.to_parquet(folder / "part-0.parquet", index=False),
        built_from=before.manifest.built_from, fingerprint="changed", code={},
    )  # fmt: skip


FAULTS: dict[str, tuple[str, Change, str]] = {
    "an old log": (
        "treatments",
        lambda log: log.drop(columns=["propensity", *PROPENSITIES]),
        "does not say with which probability",
    ),
    "propensities of nobody": (
        "treatments",
        lambda log: log.assign(**dict.fromkeys(["propensity", *PROPENSITIES], np.nan)),
        "does not say with which probability",
    ),
    "one propensity that was not logged": (
        "treatments",
        lambda log: log.assign(propensity=log["propensity"].where(log.index != 3)),
        "does not say with which probability",
    ),
    "propensities of another draw": (
        "treatments", lambda log: log.assign(propensity=0.5), "contradict what was done",
    ),
    "a propensity above 1": (
        "treatments",
        lambda log: log.assign(propensity=1.5, **{f"propensity_{n}": done(log).eq(n) * 1.5 for n in ACTIONS}),
        "contradict what was done",
    ),
    "no controls": (
        "treatments", lambda log: log[log["arm"].eq("offer")], "customers got no offer, so there is nobody",
    ),
    "no offers": (
        "treatments", lambda log: log[log["arm"].eq("control")], "customers got an offer, so there is nobody",
    ),
    "no labelled customers": ("outcomes", lambda labels: labels[:0], "no campaign has labels yet"),
    "labels from before": (
        "outcomes", lambda labels: labels.assign(label_date=date(2023, 3, 1)), "labels are dated before it",
    ),
    "a customer in two arms": (
        "treatments",
        lambda log: pd.concat([log, log[:1].assign(arm="control" if log["arm"].iloc[0] == "offer" else "offer")]),
        "1 customers are in two arms at once",
    ),
    "a customer twice in one arm": (
        "treatments", lambda log: pd.concat([log, log[:2]]), "2 customers are in two arms at once",
    ),
    "the score alone": ("treatments", sure, "the score alone decided"),
    "the score alone, without controls": (
        "treatments", lambda log: sure(log[log["arm"].eq("offer")]), "the score alone decided",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_log_that_says_nothing_of_effects_is_one_message_and_no_number(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, change, words = FAULTS[name]
    lake = Lake(tmp_path / "lake")
    campaign(lake, DAY, 0)
    again(lake, table, change)
    monkeypatch.setattr(sys, "argv", ["spanishgas", "uplift", "--lake", str(lake.root), "--trials", "3"])
    with own_store(tmp_path), pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(rf"^error: .*{words}", printed.err, re.M), printed.err
    assert "Traceback" not in printed.err
    assert not re.search(r"EUR|gain|points|qini", printed.err)

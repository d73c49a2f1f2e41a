"""A table from elsewhere: what its columns are taken for, what is proposed, and what is refused with one message."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from spanishgas.adopt.adoption import Adopted, adopt
from spanishgas.adopt.columns import Recognised, feature_names, recognise
from spanishgas.adopt.proposal import Roles
from spanishgas.adopt.telling import told
from spanishgas.cli import app
from spanishgas.config.adopted import read_map
from spanishgas.config.experiment import load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import load_search
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import ContractError, DataError, SpanishGasError, UsageError
from spanishgas.lake import Lake
from spanishgas.settings import settings

DAY = date(2024, 12, 31)


def shop(rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Customers of a shop, with a column of each kind."""
    rng = np.random.default_rng(seed)
    visits = rng.poisson(6, rows).astype(float)
    plan = rng.choice(["basic", "full", "Family plan"], rows)
    member = rng.integers(0, 2, rows)
    odds = 0.3 - 0.35 * visits + 1.3 * (plan == "basic") + 1.3 * member
    table = pd.DataFrame(
        {
            "Customer No": [f"{n:05d}" for n in range(rows)],
            "Visits": visits,
            "plan": plan,
            "IsMember": member,
            "Delta": rng.normal(0, 3, rows),
            "Postcode": rng.integers(28_000, 28_060, rows).astype(str) + "-M",
            "Since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), unit="D"),
            "Order id": rng.permutation(rows) + 10_000,
            "Note": [f"called on day {n} and asked about {n * 7 % 31} things" for n in range(rows)],
            "Country": "ES",
            "Margin": rng.gamma(2.0, 5.0, rows),
            "Left": np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no"),
        }
    )
    table.loc[:20, "Visits"] = np.nan
    return table


def declare(folder: Path) -> None:
    """Put the proposed waiver, if any, in the place of none."""
    policy = (folder / "policy.yaml").read_text()
    head, asked = policy.split("waivers: []\n")
    declared = "".join(f"{line[2:]}\n" for line in asked.splitlines()[2:])
    (folder / "policy.yaml").write_text(head + (declared or "waivers: []\n"))


ROLES = Roles("Customer No", "Left")


@pytest.fixture
def place(tracking: Path) -> Path:
    return tracking


def take_in(
    place: Path, table: pd.DataFrame, roles: Roles = ROLES, name: str = "shop.csv", **how: Any
) -> Adopted:
    file = place / name
    table.to_csv(file, index=False, **how)
    return adopt(file, roles, DAY, place / "experiments-shop", lake=Lake(str(place / "lake")))


def test_columns_are_taken_for_what_they_are_and_nothing_is_a_feature_in_silence(place: Path) -> None:
    adopted = take_in(place, shop())
    assert {f: c.read for f, c in adopted.columns.columns.items()} == {
        "visits": "number",
        "plan": "text",
        "is_member": "number",
        "delta": "number",
        "postcode": "text",
        "margin": "number",
    }
    left_out = adopted.columns.left_out
    assert "holds dates" in left_out["Since"]
    assert "looks like an id" in left_out["Order id"]
    assert left_out["Note"] == "holds free text"
    assert left_out["Country"] == "has one value alone"
    words = told(adopted, Lake(str(place / "lake")))
    for column in left_out:
        assert f"left out: '{column}'" in words
    assert "'yes' left" in words
    assert f"SPANISHGAS_EXPERIMENTS={place / 'experiments-shop'}" in words


def test_the_proposed_folder_is_one_that_every_verb_reads(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted = take_in(place, shop(), Roles("Customer No", "Left", value="Margin"))
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(adopted.folder))
    settings.cache_clear()
    try:
        tiers, policy = read_tiers(), load_policy()
        assert load_experiment("E0").features(tiers, linear=True) == list(adopted.columns.columns)
        assert load_search().of("xgboost").start
        assert (policy.gate.min_average_precision, policy.gate.beside_baseline) == (0.0, True)
        assert "DECIDE" in (adopted.folder / "policy.yaml").read_text()
        entry = tiers.entry("delta")
        assert entry.low < -10 < 10 < entry.high
        assert tiers.entry("visits").low == 0
        assert 0.05 < tiers.entry("visits").max_null < 0.2
        assert tiers.kind("is_member") == "flag"
    finally:
        settings.cache_clear()


def test_a_waiver_for_what_one_feature_says_is_ready_to_be_decided_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = shop().assign(
        Score=lambda t: (t["Left"] == "yes") * 1.0 + np.random.default_rng(0).normal(0, 0.4, 400)
    )
    folder = take_in(place, table).folder
    assert "DECIDE: each of these features" in (folder / "policy.yaml").read_text()
    declare(folder)
    monkeypatch.setenv("SPANISHGAS_EXPERIMENTS", str(folder))
    settings.cache_clear()
    (waiver,) = load_policy().waivers
    settings.cache_clear()
    assert "score" in waiver.features


def test_gold_holds_the_tables_values_under_its_contract(place: Path) -> None:
    table = shop()
    gold = take_in(place, table, Roles("Customer No", "Left", value="Margin")).gold.pandas()
    assert gold["customer_id"].tolist() == table["Customer No"].tolist()
    assert gold["churn"].tolist() == (table["Left"] == "yes").astype(int).tolist()
    assert gold["avg_monthly_margin"].tolist() == pytest.approx(table["Margin"].tolist())
    assert gold["visits"].isna().sum() == 21
    assert gold["postcode"].nunique() == 31
    assert (gold["postcode"] == "(rare)").any()
    assert gold["is_urban"].isna().all()


def test_the_same_table_again_leaves_lake_and_folder_as_they_were(place: Path) -> None:
    first, again = take_in(place, shop()), take_in(place, shop())
    assert (first.strength is None, again.strength is None) == (False, True)
    assert first.gold.manifest == again.gold.manifest


def test_a_later_table_without_labels_is_read_as_the_first_was(place: Path) -> None:
    take_in(place, shop())
    later = shop(seed=5).drop(columns=["Left", "Note", "Country"]).assign(more=1)
    later.to_csv(place / "later.csv", index=False)
    where = Lake(str(place / "lake"))
    scored = adopt(place / "later.csv", ROLES, date(2025, 1, 31), place / "experiments-shop", lake=where)
    assert scored.gold.pandas()["churn"].isna().all()
    assert "nobody is labelled" in told(scored, where)
    later.assign(Visits=1e6).to_csv(place / "later.csv", index=False)
    with pytest.raises(ContractError, match=r"above .* in column 'visits'"):
        adopt(place / "later.csv", ROLES, date(2025, 1, 31), place / "experiments-shop", lake=where)


def test_a_date_is_taken_in_once_the_map_says_so(place: Path) -> None:
    folder = take_in(place, shop()).folder
    for name, old, new in (
        ("table.yaml", "columns:\n", "columns:\n  since: {column: Since, read: days}\n"),
        (
            "tiers.yaml",
            "  features:\n",
            "  features:\n    since: {kind: numeric, words: days, definition: days, low: 0}\n",
        ),
    ):
        file = folder / name
        file.write_text(file.read_text().replace(old, new, 1))
    gold = take_in(place, shop()).gold.pandas()
    days = (pd.Timestamp(DAY) - shop()["Since"]).dt.days
    assert gold["since"].tolist() == days.tolist()
    late = shop().assign(Since="2025-06-01")
    with pytest.raises(DataError, match="column 'Since' holds dates after 2024-12-31"):
        take_in(place, late)


def test_groups_become_tiers_and_rungs(place: Path) -> None:
    groups = {"USE": ["Visits", "Delta"], "PLAN": ["plan", "IsMember"]}
    folder = take_in(place, shop(), Roles("Customer No", "Left", groups=groups)).folder
    assert list(read_tiers(folder / "tiers.yaml").tiers) == ["USE", "PLAN", "OTHERS"]
    assert sorted(p.stem for p in folder.glob("E*.yaml")) == ["E0", "E1", "E2"]
    assert "tiers:\n- USE\n- PLAN\nbelow: E1" in (folder / "E2.yaml").read_text()


def test_parquet_excel_and_semicolons_are_read_alike(place: Path) -> None:
    table = shop().drop(columns="Since")
    table.to_parquet(place / "shop.parquet")
    table.to_excel(place / "shop.xlsx", index=False)
    table.to_csv(place / "semi.csv", index=False, sep=";")
    rows = []
    for number, name in enumerate(("shop.parquet", "shop.xlsx", "semi.csv")):
        lake = Lake(str(place / f"lake{number}"))
        rows.append(adopt(place / name, ROLES, DAY, place / f"e{number}", lake=lake).gold.pandas())
    pd.testing.assert_frame_equal(rows[0], rows[2], check_exact=True)
    pd.testing.assert_frame_equal(rows[0], rows[1])  # a sheet keeps 15 digits


def of(**changes: Any) -> Callable[[], pd.DataFrame]:
    return lambda: shop().assign(**changes)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (of(Left="no"), r"target column 'Left' has 1 values instead of two, 'no' \(400 rows\)"),
        (
            of(Left=lambda t: np.resize(["a", "b", "c"], len(t))),
            "target column 'Left' has 3 values instead of two",
        ),
        (lambda: shop(10), "at least 50 of either label"),
        (lambda: pd.concat([shop(), shop(3)]), "column 'Customer No' repeats in 3 rows, for example '00000'"),
        (of(**{"Customer No": np.nan}), "column 'Customer No' has no id in 400 rows, first in row 1"),
        (of(gone=lambda t: t["Left"].map({"yes": "closed", "no": "open"})), "one column alone, 'gone'"),
        (of(late=lambda t: (t["Left"] == "yes") * 3.5), "--without 'late'"),
        (
            of(Visits=lambda t: np.where(t.index % 9, "4", "many")),
            "'Visits' holds numbers and texts, .*'many' in row 1",
        ),
        (
            of(Delta=np.arange(400.0) * 1e300),
            "'Delta' holds 3.99e[+]302, which is not finite in single precision",
        ),
        (
            lambda: pd.concat([shop(9), pd.DataFrame({f"c{i}": np.zeros(9) for i in range(3_000)})], axis=1),
            "3,012 columns, more than 500",
        ),
        (
            lambda: shop()[["Customer No", "Left", "Note", "Since"]],
            "no column can be a feature .*'Note' holds free text",
        ),
    ],
)
def test_what_cannot_be_taken_in_is_one_message_and_nothing_is_left_half_made(
    place: Path, table: Callable[[], pd.DataFrame], said: str
) -> None:
    with pytest.raises(DataError, match=said) as fault:
        take_in(place, table())
    assert "\n" not in str(fault.value)
    assert not (place / "experiments-shop").exists()
    assert not list(place.rglob("*.parquet"))
    assert not list(place.glob("*.part"))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (Roles("Customer", "Left"), "unknown column for --id 'Customer'.*Did you mean 'Customer No'"),
        (Roles("Customer No", "left"), "unknown column of the table 'left'.*Did you mean 'Left'"),
        (Roles("Customer No"), "for the first time needs --target"),
        (Roles("Customer No", "Left", positive="maybe"), "--positive 'maybe'"),
        (Roles("Customer No", "Left", groups={"A": ["plan"], "B": ["plan"]}), "'plan' stands in two groups"),
        (Roles("Customer No", "Left", value="Profit"), "unknown column of the table 'Profit'"),
        (Roles("Customer No", "Left", without=["Vists"]), "Did you mean 'Visits'"),
    ],
)
def test_a_role_that_no_column_plays_suggests_the_nearest(place: Path, roles: Roles, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        take_in(place, shop(), roles)
    assert not (place / "experiments-shop").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "is no file"),
        ("table.json", b"{}", "ends in '.json'"),
        ("empty.csv", b"", "cannot be read as a table"),
        ("torn.parquet", b"PAR1 and no more", "cannot be read as a table"),
        ("latin.csv", "id,año\n1,ñ\n".encode("latin-1"), "save it again, as CSV in UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_named(place: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (place / name).write_bytes(content)
    with pytest.raises(SpanishGasError, match=said):
        adopt(place / name, Roles("id", "left"), DAY, place / "e", lake=Lake(str(place / "lake")))


def test_values_of_any_type_are_recognised_or_named() -> None:
    rows = range(60)
    flags = recognise("vip", pd.Series([True, False] * 30))
    holes = recognise("vip", pd.Series([True, None] * 15 + [False] * 30, dtype=object))
    texts = recognise("age", pd.Series([str(30 + n % 9) for n in rows]))
    names = recognise("name", pd.Series([f"Ana {n}" for n in rows]))
    days = recognise("since", pd.Series([f"2024-01-{1 + n % 28:02d}" for n in rows]))
    assert isinstance(flags, Recognised)
    assert flags.entry.kind == "flag"
    assert isinstance(holes, Recognised)
    assert holes.entry.kind == "numeric"
    assert isinstance(texts, Recognised)
    assert texts.entry.kind == "numeric"
    assert names == "looks like an id: nearly every row has another value"
    assert isinstance(days, str)
    assert days.startswith("holds dates")


def test_feature_names_are_new_plain_and_all_different() -> None:
    assert feature_names(["Total Día €", "total dia", "2G usage", "churn", "isUrban"]) == {
        "Total Día €": "total_d_a",
        "total dia": "total_dia",
        "2G usage": "c_2_g_usage",
        "churn": "churn_2",
        "isUrban": "is_urban_2",
    }


def test_the_command_line_takes_a_table_in_and_says_what_to_do_next(place: Path) -> None:
    shop().to_csv(place / "shop.csv", index=False)
    words = [
        "adopt",
        "shop.csv",
        "--id",
        "Customer No",
        "--target",
        "Left",
        "--as-of",
        "2024-12-31",
        "--lake",
        "lake",
    ]
    result = CliRunner().invoke(app, [*words, "--without", "Postcode,Delta", "--value", "Margin"])
    assert result.exit_code == 0, result.output
    assert "gold_master: 400 customers, 3 features" in result.output
    assert "SPANISHGAS_EXPERIMENTS=experiments-shop" in result.output
    assert read_map(place / "experiments-shop").without == ["Postcode", "Delta"]

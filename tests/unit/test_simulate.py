"""The synthetic utility keeps its schema, its promises, and the published tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spanishgas.errors import UsageError
from spanishgas.etl.intent import intent
from spanishgas.etl.sentiment import Lexicon, label
from spanishgas.lake import RAW_FILES, file_digest
from spanishgas.simulate import write_extract
from spanishgas.simulate.contacts import (
    COMPLAINT,
    NONE,
    TOPIC_SHARE,
    ContactText,
    facts,
    narrative,
    parts,
    phrases,
    posterior,
    topic_name,
)
from spanishgas.simulate.extract import draw_blocks
from spanishgas.simulate.files import Block
from spanishgas.simulate.hours import SHAPES, WEEKEND
from spanishgas.simulate.market import province_costs
from spanishgas.simulate.population import CHANNELS, newcomers
from spanishgas.simulate.shifts import Shift
from spanishgas.simulate.streams import window

BASE, LATER = date(2024, 12, 31), date(2025, 3, 31)
N = 20_000
"""Customers behind the statistical claims; a tolerance of k standard errors is that of a share or mean of N draws."""


def extract(out: Path, as_of: date = BASE, customers: int = 130, seed: int = 5, **options: object) -> Path:
    arguments = {"labelled": True, "truth": out.with_name(f"{out.name}-truth")} | options
    write_extract(out, customers=customers, seed=seed, as_of=as_of, **arguments)  # type: ignore[arg-type]
    return out


def table(raw: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(raw / RAW_FILES[name], dtype={"customer_id": "str"})


def hours(raw: Path) -> pd.DataFrame:
    return pq.read_table(raw / RAW_FILES["consumption_hourly_2024"]).to_pandas()


def truth_of(raw: Path) -> pd.DataFrame:
    return pd.read_parquet(raw.with_name(f"{raw.name}-truth") / "churn_probability.parquet")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("base") / "raw")


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("later") / "raw", LATER, labelled=False)


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return list(draw_blocks(N, seed=31, as_of=BASE))


def topic_table(codes: np.ndarray) -> pd.DataFrame:
    names = [topic_name(int(c)) if c != NONE else (None, None) for c in codes]
    return pd.DataFrame(names, columns=["intent", "sentiment"])


def every_text() -> Iterator[tuple[str, str, str, str]]:
    """Every combination of phrases: (style, intent, sentiment, text), for records at both ends of every fact."""
    terse = phrases()["terse"]
    records = [ContactText(41, 3.0, True, True, "telefono"), ContactText(168, 26.0, False, False, "oficina")]
    records += [
        ContactText(300, 90.0, True, True, "chat"),
        ContactText(16, 14.0, False, True, "correo_electronico"),
    ]
    for topic, mood in product([*terse["openings"], COMPLAINT], terse["share"]):
        for opening, closing in product(*parts("terse", topic, mood)):
            yield "terse", topic, mood, f"{opening}; {closing}."
        for record, opening, closing in product(records, *parts("narrative", topic, mood)):
            for fact in facts(topic, record):
                text = narrative(opening, fact, closing, record, vague=record.tenure_months > 20)
                yield "narrative", topic, mood, text


def monthly_bills(block: Block) -> np.ndarray:
    """What the block's customers pay for energy, EUR a month, at even prices."""
    return block.energy.elec[:, window(BASE)] * 0.13 + block.energy.gas[:, window(BASE)] * 0.84


@pytest.fixture(scope="module")
def drawn(blocks: list[Block]) -> pd.DataFrame:
    """N customers with their probabilities and outcomes."""
    frames = [
        block.people.drop(columns=["segment", "channel"]).assign(
            **block.seen,
            churn=block.churn,
            before=block.before,
            after=block.after,
            topic=block.topic,
            bill_sd=monthly_bills(block).std(axis=1, ddof=1),
        )
        for block in blocks
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.join(topic_table(frame["topic"].to_numpy()))


def assert_share(
    observed: pd.Series | np.ndarray, published: float, errors: float = 4.0, slack: float = 0.0
) -> None:
    """The mean of N draws lies within `errors` standard errors of the published share, and `slack` besides."""
    values = np.asarray(observed, dtype=float)
    tolerance = errors * np.sqrt(published * (1 - published) / len(values)) + slack
    assert values.mean() == pytest.approx(published, abs=tolerance)


def test_an_extract_has_the_columns_of_the_source(base: Path) -> None:
    expected = {
        "churn_label": "customer_id churn",
        "customer_attributes": "customer_id contracted_power_kw is_industrial is_second_residence province_code region "
        "is_high_competition_province is_urban sales_channel",
        "customer_contracts": "customer_id customer_first_activation_date contract_start_date "
        "last_product_change_date next_renewal_date",
        "price_history": "customer_id pricing_date variable_price_tier1_eur_kwh variable_price_tier2_eur_kwh "
        "variable_price_tier3_eur_kwh elec_fixed_fee_eur_month elec_fixed_cost_eur_month gas_variable_price_eur_m3 "
        "gas_fixed_revenue_eur_year gas_fixed_cost_eur_year",
        "costs_by_province_month": "province month elec_var_cost_eur_kwh gas_var_cost_eur_m3 peaje_elec_eur_kwh",
    }
    assert {name: " ".join(table(base, name).columns) for name in expected} == expected
    assert pq.read_schema(base / RAW_FILES["consumption_hourly_2024"]) == pa.schema(
        [
            ("customer_id", pa.string()),
            ("timestamp", pa.timestamp("us")),
            ("consumption_elec_kwh", pa.float64()),
            ("consumption_gas_m3", pa.float64()),
        ]
    )
    records = json.loads((base / RAW_FILES["customer_interactions"]).read_text())
    assert {tuple(record) for record in records} == {
        ("customer_id", "date", "channel", "interaction_summary")
    }


def test_every_customer_has_every_hour_of_the_window_once(base: Path, later: Path) -> None:
    for raw, start, size in ((base, "2024-01-01", 8_784), (later, "2024-04-01", 8_760)):
        read = hours(raw)
        clock = pd.date_range(start, periods=size, freq="h")
        assert set(read["customer_id"]) == set(table(raw, "customer_attributes")["customer_id"])
        for _, own in read.groupby("customer_id"):
            assert (own["timestamp"].to_numpy() == clock.to_numpy()).all()


def test_ids_join_across_files_and_only_orphan_prices_have_none(base: Path) -> None:
    ids = set(table(base, "customer_attributes")["customer_id"])
    assert ids == {f"C{i:05d}" for i in range(1, 131)}
    assert (
        set(table(base, "churn_label")["customer_id"])
        == ids
        == set(table(base, "customer_contracts")["customer_id"])
    )
    assert table(base, "churn_label")["customer_id"].tolist() != sorted(ids)
    prices = table(base, "price_history")
    assert set(prices["customer_id"].dropna()) <= ids
    assert prices["customer_id"].isna().sum() == 12 * round(130 * 21 / 20_099)
    provinces = set(table(base, "costs_by_province_month")["province"])
    assert set(table(base, "customer_attributes")["province_code"]) <= provinces


def test_equal_arguments_give_equal_bytes(base: Path, tmp_path: Path) -> None:
    again = extract(tmp_path / "raw")
    assert file_digest(again) == file_digest(base)
    assert file_digest(tmp_path / "raw-truth") == file_digest(base.with_name("raw-truth"))
    other = extract(tmp_path / "other", seed=6, customers=5)
    assert not table(other, "customer_attributes").equals(table(base, "customer_attributes").head(5))


def test_a_larger_utility_begins_with_the_smaller_one(base: Path, tmp_path: Path) -> None:
    small = extract(tmp_path / "raw", customers=20)
    assert table(small, "customer_attributes").equals(table(base, "customer_attributes").head(20))
    pd.testing.assert_frame_equal(hours(small), hours(base).head(20 * 8_784))


def test_a_later_extract_repeats_readings_and_prices_of_shared_months(base: Path, later: Path) -> None:
    keys = ["customer_id", "timestamp"]
    both = hours(base).merge(hours(later), on=keys, how="inner", suffixes=("", "_later"))
    stayed = set(table(base, "customer_attributes")["customer_id"]) & set(
        table(later, "customer_attributes")["customer_id"]
    )
    assert len(both) == len(stayed) * 275 * 24
    assert (both["consumption_elec_kwh"] == both["consumption_elec_kwh_later"]).all()
    assert (both["consumption_gas_m3"] == both["consumption_gas_m3_later"]).all()
    keys = ["customer_id", "pricing_date"]
    shared = (
        table(base, "price_history")
        .dropna(subset="customer_id")
        .merge(table(later, "price_history"), on=keys)
    )
    assert len(shared) > 0.99 * len(stayed) * 9
    assert shared["variable_price_tier1_eur_kwh_x"].equals(shared["variable_price_tier1_eur_kwh_y"])


def test_a_later_extract_has_lost_churners_renewed_contracts_and_won_customers(
    base: Path, later: Path
) -> None:
    assert not (later / RAW_FILES["churn_label"]).exists()
    before, after = table(base, "customer_contracts"), table(later, "customer_contracts")
    labels = table(base, "churn_label").set_index("customer_id")["churn"]
    gone = set(before["customer_id"]) - set(after["customer_id"])
    assert gone == {
        row.customer_id
        for row in before.itertuples()
        if labels[row.customer_id] == 1 and row.next_renewal_date <= "2025-03-31"
    }
    assert set(after["customer_id"]) - set(before["customer_id"]) == {
        f"C{131 + i:05d}" for i in range(newcomers(130, LATER))
    }
    both = before.merge(after, on="customer_id", suffixes=("", "_later"))
    assert both["customer_first_activation_date"].equals(both["customer_first_activation_date_later"])
    passed = both["next_renewal_date"] < "2025-03-01"
    assert (both.loc[passed, "contract_start_date_later"] == both.loc[passed, "next_renewal_date"]).all()
    assert (both["next_renewal_date"] == both["next_renewal_date_later"]).equals(~passed)
    assert after["customer_first_activation_date"].max() <= "2025-03-31"
    same = table(base, "customer_attributes").merge(table(later, "customer_attributes"))
    assert len(same) == len(both)


def test_contacts_fall_in_the_quarter_that_ends_a_month_before(base: Path, later: Path) -> None:
    for raw, first, last in ((base, "2024-09-01", "2024-11-30"), (later, "2024-12-01", "2025-02-28")):
        dates = [
            record["date"] for record in json.loads((raw / RAW_FILES["customer_interactions"]).read_text())
        ]
        assert len(dates) > 20
        assert first <= min(dates) <= max(dates) <= last


def test_the_hours_of_a_month_sum_to_its_total_and_readings_dip_at_the_published_rate(base: Path) -> None:
    read = hours(base)
    assert_share(read["consumption_elec_kwh"] < 0, 457_644 / 176_549_616)
    month = read["timestamp"].dt.month
    totals = (
        read[["consumption_elec_kwh", "consumption_gas_m3"]]
        .clip(lower=0)
        .groupby([read["customer_id"], month])
        .sum()
    )
    first, second = draw_blocks(130, seed=5, as_of=BASE)
    for column, name in (("consumption_elec_kwh", "elec"), ("consumption_gas_m3", "gas")):
        drawn = np.vstack([getattr(first.energy, name), getattr(second.energy, name)])[:130, window(BASE)]
        assert totals[column].to_numpy().reshape(130, 12) == pytest.approx(drawn, abs=2e-3)


def test_segments_channels_and_fuels_come_at_the_published_shares(drawn: pd.DataFrame) -> None:
    for segment, count in enumerate((18_090, 1_832, 177)):
        assert_share(drawn["segment"] == segment, count / 20_099)
    counts = {"presencial_comercial": 9_158, "desconocido": 5_267, "comparador": 2_597, "oficina": 1_836}
    for channel, count in counts.items():
        assert_share(drawn["channel"] == CHANNELS.index(channel), count / 20_099)
    assert_share(drawn["high_competition"], 6_083 / 20_099)
    assert_share(drawn["dual"], 3_602 / 20_099)
    assert_share(drawn["second"], 402 / 20_099)
    assert_share(drawn["changed"].isna(), 6_095 / 20_099)
    power = drawn.loc[drawn["segment"] == 0, "power"]
    assert power.mean() == pytest.approx(5.1182, abs=0.06)
    assert power.quantile([0.25, 0.5, 0.75]).tolist() == [3.45, 4.60, 6.90]


def test_renewal_and_tenure_follow_the_published_distributions(drawn: pd.DataFrame) -> None:
    for day, below in ((0, 581), (75.6, 4_020), (90, 4_825), (130, 8_105), (163, 12_147), (203, 16_161)):
        assert_share(drawn["renewal_days"] <= day, below / 20_099, slack=0.004)
    assert drawn["renewal_days"].between(-29, 298).all()
    for months, below in ((6, 1_604), (12, 3_200), (24, 6_163), (60, 12_942)):
        assert_share(drawn["tenure"] <= months, below / 20_099, slack=0.002)


def test_energy_and_prices_have_the_published_quantiles(drawn: pd.DataFrame) -> None:
    published = {0.25: 34.18, 0.5: 89.80, 0.75: 293.90, 0.99: 23_042.0}
    for q, kwh in published.items():
        assert drawn["elec"].quantile(q) == pytest.approx(kwh, rel=0.15)
    assert drawn["elec"].mean() == pytest.approx(1_141.6, abs=4 * 3_954 / np.sqrt(N))
    assert drawn.loc[drawn["gas"] > 0, "gas"].mean() * 12 == pytest.approx(3_499, rel=0.12)
    assert_share(drawn["trend"] > 0, 0.6378, slack=0.005)
    for q, trend in {0.25: -0.0206, 0.5: 0.0257, 0.75: 0.0733}.items():
        assert drawn["trend"].quantile(q) == pytest.approx(trend, abs=0.004)


def test_province_costs_have_the_published_spread() -> None:
    costs = province_costs(window(BASE))
    means = costs.groupby("province")[["elec_var_cost_eur_kwh", "gas_var_cost_eur_m3"]].mean()
    assert (means.min().tolist(), means.max().tolist()) == (
        pytest.approx([0.0763, 0.7044], abs=2e-3),
        pytest.approx([0.0811, 0.8618], abs=2e-3),
    )
    yearly = costs.pivot(index="province", columns="month", values="elec_var_cost_eur_kwh")
    trend = yearly["2024-12"] / yearly["2024-01"] - 1
    assert trend.between(0.045, 0.07).all()


def test_the_price_file_has_the_published_flaws(blocks: list[Block]) -> None:
    span = window(BASE)
    rows = np.vstack([block.prices.row[:, span] for block in blocks])
    first = np.vstack([block.prices.tier1[:, span] for block in blocks])
    assert (~rows).mean() == pytest.approx(203 / 241_188, abs=6e-4)
    assert_share((first == 0).ravel(), 35 / 20_099)
    with_gas = np.concatenate([block.people["gas"] for block in blocks])
    gas = np.vstack([block.prices.columns["gas_variable_price_eur_m3"][:, span] for block in blocks])
    assert (np.isnan(gas).all(axis=1) == ~with_gas).all()
    assert np.nanmax(np.ptp(gas[with_gas], axis=1)) == 0


RATES = {
    "renewal": ([-99, 0, 90, 180, 999], [0.1084, 0.2467, 0.0814, 0.0234]),
    "tenure": ([-1, 6, 12, 24, 60, 999], [0.1328, 0.1303, 0.1259, 0.1136, 0.0612]),
}


@pytest.mark.parametrize("by", RATES)
def test_churn_falls_with_renewal_and_tenure_as_published(drawn: pd.DataFrame, by: str) -> None:
    edges, published = RATES[by]
    column = "renewal_days" if by == "renewal" else "tenure"
    expected = drawn.groupby(pd.cut(drawn[column], edges), observed=True)["before"].mean()
    assert expected.tolist() == pytest.approx(published, rel=0.10)


@pytest.mark.parametrize(
    ("column", "published"),
    [
        ("high_competition", {False: 0.0813, True: 0.1417}),
        ("dual", {False: 0.1036, True: 0.0813}),
        ("segment", {0: 0.1007, 1: 0.0884}),
        ("channel", {0: 0.1248, 1: 0.0769, 2: 0.0605, 3: 0.1046, 4: 0.0854}),
    ],
)
def test_churn_differs_by_market_and_channel_as_published(
    drawn: pd.DataFrame, column: str, published: dict[object, float]
) -> None:
    expected = drawn.groupby(column)["before"].mean()
    for value, rate in published.items():
        assert expected[value] == pytest.approx(rate, rel=0.12), value


def test_churners_use_less_on_the_whole_but_their_middle_half_pays_what_is_published(
    drawn: pd.DataFrame,
) -> None:
    p, kwh = drawn["before"], drawn["elec"]
    assert np.average(kwh, weights=p) / np.average(kwh, weights=1 - p) == pytest.approx(
        546 / 1_207.5, abs=0.08
    )
    for share, deviation in ((0.25, 1.115), (0.5, 3.3723), (0.75, 12.49)):
        error = np.sqrt(share * (1 - share) / 2_002)
        assert np.average(drawn["bill_sd"] < deviation, weights=p) == pytest.approx(share, abs=3 * error)


def test_nobody_churns_beyond_the_longest_published_tenure(drawn: pd.DataFrame) -> None:
    assert drawn.loc[drawn["tenure"] > 127.7, "before"].max() < 0.02


def test_contacts_come_at_the_published_rates(drawn: pd.DataFrame) -> None:
    contact = drawn["topic"] != NONE
    assert_share(drawn["churn"], 2_002 / 20_099)
    assert_share(contact, 6_420 / 20_099)
    assert drawn.loc[contact, "churn"].mean() == pytest.approx(0.1712, abs=0.02)
    assert drawn.loc[~contact, "churn"].mean() == pytest.approx(0.0660, abs=0.009)
    rates = drawn.groupby("sentiment")["churn"].mean()
    assert rates["negative"] > 0.97
    assert rates["neutral"] == pytest.approx(0.1544, abs=0.03)
    assert rates["positive"] < 0.004
    shares = drawn.loc[contact, "intent"].value_counts(normalize=True)
    assert shares["Contract Renewal"] == pytest.approx(0.80, abs=0.02)
    assert shares["Complaint / Escalation"] == pytest.approx(0.093, abs=0.015)


def test_topic_shares_are_two_distributions() -> None:
    assert TOPIC_SHARE.sum(axis=1) == pytest.approx([1, 1])


def test_the_posterior_is_the_share_of_churners_at_every_level(drawn: pd.DataFrame) -> None:
    for probability in ("before", "after"):
        p, outcome = drawn[probability], drawn["churn"].astype(float)
        assert (outcome - p).sum() == pytest.approx(0, abs=4 * np.sqrt((p * (1 - p)).sum()))
        for _, level in drawn.groupby(pd.cut(p, [-1, 0.02, 0.1, 0.3, 0.7, 0.98, 2]), observed=True):
            q = level[probability]
            error = np.sqrt((q * (1 - q)).sum()) + 0.5
            assert abs((level["churn"] - q).sum()) < 4 * error


def test_the_posterior_averages_to_the_prior_over_everything_that_may_be_said() -> None:
    topic = np.append(NONE, np.flatnonzero(TOPIC_SHARE.sum(axis=0)))
    after = posterior(np.full(len(topic), 0.2), topic, np.full(len(topic), True))
    rate = np.array([951 / 3_309, 188 / 293])
    said = np.vstack([1 - rate, (rate[:, None] * TOPIC_SHARE).T])[topic + 1]
    assert after @ (0.8 * said[:, 0] + 0.2 * said[:, 1]) == pytest.approx(0.2)


def test_the_truth_names_every_customer_and_agrees_with_the_labels(base: Path, later: Path) -> None:
    known, labels = truth_of(base), table(base, "churn_label")
    assert list(known.columns) == [
        "customer_id",
        "churn",
        "churn_probability",
        "churn_probability_before_text",
    ]
    assert known.merge(labels, on="customer_id").eval("churn_x == churn_y").all()
    assert known[["churn_probability", "churn_probability_before_text"]].stack().between(0, 1).all()
    assert set(truth_of(later)["customer_id"]) == set(table(later, "customer_attributes")["customer_id"])


def test_every_text_reads_back_as_the_intent_and_mood_it_stands_for() -> None:
    texts = pd.DataFrame(every_text(), columns=["style", "intent", "sentiment", "text"])
    assert set(texts["intent"]) == {*phrases()["terse"]["openings"], "Complaint / Escalation"}
    assert texts["text"].map(intent).equals(texts["intent"])
    lexicon = Lexicon()
    assert [label(row) for row in lexicon(texts["text"].tolist())] == texts["sentiment"].tolist()
    lengths = texts.assign(length=texts["text"].str.len()).groupby("style")["length"].mean()
    assert 44 < lengths["terse"] < 55
    assert 200 < lengths["narrative"] < 320


def test_the_text_of_a_contact_reads_back_as_what_was_drawn(base: Path) -> None:
    records = json.loads((base / RAW_FILES["customer_interactions"]).read_text())
    topics = np.concatenate([b.topic[b.keep] for b in draw_blocks(130, seed=5, as_of=BASE)])
    drawn = topic_table(topics[topics != NONE])
    texts = [record["interaction_summary"] for record in records]
    assert [intent(text) for text in texts] == drawn["intent"].tolist()
    assert [label(row) for row in Lexicon()(texts)] == drawn["sentiment"].tolist()


def later_block(shift: str = "none") -> Block:
    return next(draw_blocks(100, seed=5, as_of=LATER, shift=shift))


@pytest.mark.parametrize(("shift", "factor"), [("prices", 1.15), ("prices:0.5", 1.075), ("prices:2", 1.3)])
def test_the_shift_of_prices_raises_the_last_quarter_by_its_strength(shift: str, factor: float) -> None:
    plain, dear = later_block(), later_block(shift)
    ratio = dear.prices.tier1[:, :15] / np.where(plain.prices.tier1 > 0, plain.prices.tier1, np.nan)[:, :15]
    assert np.nanmedian(ratio, axis=0) == pytest.approx([1.0] * 12 + [factor] * 3, abs=1e-4)


def test_joined_shifts_do_what_each_does_alone() -> None:
    both, dear, other = (later_block(shift) for shift in ("prices+concept:0.25", "prices", "concept:0.25"))
    assert np.array_equal(both.prices.tier1, dear.prices.tier1, equal_nan=True)
    joined, alone = (Shift.of(words).coefficients() for words in ("prices+concept:0.25", "concept:0.25"))
    np.testing.assert_equal(joined, alone)
    assert not np.array_equal(both.before, dear.before)
    assert not np.array_equal(both.before, other.before)


def test_a_stronger_shift_moves_more_customers_and_the_same_ones_first() -> None:
    for name, column, code in (("channels", "channel", 2), ("province", "province", 52)):
        moved = [
            later_block(f"{name}:{strength}").people[column] == code for strength in ("0", "0.5", "1", "2")
        ]
        assert moved[0].equals(later_block().people[column] == code)
        assert moved[0].sum() < moved[1].sum() < moved[2].sum() < moved[3].sum()
        assert all((more | ~less).all() for less, more in pairwise(moved))


def test_a_new_province_has_its_costs_and_stands_in_no_other_extract(tmp_path: Path, later: Path) -> None:
    opened = extract(tmp_path / "raw", LATER, labelled=False, shift="province")
    codes = set(table(opened, "customer_attributes")["province_code"])
    assert 53 in codes <= set(table(opened, "costs_by_province_month")["province"])
    assert 53 not in set(table(later, "costs_by_province_month")["province"])
    assert 53 not in set(table(later, "customer_attributes")["province_code"])


def test_another_concept_changes_the_reasons_and_not_what_is_seen() -> None:
    plain, other, half = later_block(), later_block("concept"), later_block("concept:0.5")
    assert other.seen.equals(plain.seen)
    assert np.array_equal(later_block("concept:0").before, plain.before)
    gaps = [np.abs(shifted.before - plain.before).mean() for shifted in (half, other)]
    assert 0.005 < gaps[0] < gaps[1]


def test_a_later_window_has_its_own_season(base: Path, later: Path) -> None:
    for raw, first, last in ((base, "2024-01", "2024-12"), (later, "2024-04", "2025-03")):
        read = hours(raw)
        clock = read["timestamp"]
        assert (f"{clock.min():%Y-%m}", f"{clock.max():%Y-%m}") == (first, last)
        gas = read["consumption_gas_m3"].clip(lower=0).groupby(clock.dt.month).sum()
        assert gas[[6, 7, 8]].max() < 0.02 * gas[[12, 1, 2]].min()


def test_the_second_year_goes_on_like_the_first() -> None:
    """The months of the first stay as they were, contracts go on for a year each, and churners of its end leave."""
    first, end, second = (
        list(draw_blocks(1_000, seed=5, as_of=day)) for day in (LATER, date(2025, 12, 31), date(2026, 6, 30))
    )
    for a, b in zip(first[:10], second[:10], strict=True):
        assert np.array_equal(a.energy.elec, b.energy.elec)
        assert np.array_equal(a.prices.tier1, b.prices.tier1, equal_nan=True)
    left = np.concatenate([b.seen["renewal_days"][b.keep] for b in second])
    assert (left >= -30).all()
    assert (left <= 365).all()
    stay = {i for b in second for i in b.people["customer_id"][b.keep]}
    for cohort in (0, 1):
        of_end = [b for b in end if b.draws.cohort == cohort]
        known = {i for b in of_end for i in b.people["customer_id"][b.keep]}
        churners = {i for b in of_end for i in b.people["customer_id"][b.keep & b.churn]}
        assert set() < known - stay < churners


def test_electricity_follows_segment_season_and_hour(blocks: list[Block]) -> None:
    elec = np.vstack([block.energy.elec[:, window(BASE)] for block in blocks])
    third, fourth = elec[:, 6:9].mean(axis=1), elec[:, 9:].mean(axis=1)
    rise = fourth[third > 0] / third[third > 0] - 1
    assert 0.40 < np.median(rise) < 0.56
    assert SHAPES.argmax(axis=1).tolist() == [21, 10, 10]
    assert WEEKEND[0] > 1 > WEEKEND[1:].max()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_customers(tmp_path: Path) -> None:
    peaks = [peak_memory(tmp_path / str(customers), customers) for customers in (100, 500)]
    assert peaks[1] < peaks[0] + 60_000_000


def peak_memory(out: Path, customers: int) -> int:
    """Bytes at the peak of a process that draws so many customers."""
    words = (
        "import resource; from datetime import date; from pathlib import Path;"
        "from spanishgas.simulate import write_extract;"
        f"write_extract(Path({str(out)!r}), customers={customers}, seed=1, as_of=date(2024, 12, 31), labelled=True);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"customers": 0}, "customers must be at least 1, but got 0"),
        ({"seed": -1}, "seed must not be negative, but got -1"),
        ({"as_of": date(2024, 6, 30)}, "but got 2024-06-30"),
        ({"as_of": date(2027, 1, 1)}, "but got 2027-01-01"),
        ({"shift": "price"}, "unknown shift 'price'.*Did you mean 'prices'"),
        ({"shift": "price:1"}, "unknown shift 'price'.*Did you mean 'prices'"),
        ({"shift": "prices:3"}, "must be a number from 0 to 2, but got '3'"),
        ({"shift": "prices:much"}, "must be a number from 0 to 2, but got 'much'"),
        ({"shift": "prices+price"}, "unknown shift 'price'.*Did you mean 'prices'"),
        ({"shift": "prices:"}, "must be a number from 0 to 2, but got ''"),
    ],
)
def test_a_wrong_argument_is_refused_by_name_and_writes_nothing(
    tmp_path: Path, options: dict[str, object], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        extract(tmp_path / "raw", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        extract(tmp_path / "raw")
    with pytest.raises(UsageError, match="lies inside the raw folder"):
        extract(tmp_path / "new", truth=tmp_path / "new" / "truth")
    assert [path.name for path in tmp_path.rglob("*")] == ["raw"]


def test_an_interrupted_extract_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert (done, total) == (100, 130)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "raw", progress=stop)
    assert list(tmp_path.iterdir()) == []

"""A small raw folder in the source's exact schema that holds everything odd the dictionary speaks of.

- One seed, one folder: the same arguments give the same rows.
- Oddities go round by customer number, so that some 60 customers meet all of them.
- Orphans come on top of `customers`: ids that occur in neither attributes nor labels.
- No unparsable dates or numbers; every duplicated price or cost row would be undefined, so there is none.
"""

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd

T = TypeVar("T")
Row = dict[str, Any]

PROVINCES: Final = {3: "Valenciana", 8: "Cataluña", 28: "Madrid", 41: "Andalucía", 48: "Euskadi"}
CHANNELS: Final[Sequence[str | None]] = (
    "presencial_comercial",
    "comparador",
    "oficina",
    "telemarketing",
    "web_propia",
    "desconocido",
    "unknown",
    None,
    "  Comparador ",
    "WEB_PROPIA",
    "feria_local",
    "Oficina\t",
    "Unknown",
)
POWERS: Final[Sequence[float | None]] = (10.0, 9.9, 15.0, 10.05, 150.0, 5.75, None)
RENEWAL_DAYS: Final = (0, -1, 1, 30, 89, 90, 91, 179, 180, 181, 360, 361, 400, -29, 15, 60)
TENURE_DAYS: Final = (0, 179, 180, 181, 360, 361, 719, 720, 721, 1799, 1800, 1801, 5400, 30, -1, -40)
FUELS: Final = ("elec", "both", "elec", "gas", "both", "none", "elec", "elec_negative_gas", "both")
PRICE_STATES: Final = (
    *("full", "leading_zero", "trailing_zero", "all_zero", "gaps", "no_rows", "one_price"),
    *("full", "leading_absent", "trailing_null", "all_null"),
)
MONTHS_KEPT: Final[Sequence[Sequence[int]]] = (
    tuple(range(12)),
    tuple(range(12)),
    (0, 1, 2, 3, 4, 5),
    tuple(range(12)),
    (7,),
    tuple(range(12)),
    (2, 3, 5, 8, 11),
    tuple(range(12)),
    (0, 1, 4, 5, 6, 9, 10),
    (3, 11),
)
TEXTS: Final[Sequence[str | None]] = (
    "Cust inq re: renewal options. Info provided.",
    "Customer wants to cancel the contract and is unhappy.",
    "Early termination fees explained; cust frustrated.",
    "Cancelling next month, moving abroad.",
    "Customer asked about account closure.",
    "Adv. closing account - all good.",
    "Considering switching to another supplier, found a better deal.",
    "The customer never said he would leave.",
    "No complaint, happy with the service.",
    "Customer is not unhappy, thanks the team for the great help.",
    "Renewal terms discussed, customer disappointed.",
    "Renewal terms discussed. Customer not satisfied with the answer.",
    "Cust upset about overdue bill.",
    "Escalated to supervisor: awful, terrible experience.",
    "Question on past due payment, charged twice.",
    "Upcoming bill explained, customer satisfied.",
    "The customer appreciates that there were no significant price increases this year.",
    "Without any further price hike the customer will stay.",
    "Asked about pricing and discounts.",
    "Customer is looking around for competitive RATES.",
    "No price hike; alternatives were discussed.",
    "Not at this point in time interested in a better rate.",
    "Plan options explained.",
    "Not interested in plans.",
    "Customer asked for account details.",
    "No issues found, customer glad.",
    "Inquired about services",
    "General follow-up, resolved.",
    "Routine inbound call.",
    "Said hello and hung up.",
    "The weather was discussed, which was lovely and wonderful.",
    "Horrible day, he hates everything about the meter.",
    "Contract will expire soon; customer is happy, excellent chat.",
    "Do not cancel! Customer wants to renew.",
    "planning permission for the switchboard, rated highly",
    "Cliente contactado: niño, ñandú, señal",
    None,
    "",
    "Customer contacted about a complaint, but without frustration.",
    "Never without a plan.",
)


def _pick(values: Sequence[T], number: int) -> T:
    return values[number % len(values)]


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _months(as_of: date) -> list[pd.Period]:
    """The window with one month before and one after it: fourteen months."""
    last = pd.Period(as_of + timedelta(days=1), "M") - 1
    return [last + shift for shift in range(-12, 2)]


def _labels(ids: Sequence[str], rng: np.random.Generator) -> list[Row]:
    rows: list[Row] = []
    for number, name in enumerate(ids):
        if number % 14 == 9:
            continue  # occurs in attributes only
        label = int(rng.random() < 0.2)
        rows.append({"customer_id": name, "churn": label})
        if number % 10 == 3:
            rows.append({"customer_id": name, "churn": label})
        if number % 15 == 6:
            rows.append({"customer_id": name, "churn": 1 - label})
    return [*rows, {"customer_id": None, "churn": 1}]


def _attributes(ids: Sequence[str], rng: np.random.Generator) -> list[Row]:
    rows: list[Row] = []
    codes = list(PROVINCES)
    for number, name in enumerate(ids):
        if number % 23 == 21:
            continue  # occurs in labels only
        industrial = int(number % 4 == 1)
        residential_power = None if number % 17 == 8 else float(_pick((2.3, 3.45, 4.6, 10.35), number))
        code = codes[int(rng.integers(len(codes)))]
        row: Row = {
            "customer_id": name,
            "contracted_power_kw": _pick(POWERS, number // 4) if industrial else residential_power,
            "is_industrial": industrial,
            "is_second_residence": int(not industrial and rng.random() < 0.2),
            "province_code": None if number % 19 == 12 else code,
            "region": None if number % 11 == 4 else PROVINCES[code],
            "is_high_competition_province": int(rng.random() < 0.4),
            "is_urban": int(rng.random() < 0.6),
            "sales_channel": _pick(CHANNELS, number),
        }
        rows.append(row)
        if number % 9 == 2:
            rows.append(dict(row))
        if number % 12 == 5:
            rows.append(row | {"contracted_power_kw": 9.0, "is_high_competition_province": 0})
            rows.append(row | {"contracted_power_kw": None})
        if number % 12 == 7:
            rows.append(row | {"region": None})
            rows.append(row | {"region": "Ávila", "sales_channel": "comparador"})
        if number % 12 == 10:
            rows.append(row | {"province_code": 28, "sales_channel": None})
            rows.append(row | {"province_code": 3, "sales_channel": "oficina"})
    return [*rows, rows[0] | {"customer_id": None}]


def _contracts(ids: Sequence[str], rng: np.random.Generator, as_of: date) -> list[Row]:
    rows: list[Row] = []
    for number, name in enumerate(ids):
        if number % 20 == 13:
            continue  # no contract row
        start = as_of - timedelta(days=int(rng.integers(1, 700)))
        changed: date | None = as_of - timedelta(days=int(rng.integers(0, 900)))
        if number % 3 == 0:
            changed = None
        elif number % 10 == 4:
            changed = as_of + timedelta(days=int(rng.integers(1, 60)))
        row: Row = {
            "customer_id": name,
            "customer_first_activation_date": _iso(as_of - timedelta(days=_pick(TENURE_DAYS, number))),
            "contract_start_date": _iso(start),
            "last_product_change_date": _iso(changed),
            "next_renewal_date": _iso(as_of + timedelta(days=_pick(RENEWAL_DAYS, number + number // 16))),
        }
        rows.append(row)
        later, earlier, ahead = (_iso(start + timedelta(days=days)) for days in (1, -200, 900))
        soon, far = (_iso(as_of + timedelta(days=days)) for days in (20, 200))
        if number % 9 == 1:
            rows.append(dict(row))
        if number % 10 == 2:  # a later start stands, one after as_of does not
            rows.append(row | {"contract_start_date": earlier, "next_renewal_date": far})
            rows.append(row | {"contract_start_date": ahead, "next_renewal_date": soon})
            if start < as_of:
                rows.append(row | {"contract_start_date": later, "next_renewal_date": far})
        if number % 10 == 6:  # the same start: the row that sorts first
            rows.append(row | {"next_renewal_date": soon})
            rows.append(row | {"last_product_change_date": None, "next_renewal_date": far})
        if number % 20 == 8:  # no start on or before as_of
            rows[-1] = row | {"contract_start_date": ahead}
            rows.append(row | {"contract_start_date": _iso(start + timedelta(days=1000))})
        if number % 20 == 18:  # two activations after as_of: the rows sort by what was delivered
            day = as_of + timedelta(days=5)
            rows[-1] = row | {"customer_first_activation_date": _iso(day), "next_renewal_date": far}
            day = as_of + timedelta(days=9)
            rows.append(row | {"customer_first_activation_date": _iso(day), "next_renewal_date": soon})
    return [*rows, rows[0] | {"customer_id": None}]


def _hours_of(number: int, name: str, rng: np.random.Generator, months: Sequence[pd.Period]) -> pd.DataFrame:
    """A few hundred hours of one customer, with copies, negatives and hours outside the window."""
    stamps: list[pd.Timestamp] = []
    for place in _pick(MONTHS_KEPT, number):
        month = months[place + 1]
        every = pd.date_range(month.start_time, month.end_time, freq="h")
        if number % 8 == 5 and place == 7:
            stamps.extend(every)
        elif (number + place) % 7 == 6:  # nights only: no peak and no standard electricity
            stamps.extend(rng.choice(every[every.hour < 8], size=25, replace=False))
        else:
            stamps.extend(rng.choice(every, size=30, replace=False))
    if number % 3 == 1:
        outside = [months[0].end_time.floor("h"), months[-1].start_time]
        stamps.extend([*outside, outside[0] - pd.Timedelta(hours=5), outside[1] + pd.Timedelta(hours=30)])
    if number % 6 == 2:  # the first and the last hour that count
        stamps.extend([months[1].start_time, months[-2].end_time.floor("h")])
    stamp = pd.DatetimeIndex(sorted(set(map(pd.Timestamp, stamps))))
    fuel, size = _pick(FUELS, number), len(stamp)
    elec = rng.gamma(1.5, 0.4, size) if fuel not in ("gas", "none") else np.zeros(size)
    gas = rng.gamma(1.2, 0.1, size) if fuel in ("gas", "both") else np.zeros(size)
    gas = np.where(stamp.month.isin([7, 8]), 0.0, gas)
    if number % 5 == 3:  # a month without a single kWh
        elec = np.where(stamp.month == int(rng.integers(1, 13)), 0.0, elec)
    elec = np.where(rng.random(size) < 0.03, -rng.random(size), elec)
    gas = np.where(rng.random(size) < (0.2 if fuel == "elec_negative_gas" else 0.02), -0.02, gas)
    hours = pd.DataFrame(
        {
            "customer_id": name,
            "timestamp": stamp,
            "consumption_elec_kwh": elec.round(4),
            "consumption_gas_m3": gas.round(4),
        }
    )
    if number % 4 == 2:
        copies = hours.sample(15, random_state=number)
        conflicting = hours.sample(15, random_state=number + 1)
        more_elec = (conflicting["consumption_elec_kwh"] * 1.5).round(4)
        less_gas = (conflicting["consumption_gas_m3"] * 0.5).round(4)
        lower = conflicting.assign(consumption_elec_kwh=-0.3, consumption_gas_m3=-0.1).head(5)
        crossed = conflicting.assign(consumption_elec_kwh=more_elec, consumption_gas_m3=less_gas)
        hours = pd.concat([hours, copies, copies.head(4), crossed, lower])
    return hours


def _hours(ids: Sequence[str], rng: np.random.Generator, months: Sequence[pd.Period]) -> pd.DataFrame:
    parts = [_hours_of(number, name, rng, months) for number, name in enumerate(ids) if number % 16 != 11]
    nameless = parts[0].head(12).copy()
    nameless["customer_id"] = pd.Series([None, ""] * 6, index=nameless.index, dtype="string")
    return pd.concat([*parts, nameless]).sample(frac=1.0, random_state=int(rng.integers(2**31)))


def _price_row(name: str | None, month: pd.Period, level: float, gas: float, industrial: bool) -> Row:
    return {
        "customer_id": name,
        "pricing_date": f"{month}-01",
        "variable_price_tier1_eur_kwh": round(level, 4),
        "variable_price_tier2_eur_kwh": round(level * 0.8, 4),
        "variable_price_tier3_eur_kwh": round(level * 0.6, 4),
        "elec_fixed_fee_eur_month": round(3 + level * 10, 4),
        "elec_fixed_cost_eur_month": round(2 + level * 5, 4),
        "gas_variable_price_eur_m3": round(gas, 4),
        "gas_fixed_revenue_eur_year": None if industrial else round(60 + 10 * gas, 4),
        "gas_fixed_cost_eur_year": round(40 + 5 * gas, 4),
    }


def _blank(row: Row, value: float | None) -> Row:
    keys = row.keys() - {"customer_id", "pricing_date"}
    return {key: value if key in keys else row[key] for key in row}


def _prices(ids: Sequence[str], rng: np.random.Generator, months: Sequence[pd.Period]) -> list[Row]:
    rows: list[Row] = []
    for number, name in enumerate(ids):
        state, industrial = _pick(PRICE_STATES, number), number % 4 == 1
        level, gas = round(float(rng.uniform(0.12, 0.24)), 4), round(float(rng.uniform(0.5, 0.9)), 4)
        for place, month in enumerate(months):
            level = round(level + float(rng.choice([0, 0, 0.0004, -0.0004, 0.0025, -0.0025, 0.012])), 4)
            gas_rise = 0.02 if number % 7 == 1 and place > 6 else 0.0
            row = _price_row(name, month, level, gas + gas_rise, industrial)
            if state == "no_rows" or (state == "leading_absent" and place < 6):
                continue
            zeroed = {"leading_zero": place < 4, "trailing_zero": place > 8, "all_zero": True}
            nulled = {"trailing_null": place > 10, "all_null": True, "one_price": place != 9}
            if zeroed.get(state, False) or nulled.get(state, False):
                row = _blank(row, 0.0 if state in zeroed else None)
            elif state == "gaps" and place % 4 == 2:
                row |= {"variable_price_tier1_eur_kwh": 0.0, "gas_variable_price_eur_m3": None}
            elif state == "gaps" and place % 4 == 3:
                row |= {"variable_price_tier2_eur_kwh": None, "elec_fixed_fee_eur_month": 0.0}
            elif number % 5 == 2:  # margins on both sides of zero
                row |= {"elec_fixed_cost_eur_month": round(float(rng.uniform(2, 12)), 4)}
            if number % 6 == 4 and place % 5 == 1:
                row |= {"elec_fixed_cost_eur_month": None}
            if number % 2 == 0 and number % 6 != 4 and state == "full":
                row |= {"gas_variable_price_eur_m3": None, "gas_fixed_revenue_eur_year": None}
            rows.append(row)
    return rows + [_price_row(None, month, 0.9, 9.9, False) for month in months]


def _costs(rng: np.random.Generator, months: Sequence[pd.Period]) -> list[Row]:
    rows: list[Row] = []
    for code in PROVINCES:
        for place, month in enumerate(months):
            row: Row = {
                "province": code,
                "month": str(month),
                "elec_var_cost_eur_kwh": round(float(rng.uniform(0.05, 0.12)), 5),
                "gas_var_cost_eur_m3": round(float(rng.uniform(0.3, 0.5)), 5),
                "peaje_elec_eur_kwh": round(float(rng.uniform(0.02, 0.05)), 5),
            }
            if code == 48 and place in (1, 6):
                continue  # no row for this province in this month
            if code == 41 and place == 5:
                row |= {"peaje_elec_eur_kwh": None}
            rows.append(row)
    return rows


def _interactions(ids: Sequence[str], rng: np.random.Generator, as_of: date) -> list[Row]:
    rows: list[Row] = []

    def add(name: str | None, days_ago: int, text: str | None) -> None:
        channel = _pick(("call", "email", "office"), len(rows))
        day = _iso(as_of - timedelta(days=days_ago))
        rows.append({"customer_id": name, "date": day, "channel": channel, "interaction_summary": text})

    for number, name in enumerate(ids):
        text, other = _pick(TEXTS, number - number // 5), _pick(TEXTS, number * 7 + 3)
        ago = int(_pick((0, 1, 30, 31, 60, 90, 120, 300), number + number // 8))
        if number % 5 == 4:
            if number % 10 == 4:
                add(name, -int(rng.integers(1, 60)), text)  # only after as_of
            continue
        add(name, ago, text)
        if number % 6 == 1:
            add(name, ago + int(rng.integers(1, 200)), other)
        if number % 6 == 3:
            add(name, ago, other)
        if number % 6 == 5:
            add(name, ago, text)
            add(name, -3, other)
        if number % 18 == 12:
            add(name, ago, None)
    add(None, 4, TEXTS[1])
    add("", 4, TEXTS[1])
    return [rows[place] for place in rng.permutation(len(rows))]


def _write_csv(path: Path, rows: Sequence[Row], rng: np.random.Generator) -> None:
    frame = pd.DataFrame(list(rows)).convert_dtypes(convert_floating=False)
    frame.iloc[rng.permutation(len(frame))].to_csv(path, index=False)


def write_dirty_raw(folder: Path, *, customers: int, seed: int, as_of: date = date(2024, 12, 31)) -> None:
    """Writes the seven raw files of `customers` customers, C00001 on, and a few orphans, C90001 on."""
    if customers < 1:
        raise ValueError(f"customers must be positive, but got {customers}")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = [f"C{number:05d}" for number in range(1, customers + 1)]
    everyone = ids + [f"C{number:05d}" for number in range(90001, 90004)]
    months = _months(as_of)
    _write_csv(folder / "churn_label.csv", _labels(ids, rng), rng)
    _write_csv(folder / "customer_attributes.csv", _attributes(ids, rng), rng)
    _write_csv(folder / "customer_contracts.csv", _contracts(everyone, rng, as_of), rng)
    _write_csv(folder / "price_history.csv", _prices(everyone, rng, months), rng)
    _write_csv(folder / "costs_by_province_month.csv", _costs(rng, months), rng)
    _hours(everyone, rng, months).to_parquet(folder / "consumption_hourly_2024.parquet", index=False)
    contacts = json.dumps(_interactions(everyone, rng, as_of), ensure_ascii=False, indent=1)
    (folder / "customer_interactions.json").write_text(contacts, encoding="utf-8")

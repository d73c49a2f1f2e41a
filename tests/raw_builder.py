"""A tiny but complete raw folder: three customers, the year 2024, three hours a month; every frame can be replaced.

C1 residential, electricity only     C2 an SME with both fuels     C3 a Corporate with gas alone
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from spanishgas.etl.build import build
from spanishgas.lake import Lake

Row = dict[str, Any]
IDS = ("C1", "C2", "C3")
MONTHS = tuple(f"2024-{month:02d}" for month in range(1, 13))
# The first working Tuesday-to-Friday of no holiday: day 10 or 11 lies on a working day in each month of 2024 but two.
WORKDAY = dict(zip(MONTHS, (10, 8, 12, 10, 8, 11, 10, 8, 10, 8, 12, 10), strict=True))
HOURS = {"peak": 10, "standard": 8, "offpeak": 3}


def label(customer_id: str | None = "C1", churn: Any = 0) -> Row:
    return {"customer_id": customer_id, "churn": churn}


def attributes(customer_id: str | None = "C1", **values: Any) -> Row:
    row = {
        "customer_id": customer_id,
        "contracted_power_kw": 4.6,
        "is_industrial": 0,
        "is_second_residence": 0,
        "province_code": 28,
        "region": "Madrid",
        "is_high_competition_province": 1,
        "is_urban": 1,
        "sales_channel": "comparador",
    }
    return row | values


def contract(customer_id: str | None = "C1", **values: Any) -> Row:
    row = {
        "customer_id": customer_id,
        "customer_first_activation_date": "2020-01-01",
        "contract_start_date": "2024-03-01",
        "last_product_change_date": None,
        "next_renewal_date": "2025-03-01",
    }
    return row | values


def hour(
    customer_id: str | None = "C1", stamp: Any = "2024-01-10 10:00", elec: Any = 1.0, gas: Any = 0.0
) -> Row:
    names = ("customer_id", "timestamp", "consumption_elec_kwh", "consumption_gas_m3")
    return dict(zip(names, (customer_id, stamp, elec, gas), strict=True))


def hours_of(
    customer_id: str, months: Sequence[str] = MONTHS, elec: float = 1.0, gas: float = 0.0
) -> list[Row]:
    """Three hours a month, one in each tariff period."""
    stamps = [f"{month}-{WORKDAY[month]:02d} {h:02d}:00" for month in months for h in HOURS.values()]
    return [hour(customer_id, stamp, elec, gas) for stamp in stamps]


def price(customer_id: str | None = "C1", month: str = "2024-01", **values: Any) -> Row:
    row = {
        "customer_id": customer_id,
        "pricing_date": f"{month}-01" if len(month) == 7 else month,
        "variable_price_tier1_eur_kwh": 0.20,
        "variable_price_tier2_eur_kwh": 0.15,
        "variable_price_tier3_eur_kwh": 0.10,
        "elec_fixed_fee_eur_month": 5.0,
        "elec_fixed_cost_eur_month": 3.0,
        "gas_variable_price_eur_m3": 0.8,
        "gas_fixed_revenue_eur_year": 60.0,
        "gas_fixed_cost_eur_year": 36.0,
    }
    return row | values


def cost(province: Any = 28, month: str = "2024-01", **values: Any) -> Row:
    row = {
        "province": province,
        "month": month,
        "elec_var_cost_eur_kwh": 0.05,
        "gas_var_cost_eur_m3": 0.4,
        "peaje_elec_eur_kwh": 0.02,
    }
    return row | values


def contact(
    customer_id: str | None = "C1", day: Any = "2024-11-15", text: str | None = "renewal options"
) -> Row:
    return {"customer_id": customer_id, "date": day, "channel": "telefono", "interaction_summary": text}


def rows() -> dict[str, list[Row]]:
    """The default rows of each raw table."""
    industrial = {"is_industrial": 1, "sales_channel": "web_propia"}
    people = [
        attributes("C1"),
        attributes("C2", contracted_power_kw=10.0, **industrial),
        attributes("C3", contracted_power_kw=15.0, **industrial),
    ]
    used = {"C1": (1.0, 0.0), "C2": (2.0, 1.5), "C3": (0.0, 3.0)}
    return {
        "churn_label": [label("C1", 0), label("C2", 1), label("C3", 0)],
        "customer_attributes": people,
        "customer_contracts": [contract(i) for i in IDS],
        "consumption_hourly_2024": [r for i in IDS for r in hours_of(i, elec=used[i][0], gas=used[i][1])],
        "price_history": [price(i, month) for i in IDS for month in MONTHS],
        "costs_by_province_month": [cost(28, month) for month in MONTHS],
        "customer_interactions": [contact("C1", "2024-11-15", "Cust inq re: renewal options; unhappy")],
    }


def write_raw(folder: Path, *, omit: Sequence[str] = (), **tables: list[Row] | pd.DataFrame) -> Path:
    """Write a raw folder; `tables` replace the default rows of a raw table, `omit` leaves files out."""
    folder.mkdir(parents=True, exist_ok=True)
    default = rows()
    for name, example in default.items():
        if name not in omit:
            chosen = tables.get(name, example)
            frame = (
                chosen if isinstance(chosen, pd.DataFrame) else pd.DataFrame(chosen, columns=list(example[0]))
            )
            _write(folder, name, frame)
    return folder


def _write(folder: Path, name: str, frame: pd.DataFrame) -> None:
    if name == "customer_interactions":
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    elif name == "consumption_hourly_2024":
        typed = frame.assign(timestamp=pd.to_datetime(frame["timestamp"], errors="coerce"))
        typed.to_parquet(folder / f"{name}.parquet", index=False)
    else:
        frame.to_csv(folder / f"{name}.csv", index=False)


@dataclass(frozen=True)
class Built:
    """The tables of a build as frames, and its quality report."""

    tables: dict[str, pd.DataFrame]
    quality: dict[str, dict[str, Any]]

    def gold(self, customer_id: str) -> Row:
        return dict(self.tables["gold_master"].set_index("customer_id").loc[customer_id])

    def month(self, customer_id: str, month: str) -> Row:
        return dict(
            self.tables["silver_customer_month"].set_index(["customer_id", "month"]).loc[(customer_id, month)]
        )

    def customer(self, customer_id: str) -> Row:
        return dict(self.tables["silver_customer"].set_index("customer_id").loc[customer_id])


def assert_accounted(counts: dict[str, Any]) -> None:
    """No row of a raw table vanished: rows_in = kept + quarantined + collapsed, and each rule's part adds up."""
    apart = sum(value for name, value in counts.items() if name.startswith("quarantined."))
    unused = sum(value for name, value in counts.items() if name.startswith("unused."))
    assert counts["quarantined"] == apart, counts
    assert counts["rows_in"] == counts["kept"] + counts["quarantined"] + counts["collapsed"], counts
    assert 0 <= unused <= counts["kept"] >= 0, counts


def build_raw(folder: Path, as_of: date = date(2024, 12, 31), **tables: Any) -> Built:
    """Write a raw folder under `folder` and build it there."""
    report = build(write_raw(folder / "raw", **tables), Lake(folder / "lake"), as_of)
    return Built({name: snapshot.pandas() for name, snapshot in report.snapshots.items()}, report.quality)

"""Write the seven raw files empty, with a README of their columns read off the contracts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spanishgas.contracts import contract
from spanishgas.contracts.fields import Field, Kind
from spanishgas.errors import UsageError
from spanishgas.etl.source import CONTACTS, HOURS
from spanishgas.lake import RAW_FILES

TABLES: Mapping[str, str] = {
    "churn_label": "Who left; leave the file out of an extract that is to be scored.",
    "customer_attributes": "One row per customer.",
    "customer_contracts": "One row per customer; of several the one that started last stands.",
    HOURS: "One row per customer and hour, local time as the meter shows it.",
    "price_history": "One row per customer and month.",
    "costs_by_province_month": "One row per province and month.",
    CONTACTS: "Contacts with the customer; the latest one counts.",
}
MEANING: Mapping[str, str] = {
    "customer_id": "the customer, the same in every file",
    "churn": "1 if the customer left",
    "contracted_power_kw": "contracted power, kW",
    "is_industrial": "1 for a business",
    "is_second_residence": "1 for a second home",
    "province_code": "province of the supply, as in the cost file",
    "region": "region of the supply",
    "is_high_competition_province": "1 where many retailers compete",
    "is_urban": "1 for a town or city",
    "sales_channel": "how the customer came",
    "customer_first_activation_date": "first supply with you",
    "contract_start_date": "start of the current contract",
    "last_product_change_date": "last change of tariff or product",
    "next_renewal_date": "when the contract renews or ends",
    "timestamp": "start of the hour",
    "consumption_elec_kwh": "electricity of the hour, kWh",
    "consumption_gas_m3": "gas of the hour, m3",
    "pricing_date": "a day of the month in which the prices hold",
    "variable_price_tier1_eur_kwh": "electricity price at peak, EUR/kWh",
    "variable_price_tier2_eur_kwh": "electricity price at standard hours, EUR/kWh",
    "variable_price_tier3_eur_kwh": "electricity price off peak, EUR/kWh",
    "elec_fixed_fee_eur_month": "fixed electricity fee, EUR a month",
    "elec_fixed_cost_eur_month": "your fixed cost of electricity, EUR a month",
    "gas_variable_price_eur_m3": "gas price, EUR/m3",
    "gas_fixed_revenue_eur_year": "fixed gas fee, EUR a year",
    "gas_fixed_cost_eur_year": "your fixed cost of gas, EUR a year",
    "province": "the province, as in the attributes",
    "month": "the month",
    "elec_var_cost_eur_kwh": "what electricity costs you, EUR/kWh",
    "gas_var_cost_eur_m3": "what gas costs you, EUR/m3",
    "peaje_elec_eur_kwh": "network toll of electricity, EUR/kWh",
    "date": "day of the contact",
    "channel": "how it was made",
    "interaction_summary": "what was said, in a sentence",
}


def write_template(folder: Path) -> None:
    """Write the files into a folder that is new or empty; `UsageError` for any other."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not an empty folder: name a new one for the template")
    folder.mkdir(parents=True, exist_ok=True)
    for table, name in RAW_FILES.items():
        columns = contract(table).fields
        if table == HOURS:
            kinds = {Kind.NUMBER: pa.float64(), Kind.TEXT: pa.string()}
            schema = [(column, kinds.get(f.kind, pa.timestamp("us"))) for column, f in columns.items()]
            pq.ParquetWriter(folder / name, pa.schema(schema)).close()
        else:
            (folder / name).write_text("[]\n" if table == CONTACTS else ",".join(columns) + "\n")
    (folder / "README.md").write_text("\n".join(_readme()) + "\n", encoding="utf-8")


def _readme() -> Iterator[str]:
    yield "# The seven raw files\n\nColumns may stand in any order, and others beside them."
    for table, name in RAW_FILES.items():
        yield f"\n## {name}\n{TABLES[table]}\n\n| column | meaning | value |\n|---|---|---|"
        for column, field in contract(table).fields.items():
            yield f"| {column} | {MEANING[column]} | {_value(field)} |"


def _value(field: Field) -> str:
    words = [field.kind.words]
    if field.bounds != (None, None) and field.kind is not Kind.FLAG:
        words.append(field.limits)
    if field.values:
        words.append(f"one of {', '.join(field.values)}")
    return ", ".join([*words, "needed" if field.required else "may be empty"])

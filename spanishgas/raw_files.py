"""What the seven raw files are called. Standard library only: the Lambda function has no more."""

from __future__ import annotations

from collections.abc import Mapping

RAW_FILES: Mapping[str, str] = {
    "churn_label": "churn_label.csv",
    "customer_attributes": "customer_attributes.csv",
    "customer_contracts": "customer_contracts.csv",
    "consumption_hourly_2024": "consumption_hourly_2024.parquet",
    "price_history": "price_history.csv",
    "costs_by_province_month": "costs_by_province_month.csv",
    "customer_interactions": "customer_interactions.json",
}
"""File by table, as the simulator writes it; others are read as well, see `names`."""
LABELS, HOURS, CONTACTS = "churn_label", "consumption_hourly_2024", "customer_interactions"
MAPPING = "mapping.yaml"
"""Beside the files, where they or their columns have other names."""
ARCHIVES, WORKBOOKS = (".zip", ".csv.zst"), (".xlsx", ".xls", ".ods")
"""Forms of a file that a mapping names."""
DELIMITERS = ",;\t|"
"""Signs that may part the columns of a text file."""
CSV, JSON, PARQUET = (".csv", ".csv.gz"), (".json", ".jsonl", ".json.gz", ".jsonl.gz"), (".parquet",)


def forms(table: str) -> tuple[str, ...]:
    """How the name of the table's file may end; the hours may also be a folder of parts, without an ending."""
    return (*CSV, *PARQUET, *(JSON if table == CONTACTS else ("",) if table == HOURS else ()))


def names(table: str, renamed: Mapping[str, str]) -> list[str]:
    """What the table's file may be called in the raw folder; `renamed` has other names by table."""
    return [renamed[table]] if table in renamed else [f"{table}{form}" for form in forms(table)]


def table_of(name: str, renamed: Mapping[str, str]) -> str | None:
    """The table that a file of a raw folder belongs to, by its name below the folder; None for other files."""
    for table in RAW_FILES:
        if any(name == own or name.startswith(f"{own}/") for own in names(table, renamed)):
            return table
    return None

"""Write an extract as a Spanish warehouse would, for the page "Your own data": `python docs/export.py RAW FOLDER`.

Semicolons, decimal commas, days first, latin-1, names of its own; electricity in Wh.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

NAMES = {
    "churn_label": "bajas",
    "customer_attributes": "clientes",
    "customer_contracts": "contratos",
    "price_history": "precios",
    "costs_by_province_month": "costes",
}
FORM: dict[str, Any] = {"sep": ";", "index": False, "encoding": "latin-1"}
DATE, NUMBER = re.compile(r"(\d{4})-(\d\d)-(\d\d)"), re.compile(r"-?\d+\.\d+(e-?\d+)?")


def spanish(value: str) -> str:
    """A date with its day first, a number with a comma, any other text as it is."""
    if date := DATE.fullmatch(value):
        return "/".join(date.groups()[::-1])
    return value.replace(".", ",") if NUMBER.fullmatch(value) else value


def export(raw: Path, folder: Path) -> None:
    """The tables under Spanish names, the customers as ID_CLIENTE; contacts as they are."""
    folder.mkdir(parents=True)
    for file in raw.iterdir():
        if file.suffix == ".parquet":
            curves(pd.read_parquet(file)).to_csv(folder / "curvas.csv", **FORM)
        elif file.stem not in NAMES:
            shutil.copy(file, folder)
        else:
            rows = pd.read_csv(file, dtype=str, keep_default_na=False).map(spanish)
            rows = rows.rename(columns={"customer_id": "ID_CLIENTE"})
            rows.to_csv(folder / f"{NAMES[file.stem]}.csv", **FORM)


def curves(hours: pd.DataFrame) -> pd.DataFrame:
    """The hourly readings to the thousandth, those of electricity in Wh."""
    return pd.DataFrame(
        {
            "ID_CLIENTE": hours["customer_id"],
            "FECHA_HORA": hours["timestamp"].dt.strftime("%d/%m/%Y %H:%M"),
            "ACTIVA_WH": (1000 * hours["consumption_elec_kwh"]).map(thousandths),
            "GAS_M3": hours["consumption_gas_m3"].map(thousandths),
        }
    )


def thousandths(value: float | None) -> str:
    """A number with a comma and three places; nothing for none."""
    return "" if value is None or value != value else f"{value:.3f}".replace(".", ",")


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))

"""One extract in the dialects of utilities' exports: each writes the seven files anew, and the mapping that reads them.

The simulator's days have 24 hours. Where a clock has days of 23 and 25, the reading of the hour that is not there in
March joins the next one, and the one of the hour that comes twice in October is halved: all are off peak.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

HOURS, CONTACTS = "consumption_hourly_2024", "customer_interactions"
ELEC, GAS = "consumption_elec_kwh", "consumption_gas_m3"
Frames = Mapping[str, pd.DataFrame]
Mapping_ = dict[str, dict[str, Any]]
Dialect = Callable[[Frames, Path], Mapping_]
DIALECTS: dict[str, Dialect] = {}


def dialect(write: Dialect) -> Dialect:
    """Register a dialect by its function's name."""
    DIALECTS[write.__name__] = write
    return write


def read_plain(raw: Path) -> dict[str, pd.DataFrame]:
    """The seven tables of a plain extract; those of text as text."""
    frames = {f.stem: pd.read_csv(f, dtype=str, keep_default_na=False) for f in raw.glob("*.csv")}
    frames[HOURS] = pd.read_parquet(raw / f"{HOURS}.parquet")
    frames[CONTACTS] = pd.read_json(raw / f"{CONTACTS}.json", dtype=False, convert_dates=False)
    return frames


def write(name: str, frames: Frames, folder: Path) -> Path:
    """The extract in a dialect, with its mapping.yaml."""
    folder.mkdir(parents=True)
    mapping = DIALECTS[name](frames, folder)
    (folder / "mapping.yaml").write_text(yaml.safe_dump(mapping, allow_unicode=True), encoding="utf-8")
    return folder


def small(frames: Frames, folder: Path, but: tuple[str, ...] = ()) -> None:
    """The small tables as they are."""
    for table, frame in frames.items():
        if table not in (HOURS, *but):
            frame.to_csv(folder / f"{table}.csv", index=False)


def hours_csv(
    hours: pd.DataFrame, file: Path, decimal: str = ".", sep: str = ",", encoding: str = "utf-8"
) -> None:
    """Hours as CSV with numbers of all digits."""
    frame = hours.copy()
    for name in (c for c in (ELEC, GAS) if c in frame):
        values = frame[name].map(lambda v: "" if pd.isna(v) else repr(float(v)).replace(".", decimal))
        frame[name] = values
    frame.to_csv(file, index=False, sep=sep, encoding=encoding)


def instants(hours: pd.DataFrame) -> pd.DataFrame:
    """The same energy at instants of UTC, as a clock of Spanish legal time saw it."""
    gone, back = pd.Timestamp("2024-03-31 02:00"), pd.Timestamp("2024-10-27 02:00")
    frame = hours.copy()
    frame["timestamp"] = frame["timestamp"].where(frame["timestamp"] != gone, gone + pd.Timedelta(hours=1))
    frame = frame.groupby(["customer_id", "timestamp"], as_index=False).sum()
    twice = frame["timestamp"] == back
    frame.loc[twice, [ELEC, GAS]] /= 2
    local = frame["timestamp"].dt.tz_localize("Europe/Madrid", ambiguous=True)
    late = frame[twice].assign(timestamp=local[twice] + pd.Timedelta(hours=1))
    frame = pd.concat([frame.assign(timestamp=local), late], ignore_index=True)
    return frame.sort_values(["customer_id", "timestamp"], ignore_index=True)


def finer(hours: pd.DataFrame, parts: int) -> pd.DataFrame:
    """Each reading as so many equal ones."""
    step = pd.Timedelta(minutes=60 // parts)
    pieces = [
        hours.assign(timestamp=hours["timestamp"] + n * step, **{c: hours[c] / parts for c in (ELEC, GAS)})
        for n in range(parts)
    ]
    return pd.concat(pieces).sort_values(["customer_id", "timestamp"], ignore_index=True)


def european(
    frames: Frames, folder: Path, sep: str, dates: str, months: str, words: tuple[str, str], encoding: str
) -> Mapping_:
    """The small tables in the manner of a European spreadsheet: names, signs, dates and words of its own."""
    mapping: Mapping_ = {}
    for table, frame in frames.items():
        if table == HOURS:
            continue
        frame, form = frame.copy(), {"delimiter": sep, "encoding": encoding, "nulls": ["NULL"]}
        for column in frame:
            filled = frame[column].fillna("").ne("")
            if "date" in column:
                frame.loc[filled, column] = pd.to_datetime(frame.loc[filled, column]).dt.strftime(dates)
                form["dates"] = dates
            elif column == "month":
                frame[column] = pd.to_datetime(frame[column]).dt.strftime(months)
                form["months"] = months
            elif column.startswith("is_"):
                frame[column] = frame[column].map({"1": words[0], "0": words[1]}).fillna(frame[column])
                form |= {"yes": [words[0]], "no": [words[1]]}
            elif column.endswith(("_kwh", "_m3", "_month", "_year", "_kw")):
                frame[column] = frame[column].astype(str).str.replace(".", ",")
                form["decimal"] = ","
            frame.loc[~filled, column] = "NULL"
        names = {column: f"{column.upper()} (año)" for column in frame}
        frame.rename(columns=names).to_csv(folder / f"{table}.csv", index=False, sep=sep, encoding=encoding)
        mapping[table] = form | {"file": f"{table}.csv", "columns": names}
    return mapping


@dialect
def spanish_csv(frames: Frames, folder: Path) -> Mapping_:
    mapping = european(frames, folder, ";", "%d/%m/%Y", "%m/%Y", ("Sí", "No"), "latin-1")
    hours = frames[HOURS].assign(timestamp=frames[HOURS]["timestamp"].dt.strftime("%d/%m/%Y %H:%M"))
    hours_csv(hours, folder / "horas.csv", ",", ";", "latin-1")
    form = {"file": "horas.csv", "decimal": ",", "dates": "%d/%m/%Y %H:%M", "encoding": "latin-1"}
    return mapping | {HOURS: form}


@dialect
def german_csv(frames: Frames, folder: Path) -> Mapping_:
    mapping = european(frames, folder, "\t", "%d.%m.%y", "%m.%Y", ("Ja", "Nein"), "utf-16")
    hours = frames[HOURS].assign(timestamp=frames[HOURS]["timestamp"].dt.strftime("%d.%m.%y %H:%M"))
    swapped = str.maketrans(",.", ".,")
    for column, factor in ((ELEC, 1000), (GAS, 1)):
        hours[column] = (hours[column] * factor).map("{:,.12f}".format).str.translate(swapped)
    hours.to_csv(folder / "Stunden.csv", index=False, sep="\t", encoding="utf-16")
    form = {"file": "Stunden.csv", "decimal": ",", "thousands": ".", "dates": "%d.%m.%y %H:%M"}
    mapping[HOURS] = form | {"encoding": "utf-16", "delimiter": "\t", "units": {ELEC: "Wh"}}
    return mapping


@dialect
def quarter_hours(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    finer(frames[HOURS], 4).to_parquet(folder / f"{HOURS}.parquet", index=False)
    return {}


@dialect
def half_hours_by_their_end(frames: Frames, folder: Path) -> Mapping_:
    """The last of a day is stamped 24:00."""
    small(frames, folder)
    hours = finer(frames[HOURS], 2)
    end = hours["timestamp"] + pd.Timedelta(minutes=30)
    midnight = end.dt.normalize() == end
    text = end.dt.strftime("%Y-%m-%d %H:%M")
    late = (end - pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d 24:00")
    hours_csv(hours.assign(timestamp=text.where(~midnight, late)), folder / f"{HOURS}.csv")
    return {HOURS: {"resolution": "half_hour", "stamp": "end"}}


@dialect
def utc(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    hours = instants(frames[HOURS])
    stamps = hours["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None)
    hours.assign(timestamp=stamps).to_parquet(folder / f"{HOURS}.parquet", index=False)
    return {HOURS: {"clock": "UTC"}}


@dialect
def offsets_in_text(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    hours = instants(frames[HOURS])
    hours_csv(
        hours.assign(timestamp=hours["timestamp"].map(lambda at: at.isoformat())), folder / f"{HOURS}.csv"
    )
    return {HOURS: {"clock": "offset"}}


@dialect
def zoned_parquet(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    table = pa.Table.from_pandas(instants(frames[HOURS]), preserve_index=False)
    pq.write_table(table, folder / f"{HOURS}.parquet")
    return {HOURS: {"clock": "offset"}}


@dialect
def local_with_the_double_hour(frames: Frames, folder: Path) -> Mapping_:
    """In prices of EUR/MWh, too."""
    prices = frames["price_history"].copy()
    tiers = [f"variable_price_tier{n}_eur_kwh" for n in (1, 2, 3)]
    for tier in tiers:
        filled = prices[tier] != ""
        prices.loc[filled, tier] = (prices.loc[filled, tier].astype(float) * 1000).map(repr)
    small({**frames, "price_history": prices}, folder)
    hours = instants(frames[HOURS])
    hours_csv(hours.assign(timestamp=hours["timestamp"].dt.tz_localize(None)), folder / f"{HOURS}.csv.tmp")
    with gzip.open(folder / f"{HOURS}.csv.gz", "wb") as packed:
        packed.write((folder / f"{HOURS}.csv.tmp").read_bytes())
    (folder / f"{HOURS}.csv.tmp").unlink()
    return {HOURS: {"clock": "Europe/Madrid"}, "price_history": {"units": dict.fromkeys(tiers, "EUR/MWh")}}


@dialect
def winter_time_all_year_in_watt_hours(frames: Frames, folder: Path) -> Mapping_:
    """Integers, as far as the simulator's three decimals go; what is sold is below 0."""
    small(frames, folder)
    hours = instants(frames[HOURS])
    stamps = hours["timestamp"].dt.tz_convert("Etc/GMT-1").dt.tz_localize(None)
    hours.assign(timestamp=stamps, **{ELEC: -hours[ELEC] * 1000}).to_parquet(
        folder / f"{HOURS}.parquet", index=False
    )
    return {HOURS: {"clock": "+01:00", "units": {ELEC: -0.001}}}


def by_day(hours: pd.DataFrame, parts: int = 1) -> pd.DataFrame:
    """Readings with their local day and their place in it, from 1."""
    frame = finer(instants(hours), parts) if parts > 1 else instants(hours)
    day = frame["timestamp"].dt.tz_localize(None).dt.normalize()
    place = frame.groupby(["customer_id", day]).cumcount() + 1
    return frame.assign(day=day.dt.strftime("%d/%m/%Y"), place=place)


@dialect
def wide_by_day(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    hours, wide = by_day(frames[HOURS]), []
    for column, start in ((ELEC, "E"), (GAS, "G")):
        table = hours.pivot(index=["customer_id", "day"], columns="place", values=column)
        wide.append(table.rename(columns=lambda place, start=start: f"{start}{place:02d}"))
    pd.concat(wide, axis=1).reset_index().to_csv(folder / "curva.csv", index=False, sep=";", decimal=",")
    form = {"file": "curva.csv", "columns": {"timestamp": "day"}, "dates": "%d/%m/%Y", "decimal": ","}
    return {
        HOURS: form
        | {"wide": {ELEC: "E{01..25}", GAS: "G{01..25}"}, "resolution": "hour", "clock": "Europe/Madrid"}
    }


@dialect
def wide_by_day_of_quarter_hours(frames: Frames, folder: Path) -> Mapping_:
    small(frames, folder)
    hours, wide = by_day(frames[HOURS], 4), []
    for column, start in ((ELEC, "E"), (GAS, "G")):
        table = hours.pivot(index=["customer_id", "day"], columns="place", values=column)
        wide.append(table.rename(columns=lambda place, start=start: f"{start}{place}"))
    pd.concat(wide, axis=1).reset_index().to_parquet(folder / f"{HOURS}.parquet", index=False)
    form = {"columns": {"timestamp": "day"}, "dates": "%d/%m/%Y", "clock": "Europe/Madrid"}
    return {HOURS: form | {"wide": {ELEC: "E{1..100}", GAS: "G{1..100}"}, "resolution": "quarter_hour"}}


@dialect
def months_in_a_folder(frames: Frames, folder: Path) -> Mapping_:
    """CSV files, one of which has its columns in another order; a checksum lies beside."""
    small(frames, folder)
    hours = frames[HOURS]
    (folder / "horas").mkdir()
    for number, (month, part) in enumerate(hours.groupby(hours["timestamp"].dt.strftime("%Y-%m"))):
        order = list(part.columns[::-1] if number == 3 else part.columns)
        hours_csv(part[order], folder / "horas" / f"{month}.csv")
    (folder / "horas" / "_SUCCESS.csv").write_text("nothing to read")
    return {HOURS: {"file": "horas"}}


@dialect
def corrections_in_a_folder(frames: Frames, folder: Path) -> Mapping_:
    """Parquet files by month, some wrong; two files correct them, the second a reading of the first."""
    small(frames, folder)
    hours, horas = frames[HOURS], folder / "horas"
    horas.mkdir()
    wrong = hours.assign(**{ELEC: hours[ELEC].where(hours.index % 5 > 0, 99.0)})
    for month, part in wrong.groupby(hours["timestamp"].dt.strftime("%Y-%m")):
        part.to_parquet(horas / f"{month}.parquet", index=False)
    mended = hours[hours.index % 5 == 0]
    mended.assign(**{GAS: 7.0}).head(500).to_parquet(horas / "correccion_1.parquet", index=False)
    mended.to_parquet(horas / "correccion_2.parquet", index=False)
    return {HOURS: {"file": "horas", "corrections": "correccion_*"}}


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Texts of numbers and dates as a workbook's cells hold them."""
    frame = frame.copy()
    for column in frame.columns.difference(["customer_id", "month"]):
        if "date" in column:
            frame[column] = pd.to_datetime(frame[column].replace("", None))
        elif column not in ("region", "sales_channel", "channel", "interaction_summary", "timestamp"):
            frame[column] = pd.to_numeric(frame[column])
    return frame


@dialect
def excel(frames: Frames, folder: Path) -> Mapping_:
    """Two lines above the header, and an empty sheet beside."""
    mapping: Mapping_ = {}
    for table, frame in frames.items():
        with pd.ExcelWriter(folder / f"{table}.xlsx", engine="openpyxl") as book:
            typed(frame).to_excel(book, sheet_name="Datos", index=False, startrow=2)
            book.book.create_sheet("Notas")
        mapping[table] = {"file": f"{table}.xlsx", "header_row": 3}
    return mapping


CELL = (
    '<table:table-cell office:value-type="{kind}" {name}="{value}"><text:p>{text}</text:p></table:table-cell>'
)
BOOK = """<?xml version="1.0" encoding="UTF-8"?>
<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 office:version="1.2"><office:body><office:spreadsheet><table:table table:name="Datos">{rows}</table:table>
</office:spreadsheet></office:body></office:document-content>"""
MIME = "application/vnd.oasis.opendocument.spreadsheet"
MANIFEST = f"""<?xml version="1.0" encoding="UTF-8"?>
<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">
<manifest:file-entry manifest:full-path="/" manifest:media-type="{MIME}"/></manifest:manifest>"""


def ods_cell(value: Any) -> str:
    """A cell of OpenDocument."""
    if value is None or value is pd.NaT or (isinstance(value, float) and pd.isna(value)):
        return "<table:table-cell/>"
    if isinstance(value, pd.Timestamp):
        day = f"{value:%Y-%m-%dT%H:%M:%S}"
        return CELL.format(kind="date", name="office:date-value", value=day, text=day)
    if isinstance(value, (int, float)):
        return CELL.format(kind="float", name="office:value", value=repr(value), text=value)
    text = escape(str(value))
    return f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'


@dialect
def ods(frames: Frames, folder: Path) -> Mapping_:
    """The small tables; the hours are more than such a sheet is made for."""
    mapping: Mapping_ = {}
    for table, frame in frames.items():
        if table == HOURS:
            frame.to_parquet(folder / f"{table}.parquet", index=False)
            continue
        cells = typed(frame).astype(object)
        lines = [list(cells.columns), *cells.itertuples(index=False, name=None)]
        rows = "".join(f"<table:table-row>{''.join(map(ods_cell, line))}</table:table-row>" for line in lines)
        with zipfile.ZipFile(folder / f"{table}.ods", "w") as book:
            book.writestr("mimetype", MIME)
            book.writestr("META-INF/manifest.xml", MANIFEST)
            book.writestr("content.xml", BOOK.format(rows=rows))
        mapping[table] = {"file": f"{table}.ods"}
    return mapping


@dialect
def archives(frames: Frames, folder: Path) -> Mapping_:
    """Hours by month in a zip, with what a Mac adds; the small tables packed by zstd, in cp1252."""
    mapping: Mapping_ = {}
    for table, frame in frames.items():
        if table != HOURS:
            text = frame.to_csv(index=False, sep=";").encode("cp1252")
            packed = pa.compress(text, codec="zstd", asbytes=True)
            (folder / f"{table}.csv.zst").write_bytes(packed)
            mapping[table] = {"file": f"{table}.csv.zst", "encoding": "cp1252"}
    months = frames[HOURS].groupby(frames[HOURS]["timestamp"].dt.strftime("%Y-%m"))
    with zipfile.ZipFile(folder / "horas.zip", "w", zipfile.ZIP_DEFLATED) as book:
        for month, part in months:
            hours_csv(part, folder / "part")
            book.write(folder / "part", f"2024/{month}.csv")
        book.writestr("__MACOSX/._2024-01.csv", "nothing to read")
    (folder / "part").unlink()
    return mapping | {HOURS: {"file": "horas.zip"}}


def cups(number: int) -> str:
    """The code of a supply point with its check characters, as Royal Decree 1435/2002 has them computed."""
    digits = f"{21_000_000_000_000_00 + number:016d}"
    letters, rest = "TRWAGMYFPDXBNJZSQVHLCKE", int(digits) % 529
    return f"ES{digits}{letters[rest // 23]}{letters[rest % 23]}"


def supply_points(frames: Frames, hours: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Small tables whose ids are those of supply points, and the hours that such a file has: without gas."""
    ids = sorted(frames["customer_attributes"]["customer_id"].unique())
    codes = {customer_id: cups(number) for number, customer_id in enumerate(ids)}
    renamed = {
        table: frame.assign(customer_id=frame["customer_id"].map(codes)) if "customer_id" in frame else frame
        for table, frame in frames.items()
    }
    small(renamed, folder)
    frame = by_day(hours)
    return frame.assign(CUPS=frame["customer_id"].map(codes) + "0F").drop(columns=["customer_id", GAS])


@dialect
def datadis(frames: Frames, folder: Path) -> Mapping_:
    hours = supply_points(frames, frames[HOURS], folder)
    hours = hours.assign(Fecha=pd.to_datetime(hours["day"], dayfirst=True).dt.strftime("%Y/%m/%d"))
    hours = hours.assign(Hora=hours["place"].map("{:02d}:00".format), Metodo_obtencion="Real")
    hours = hours.assign(Consumo_kWh=hours[ELEC].map(lambda kwh: repr(float(kwh)).replace(".", ",")))
    order = ["CUPS", "Fecha", "Hora", "Consumo_kWh", "Metodo_obtencion"]
    hours[order].to_csv(folder / f"{HOURS}.csv", index=False, sep=";")
    return {HOURS: {"preset": "datadis"}}


@dialect
def cch(frames: Frames, folder: Path) -> Mapping_:
    hours = supply_points(frames, frames[HOURS], folder)
    hours = hours.rename(columns={"day": "Fecha", "place": "Hora"}).assign(**{"REAL/ESTIMADO": "R"})
    hours = hours.assign(AE_kWh=hours[ELEC].map(lambda kwh: repr(float(kwh)).replace(".", ",")))
    hours[["CUPS", "Fecha", "Hora", "AE_kWh", "REAL/ESTIMADO"]].to_csv(
        folder / f"{HOURS}.csv", index=False, sep=";"
    )
    return {HOURS: {"preset": "cch"}}

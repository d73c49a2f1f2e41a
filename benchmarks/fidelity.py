"""How like the published data a drawn extract is: named figures, side by side, as simultaneous intervals.

    raw files -> fidelity.sql -> a value per figure of fidelity.yaml -> interval of the difference -> report
    truth     -> average precision that no model can beat, with the text and without it

`report` reads nothing but the raw files, so it serves any raw folder; hours are summed by DuckDB within MEMORY.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from spanishgas.errors import DataError
from spanishgas.etl import calendar
from spanishgas.etl.intent import intent
from spanishgas.etl.sentiment import Lexicon, label
from spanishgas.evaluation.inference import means, shares
from spanishgas.raw_files import RAW_FILES
from spanishgas.simulate import write_extract
from spanishgas.simulate.extract import TRUTH_FILE

AS_OF, CUSTOMERS, SEED = date(2024, 12, 31), 20_099, 7
MOST_OUTSIDE = 1
MEMORY = "1500MB"
FEWEST = 1_000
"""Customers; below, a figure may have nobody to be taken from."""
CONFIDENCE = 0.95
_HERE = Path(__file__)
_TERSE = re.compile(r"[^;]+;[^;]+(;[^;]+)?\.")
_CSV = {
    "attributes": "customer_attributes",
    "contracts": "customer_contracts",
    "prices": "price_history",
    "costs": "costs_by_province_month",
}


class Interval(NamedTuple):
    """Bounds of the difference drawn - published."""

    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether no difference at all lies within."""
        return self.low <= 0 <= self.high


def critical(comparisons: int) -> float:
    """Standard errors to either side of each of `comparisons` intervals that are to hold together.

    With m of them at 1 - (1 - 0.05)^(1/m) each (Sidak), all hold with at least 95 % for figures that are independent
    or positively dependent.

    >>> round(critical(1), 2), round(critical(40), 2)
    (1.96, 3.22)
    """
    return float(norm.isf((1 - CONFIDENCE ** (1 / comparisons)) / 2))


class Figure(BaseModel):
    """One published figure and the SQL that draws it; fidelity.yaml says what each field means."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    value: str
    among: str = "true"
    of: str = "customers"
    published: str | int
    n: int
    sd: float | None = None
    at: float | None = None
    source: str

    @property
    def kind(self) -> str:
        """A rate, mean or quantile."""
        if isinstance(self.published, int):
            return "rate"
        return "mean" if self.at is None else "quantile"

    @property
    def expected(self) -> float:
        """The published value; of a rate the share."""
        return self.published / self.n if isinstance(self.published, int) else float(self.published)

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit printed."""
        digits = str(self.published).partition(".")[2]
        return 0.0 if isinstance(self.published, int) else 0.5 * 10.0 ** -len(digits)


@dataclass(frozen=True)
class Compared:
    """A figure drawn and published. A quantile's interval is of the share below the published value."""

    name: str
    kind: str
    published: float
    drawn: float
    low: float
    high: float
    holds: bool
    source: str


@dataclass(frozen=True)
class Fidelity:
    """The report: every figure, and the average precision of the true probabilities where the truth is known."""

    figures: tuple[Compared, ...]
    best_with_text: float | None
    best_before_text: float | None

    @property
    def outside(self) -> tuple[str, ...]:
        """Names of the figures whose interval does not hold."""
        return tuple(figure.name for figure in self.figures if not figure.holds)

    def data(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return asdict(self) | {"outside": list(self.outside), "confidence": CONFIDENCE}


def figures() -> list[Figure]:
    """The published figures."""
    listed = yaml.safe_load(_HERE.with_suffix(".yaml").read_text(encoding="utf-8"))
    return [Figure.model_validate(entry) for entry in listed]


def report(raw: Path, as_of: date, truth: Path | None = None) -> Fidelity:
    """Every figure of the labelled extract in `raw`, and the best average precision by the folder `truth`."""
    wanted = figures()
    with duckdb.connect() as con:
        tables(con, raw, as_of)
        compared = compare(con, wanted)
    return Fidelity(compared, *_best(truth))


def tables(con: duckdb.DuckDBPyConnection, raw: Path, as_of: date) -> None:
    """Create the tables that the figures are taken from; DataError for an extract too small to compare."""
    con.execute(f"set memory_limit = '{MEMORY}'; set preserve_insertion_order = false")
    for name, table in _CSV.items():
        con.read_csv(str(raw / RAW_FILES[table])).create(name)
    (customers,) = con.execute("select count(*) from attributes").fetchone() or (0,)
    if customers < FEWEST:
        raise DataError(f"{raw} has {customers} customers, too few to compare: draw {FEWEST:,} or more")
    labels = raw / RAW_FILES["churn_label"]
    if labels.exists():
        con.read_csv(str(labels)).create("labels")
    else:
        con.execute("create table labels (customer_id varchar, churn integer)")
    con.read_parquet(str(raw / RAW_FILES["consumption_hourly_2024"])).create_view("hours")
    con.from_df(clock(as_of)).create("clock")
    con.from_df(contacts(raw / RAW_FILES["customer_interactions"])).create("contacts")
    con.execute(
        "create table most_common as select interaction_summary = mode(interaction_summary) over () "
        "as is_most_common from contacts"
    )
    for statement in duckdb.extract_statements(_HERE.with_suffix(".sql").read_text(encoding="utf-8")):
        needed = {"as_of": as_of} if "as_of" in statement.named_parameters else None
        con.execute(statement, needed)


def clock(as_of: date) -> pd.DataFrame:
    """Every hour of the window with its month and tariff period."""
    hours = calendar.hours(as_of)
    return hours.assign(month=hours["hour"].dt.strftime("%Y-%m"), period=hours["slot"] % 10)


def contacts(file: Path) -> pd.DataFrame:
    """The contacts with intent, mood and style of their texts; equal texts are read once."""
    rows = pd.read_json(file, convert_dates=["date"])
    texts = rows["interaction_summary"].drop_duplicates()
    read = pd.DataFrame(
        {
            "interaction_summary": texts,
            "intent": texts.map(intent),
            "sentiment": [label(row) for row in Lexicon()(texts.tolist())],
            "length": texts.str.len(),
            "terse": texts.map(lambda text: _TERSE.fullmatch(text) is not None),
        }
    )
    return rows.merge(read, on="interaction_summary")


def compare(con: duckdb.DuckDBPyConnection, wanted: Sequence[Figure]) -> tuple[Compared, ...]:
    """Each figure beside its published value, the intervals holding together at CONFIDENCE."""
    z = critical(len(wanted))
    return tuple(_compared(con, figure, z) for figure in wanted)


def _compared(con: duckdb.DuckDBPyConnection, figure: Figure, z: float) -> Compared:
    drawn, interval = {"rate": _rate, "mean": _mean, "quantile": _quantile}[figure.kind](con, figure, z)
    return Compared(
        figure.name,
        figure.kind,
        figure.expected,
        drawn,
        interval.low,
        interval.high,
        interval.holds,
        figure.source,
    )


def _rate(con: duckdb.DuckDBPyConnection, figure: Figure, z: float) -> tuple[float, Interval]:
    hits, of = _one(con, figure, "count_if(value), count(*)")
    return hits / of, Interval(*shares(hits, of, figure.expected * figure.n, figure.n, z))


def _mean(con: duckdb.DuckDBPyConnection, figure: Figure, z: float) -> tuple[float, Interval]:
    mean, sd, of = _one(con, figure, "avg(value::double), stddev_samp(value::double), count(*)")
    low, high = means(mean, sd, of, figure.expected, figure.sd or sd, figure.n, z)
    return mean, Interval(low - figure.rounding, high + figure.rounding)


def _quantile(con: duckdb.DuckDBPyConnection, figure: Figure, z: float) -> tuple[float, Interval]:
    """The share below the published quantile is binomial whatever the tail; ties and rounding count for the figure."""
    at, low, high = figure.at, figure.expected - figure.rounding, figure.expected + figure.rounding
    drawn, below, up_to, of = _one(
        con,
        figure,
        f"quantile_cont(value, {at}), avg((value < {low})::int), avg((value <= {high})::int), "
        "count(distinct customer_id)",
    )
    share = min(max(float(at or 0), below), up_to)
    return drawn, Interval(*shares(share * of, of, float(at or 0) * figure.n, figure.n, z))


def _one(con: duckdb.DuckDBPyConnection, figure: Figure, what: str) -> tuple[float, ...]:
    having = f"select *, {figure.value} as value from {figure.of} where {figure.among}"
    row = con.execute(f"select {what} from ({having}) where value is not null").fetchone()
    if row is None or None in row or row[-1] < 2:
        raise DataError(
            f"the extract has too few rows for the figure '{figure.name}': draw more customers, 2,000 or so at least"
        )
    return tuple(float(cell) for cell in row)


def _best(truth: Path | None) -> tuple[float | None, float | None]:
    """Average precision of the true probabilities, given everything and given contract and market alone."""
    if truth is None:
        return None, None
    known = pd.read_parquet(truth / TRUTH_FILE)
    columns = ("churn_probability", "churn_probability_before_text")
    with_text, before = (float(average_precision_score(known["churn"], known[column])) for column in columns)
    return with_text, before


def markdown(found: Fidelity) -> str:
    """The report as a table, and what it says in one sentence."""
    lines = ["| figure | published | drawn | difference, simultaneous 95 % | |", "|---|---:|---:|---:|---|"]
    for figure in found.figures:
        mark = "" if figure.holds else "outside"
        where = " of share" if figure.kind == "quantile" else ""
        lines.append(
            f"| {figure.name} | {figure.published:,.4f} | {figure.drawn:,.4f} "
            f"| {figure.low:+.4f} to {figure.high:+.4f}{where} | {mark} |"
        )
    named = f": {', '.join(found.outside)}" if found.outside else ""
    lines += ["", f"{len(found.outside)} of {len(found.figures)} figures outside their interval{named}."]
    if found.best_with_text is not None:
        lines.append(
            f"Best possible average precision {found.best_with_text:.4f}, before the text {found.best_before_text:.4f}."
        )
    return "\n".join(lines)


def run(quick: bool) -> None:
    """Draw one utility, a small one if `quick`, and print its report."""
    with tempfile.TemporaryDirectory() as folder:
        raw, truth = Path(folder) / "raw", Path(folder) / "truth"
        customers = 2_500 if quick else CUSTOMERS
        write_extract(raw, customers=customers, seed=SEED, as_of=AS_OF, labelled=True, truth=truth)
        drawn = report(raw, AS_OF, truth)
    print(markdown(drawn))
    verdict = "kept" if len(drawn.outside) <= MOST_OUTSIDE else "MISSED"
    print(f"{len(drawn.outside)} figures outside; {verdict}, at most {MOST_OUTSIDE}")

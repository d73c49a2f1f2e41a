"""Labels that arrive after the scores: one file, read as text, checked, and joined to the customers it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pandas as pd

from spanishgas.errors import DataError, UsageError
from spanishgas.etl.labels import LEFT, OBSERVED, contradictions
from spanishgas.etl.quality import Quality
from spanishgas.etl.source import read_text
from spanishgas.raw_files import LABELS
from spanishgas.settings import settings
from spanishgas.training.sides import matures

ID, LABEL, WHEN = "customer_id", "churn", "label_date"
NAMED = 5
"""Examples that a message names."""


@dataclass(frozen=True)
class Labels:
    """A row per customer: customer_id, churn (0 or 1), label_date (None without), and observed_until if it is told."""

    rows: pd.DataFrame
    coverage: Sequence[str]
    """In words what was left out, and of whom they are."""

    @property
    def identity(self) -> list[object]:
        """The rows in any order."""
        return [self.rows.sort_values(ID).astype(str).to_csv(index=False), *self.coverage]


def read_labels(file: Path) -> Labels:
    """The labels in a CSV or Parquet file with the columns customer_id and churn, and the dates that there are.

    `churn_date` (or `label_date`) is when a customer left, `observed_until` until when nobody who left was missed.

    Raises `UsageError` for a file that is not there, `ContractError` for one that cannot be read, and `DataError` that
    counts and names the rows without an id, with another label than 0 or 1, with a date that is none, and the customers
    whose labels contradict each other.
    """
    if not file.is_file():
        raise UsageError(f"labels file '{file}' does not exist: give a CSV file with {ID} and {LABEL}")
    text = read_text(file, [ID, LABEL], optional=[LEFT, WHEN, OBSERVED]).to_pandas()
    text = text.rename(columns={LEFT: WHEN} if WHEN not in text else {})
    if text.empty:
        raise DataError(f"{file.name} holds no label: give a row per customer, {ID} and {LABEL}")
    rows = pd.DataFrame({ID: text[ID].str.strip(), LABEL: pd.to_numeric(text[LABEL], errors="coerce")})
    dates = text[WHEN] if WHEN in text else pd.Series(None, index=text.index, dtype="str")
    rows[WHEN] = _days(dates)
    if OBSERVED in text:
        rows[OBSERVED] = _days(text[OBSERVED])
        _refuse(file, text[OBSERVED][rows[OBSERVED].isna()], f"hold no date (YYYY-MM-DD) in '{OBSERVED}'")
    _refuse(file, text[ID][rows[ID].isna() | rows[ID].eq("")], f"have no {ID}")
    _refuse(file, text[LABEL][~rows[LABEL].isin([0, 1])], f"hold no label (0 or 1) in '{LABEL}'")
    _refuse(file, dates[dates.notna() & rows[WHEN].isna()], f"hold no date (YYYY-MM-DD) in '{WHEN}'")
    unlike = rows.groupby(ID)[LABEL].transform("nunique") > 1
    if unlike.any():
        raise DataError(
            f"{file.name} contradicts itself on {named(rows[ID][unlike])}: both 0 and 1 stand there. Leave one label "
            "each"
        )
    once = rows.drop_duplicates(ID).astype({LABEL: "int64"}).reset_index(drop=True)
    once[WHEN] = once[WHEN].astype(object).where(once[WHEN].notna(), None)
    repeated = len(rows) - len(once)
    return Labels(once, [f"{repeated:,} rows repeat an earlier one and count once."] if repeated else [])


def known_only(labels: Labels, scored: pd.Series, as_of: date) -> Labels:
    """The labels of customers who were scored.

    Raises `DataError` if nobody was scored, or if the others are more than the share that may go to quarantine
    (SPANISHGAS_MAX_QUARANTINED).
    """
    rows = labels.rows
    was_scored = rows[ID].isin(scored)
    strangers, limit = sorted(rows[ID][~was_scored]), settings().max_quarantined
    if not was_scored.any() or len(strangers) > limit * len(rows):
        raise DataError(
            f"{len(strangers):,} of {len(rows):,} labels are of customers not scored as of {as_of}: "
            f"{named(strangers)}. At most {limit:.0%} may be (SPANISHGAS_MAX_QUARANTINED): check the ids, or name the "
            "scores that they belong to with --as-of"
        )
    rows = rows[was_scored].reset_index(drop=True)
    words = [
        f"{len(rows):,} of {len(scored):,} scored customers have a label ({len(rows) / len(scored):.0%})."
    ]
    if strangers:
        words.append(f"{len(strangers):,} labels are of customers who were not scored; they are left out.")
    return Labels(rows, [*words, *labels.coverage])


def matured(labels: Labels, as_of: date, horizon_months: int) -> Labels:
    """The labels as they stand when the horizon after `as_of` is over: who left later had not left within it.

    Raises `DataError` if dates contradict a label, by the ETL's rules, or if more stayers than the share that may go to
    quarantine (SPANISHGAS_MAX_QUARANTINED) were not observed so long: they may leave yet, and to count them as stayers
    would look like fewer reasons to leave.
    """
    end = matures(as_of, horizon_months)
    _refuse_contradictions(labels.rows, as_of, end)
    later = labels.rows[WHEN].map(lambda day: day is not None and day > end).astype(bool)
    rows = labels.rows.assign(**{LABEL: labels.rows[LABEL].mask(later, 0)})
    words = (
        [f"{int(later.sum()):,} left after {end}, which is not within the horizon."] if later.any() else []
    )
    if OBSERVED not in rows:
        return Labels(rows, [*labels.coverage, *words])
    unripe, limit = rows[LABEL].eq(0) & (rows[OBSERVED] < end), settings().max_quarantined
    if unripe.sum() > limit * len(rows):
        raise DataError(
            f"{int(unripe.sum()):,} of {len(rows):,} labels have not matured: those customers had not left by "
            f"{rows[OBSERVED][unripe].max()}, but the horizon ends on {end} ({horizon_months} months after the scores, "
            f"label_horizon_months in policy.yaml). Labels of {as_of} are complete from that day on: wait for it"
        )
    if unripe.any():
        words.append(f"{int(unripe.sum()):,} were not observed until {end} and are left out.")
    return Labels(rows[~unripe].drop(columns=OBSERVED).reset_index(drop=True), [*labels.coverage, *words])


def _refuse_contradictions(rows: pd.DataFrame, as_of: date, end: date) -> None:
    dated = rows.rename(columns={WHEN: LEFT}).reindex(columns=[ID, LABEL, LEFT, OBSERVED])
    days = dated.astype({LEFT: "datetime64[s]", OBSERVED: "datetime64[s]"})
    for rule, broken in contradictions(days, pd.Timestamp(as_of), pd.Timestamp(end)).items():
        if broken.any():
            raise DataError(
                f"{int(broken.sum()):,} rows {Quality().words(LABELS, rule)}: {named(rows[ID][broken])}. The scores "
                f"are as of {as_of}, the horizon ends on {end}: mend the labels, or name their scores with --as-of"
            )


def _days(texts: pd.Series) -> pd.Series:
    days: pd.Series = pd.to_datetime(texts, format="ISO8601", errors="coerce").dt.date
    return days


def _refuse(file: Path, bad: pd.Series, words: str) -> None:
    """Rows as an editor counts them: the header is row 1."""
    if len(bad):
        where = ", ".join(str(int(row) + 2) for row in bad.index[:NAMED])
        value = bad.iloc[0]
        example = "" if pd.isna(value) else f", for example '{value}'"
        raise DataError(
            f"{len(bad):,} rows of {file.name} {words}{example} (row {where}). Mend them and run again"
        )


def named(ids: Sequence[str] | pd.Series) -> str:
    """The first few of the ids, in quotes, and how many more there are."""
    names = list(dict.fromkeys(ids))
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:NAMED]) + more

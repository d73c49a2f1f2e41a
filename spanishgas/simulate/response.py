"""What an offer does to each customer: the truth about persuading, of which no raw file tells.

    persuadable  would leave, stays with the offer      lost cause    leaves either way
    sure thing   stays either way                       sleeping dog  would stay, is woken by the offer and leaves

A customer leans towards offers (positive) or against being bothered (negative), by tenure, fuels, sensitivity to
prices, what the last contact was about and a temperament of its own. An offer keeps a share of those who would leave,
in proportion to a positive lean, and wakes a share of those who would stay, in proportion to a negative one. One
uniform draw a customer and date decides for all offers, so whom a small offer keeps, a larger one of the same lean
keeps as well; without an offer the outcome is the one that was drawn before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spanishgas.config.policy import ACTIONS
from spanishgas.contracts.tables import INTENTS
from spanishgas.errors import DataError, UsageError
from spanishgas.lake import Lake
from spanishgas.lake.tables import MANIFEST
from spanishgas.simulate.contacts import NONE, SENTIMENTS
from spanishgas.simulate.figures import figures
from spanishgas.simulate.population import CHANNELS, Floats
from spanishgas.simulate.streams import BLOCK, Draws, Stream

RESPONSE = figures("response")
OFFERS = ACTIONS[1:]
TYPES = np.array([["sure thing", "sleeping dog"], ["lost cause", "persuadable"]], dtype=object)
"""Type by outcome without the offer (rows: stays, leaves) and whether the offer changes it."""
MOST = 0.95
"""Largest share that an offer changes."""


@dataclass(frozen=True)
class Response:
    """Outcomes of a block's customers under each offer, shape (offers, customers)."""

    churn: NDArray[np.bool_]
    probability: Floats
    """Probability of churn under the offer, given everything the files show."""
    types: NDArray[np.object_]


def draw_response(
    draws: Draws,
    as_of: date,
    seen: pd.DataFrame,
    topic: NDArray[np.int64],
    outcome: NDArray[np.bool_],
    after: Floats,
    strength: float,
) -> Response:
    """The response to each offer; `after` is the probability of churn without one, `strength` 0 leaves all as it is."""
    temperament = draws.rng(Stream.RESPONSE).standard_normal(BLOCK)
    luck = draws.rng(Stream.RESPONSE, as_of.toordinal()).random(BLOCK)
    lean = _lean(seen, topic, temperament)
    keeps = np.clip(strength * RESPONSE.keeps[:, None] * np.maximum(lean, 0), 0, MOST)
    wakes = np.clip(strength * RESPONSE.wakes * np.maximum(-lean, 0), 0, MOST)
    changed = np.where(outcome, luck < keeps, luck < wakes)
    return Response(
        churn=outcome ^ changed,
        probability=after * (1 - keeps) + (1 - after) * wakes,
        types=TYPES[outcome.astype(int), changed.astype(int)],
    )


def _lean(seen: pd.DataFrame, topic: NDArray[np.int64], temperament: Floats) -> Floats:
    """How far each customer leans towards each offer, shape (offers, customers)."""
    compared = seen["channel"].to_numpy() == CHANNELS.index("comparador")
    rising = np.nan_to_num(seen["trend"].to_numpy()) > RESPONSE.rising
    signs = [compared, _about(topic, "Pricing Offers"), rising, seen["high_competition"].to_numpy()]
    sensitive = RESPONSE.price @ np.stack(signs)
    angry = (topic != NONE) & (topic % len(SENTIMENTS) == SENTIMENTS.index("negative"))
    out: Floats = (
        RESPONSE.level
        + sensitive
        + np.interp(seen["tenure"], RESPONSE.tenure_knots, RESPONSE.tenure)
        + RESPONSE.dual * seen["dual"].to_numpy()
        + RESPONSE.silent * (topic == NONE)
        + RESPONSE.angry * angry
        + RESPONSE.resolved * _about(topic, "Cancellation / Switch")
        + RESPONSE.temperament * temperament
        + np.outer(RESPONSE.tilt, sensitive - 1)
    )
    return out


def _about(topic: NDArray[np.int64], intent: str) -> NDArray[np.bool_]:
    return np.asarray((topic != NONE) & (topic // len(SENTIMENTS) == INTENTS.index(intent)))


def offers_made(source: str, as_of: date) -> pd.Series:
    """The offers made as of `as_of`, by customer: of a file or snapshot with customer_id and offer, or of a lake.

    Where a column `arm` says `control`, no offer was made. Raises `UsageError` for a source or offer that is not
    there, `DataError` for a customer who stands twice or a campaign of another date.
    """
    place = Path(source)
    if place.is_file() or (place / MANIFEST).is_file():
        log = pd.read_csv(place, dtype="str") if place.suffix == ".csv" else pd.read_parquet(place)
    else:
        log = Lake(source).current("treatments", as_of).pandas()
    if missing := [name for name in ("customer_id", "offer") if name not in log]:
        raise UsageError(f"{source} has no column {', '.join(missing)}: give customer_id and offer")
    if twice := log["customer_id"][log["customer_id"].duplicated()].tolist():
        raise DataError(
            f"{len(twice)} customers are in two arms of {source}, such as '{twice[0]}': give each one row"
        )
    other = log["as_of"].astype("str").ne(str(as_of)) if "as_of" in log else pd.Series(dtype=bool)
    if other.any():
        raise DataError(
            f"{source} is of {log['as_of'][other].iloc[0]}, not {as_of}: name the campaign's date by --as_of"
        )
    made = log[
        log["offer"].isin(ACTIONS[:1]).eq(False) & log.get("arm", pd.Series("offer", log.index)).eq("offer")
    ]
    for offer in made["offer"].unique():
        if offer not in OFFERS:
            raise UsageError.unknown(f"offer in {source}", str(offer), ACTIONS)
    return made.set_index("customer_id")["offer"]


def refuse_strangers(offers: pd.Series, ids: pd.Series) -> None:
    """DataError where an offer was made to somebody else than the customers `ids`."""
    if strangers := sorted(set(offers.index) - set(ids)):
        raise DataError(
            f"{len(strangers):,} treated customers are not in this extract, such as '{strangers[0]}': take the seed, "
            "--customers and --as_of of the one that was scored"
        )

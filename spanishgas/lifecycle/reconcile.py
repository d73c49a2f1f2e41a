"""What every score does first: see that the alias has moved, write that down, and refuse what has no passed verdict.

One whose bytes are not those that were judged is refused too, whoever let it pass.
"""

from __future__ import annotations

from spanishgas.lifecycle import promotion, registry
from spanishgas.lifecycle.version import Version


def scorable(which: str) -> Version:
    """The version behind `which`, if it may score: moves are settled first, and its verdict must have passed.

    Raises TrackingError that names the verdict and the ways out, DataError for other bytes than were judged.
    """
    promotion.seen()
    version = registry.resolve(which)
    version.require()
    return version.checked()

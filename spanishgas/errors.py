"""What can go wrong, in words a user can act on.

Every failure that a user can cause or mend is a `SpanishGasError`: one message that names the thing, the value and
the way out. The command line prints that message alone and exits with the class's code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpanishGasError(Exception):
    """A failure with a message for the user; `exit_code` is what the process ends with."""

    exit_code = 1


class UsageError(SpanishGasError):
    """The caller's arguments or configuration are at fault (exit code 2)."""

    exit_code = 2

    @classmethod
    def unknown(cls, what: str, value: str, allowed: Iterable[str]) -> UsageError:
        """`value` is not one of `allowed`; the nearest of them is suggested."""
        names = sorted(allowed)
        folded = {name.casefold(): name for name in names}
        near = difflib.get_close_matches(value.casefold(), folded, n=1)
        hint = f" Did you mean '{folded[near[0]]}'?" if near else ""
        return cls(f"unknown {what} '{value}': expected one of {', '.join(names)}.{hint}")


class TooEarly(UsageError):
    """What is asked for needs data that is not known yet."""


class DataError(SpanishGasError):
    """The data cannot be used as it stands (exit code 1)."""


class ContractError(DataError):
    """A table breaks its contract; the message lists what differs, cut at a named limit."""

    LISTED = 20

    @classmethod
    def broken(cls, table: str, faults: Iterable[str], way_out: str) -> ContractError:
        """`table` breaks its contract in each of `faults`; `way_out` says what to do about it."""
        lines = list(faults)
        shown = [f"  - {line}" for line in lines[: cls.LISTED]]
        if len(lines) > cls.LISTED:
            shown.append(f"  ... and {len(lines) - cls.LISTED} more")
        return cls("\n".join([f"{table} breaks its contract:", *shown, way_out]))


class LakeError(DataError):
    """A snapshot is missing, damaged or was replaced by somebody else."""


class TrackingError(SpanishGasError):
    """The MLflow server cannot be reached, or lacks what was asked of it."""

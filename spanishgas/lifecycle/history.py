"""Every move of `champion` and every approval, in order: a registered model's tags `move.0001`, `move.0002`, ...

A move is written before anything is moved, so that one cut short is completed by the next command. A move made
elsewhere (in the UI, by another client) leaves no trace in MLflow: it is written down when it is first seen.

What becomes of a version is believed from here alone, where promoters write: its tags say the same for the UI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import BaseModel, ConfigDict, ValidationError

from spanishgas.errors import TrackingError
from spanishgas.rendering import markdown
from spanishgas.settings import registered_model

CHAMPION, PROBATION = "champion", "probation"
"""The alias whose version scores, and the tag that says in words how that one fares beside the one before it."""
_MOVE = re.compile(r"move\.[0-9]{4,9}")
LONGEST = 2000
"""Characters of a reason that are kept."""
ELSEWHERE = "by another client of the server; seen at this time"


class How(StrEnum):
    """What kind of move it was."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    CONFIRMED = "confirmed"
    """The champion stayed where it was, and an override was recorded for it."""
    ELSEWHERE = "moved elsewhere"
    APPROVED = "approved"
    """Nothing moved: somebody approved of a version's verdict."""


class MoveState(StrEnum):
    """How far a move came."""

    BEGUN = "begun"
    DONE = "done"
    ABANDONED = "abandoned"
    """Cut short, and another client moved the champion before it could be completed."""


class Move(BaseModel):
    """One move of `champion`; `version` is None where another client took the alias away."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int
    how: How
    version: str | None
    replaced: str | None
    reason: str
    by: str
    at: str
    verdict: str | None = None
    """Digest of the verdict that the version had."""
    override: str | None = None
    """Why it was moved without a passed verdict."""
    undoes: int | None = None
    """Number of the move that a rollback takes back."""
    approved_by: str | None = None
    run_id: str | None = None
    state: MoveState = MoveState.BEGUN

    @property
    def key(self) -> str:
        """The tag that holds it."""
        return f"move.{self.number:04d}"

    @classmethod
    def read(cls, key: str, text: str) -> Move:
        """The move that a tag holds; TrackingError where it holds none."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as fault:
            raise TrackingError(
                f"the tag {key} of {registered_model()} holds no move ({fault.errors()[0]['msg']}), so nobody "
                "can tell which version may score: an administrator puts it back as it was, or removes it"
            ) from fault


class MoveRecord(BaseModel):
    """Moves and aliases of the registered model, from one reading."""

    model_config = ConfigDict(frozen=True)

    moves: list[Move] = []
    aliases: dict[str, str] = {}

    @property
    def champion(self) -> str | None:
        """Where `champion` points to."""
        return self.aliases.get(CHAMPION)

    @property
    def done(self) -> list[Move]:
        """Moves that took place, oldest first."""
        return [m for m in self.moves if m.state is MoveState.DONE and m.how is not How.APPROVED]

    @property
    def newest(self) -> Move | None:
        """The newest move that took place and left `champion` elsewhere than it was."""
        return next((m for m in reversed(self.done) if m.how is not How.CONFIRMED), None)

    @property
    def pending(self) -> Move | None:
        """A move that was begun and not completed."""
        return next((m for m in self.moves if m.state is MoveState.BEGUN), None)

    @property
    def recorded(self) -> str | None:
        """Where the newest move that took place left `champion`."""
        return self.done[-1].version if self.done else None

    @property
    def settled(self) -> bool:
        """Whether nothing is pending and `champion` is where the newest move left it."""
        return self.pending is None and self.unseen is None

    @property
    def unseen(self) -> Move | None:
        """The move that another client must have made since the newest one on record, not yet written down."""
        if self.champion == self.recorded:
            return None
        return Move(
            number=len(self.moves) + 1,
            how=How.ELSEWHERE,
            version=self.champion,
            replaced=self.recorded,
            reason=ELSEWHERE,
            by="unknown",
            at=now(),
        )

    @property
    def arrival(self) -> Move | None:
        """The move that made the champion what it is, unless it came back by a rollback."""
        move = self.newest
        return move if move and move.how is not How.ROLLED_BACK and move.version else None

    def before(self, version: str, usable: Collection[str]) -> str | None:
        """The champion before `version` became it, passing over those not `usable`; None if the record names none."""
        arrivals = {m.version: m.replaced for m in self.done if m.how in (How.PROMOTED, How.ELSEWHERE)}
        passed: set[str | None] = {None, version}
        while (earlier := arrivals.get(version)) not in passed:
            version = str(earlier)
            if version in usable:
                return version
            passed.add(version)
        return None

    def seal(self, version: str) -> str | None:
        """Digest of a version's verdict, as the first move that names the version has it: it never changes."""
        return next((m.verdict for m in self.moves if m.version == version and m.verdict), None)

    def rolled_back(self, version: str) -> str | None:
        """Why champion was last moved back from a version; None where it never was."""
        back = (m.reason for m in self.done[::-1] if m.how is How.ROLLED_BACK and m.replaced == version)
        return next(back, None)

    def override(self, version: str) -> str | None:
        """Who let a version pass in spite of its verdict, when and why, unless it was rolled back since."""
        for m in self.done[::-1]:
            if m.how is How.ROLLED_BACK and m.replaced == version:
                return None
            if m.version == version and m.override:
                return f"{m.override} ({m.by}, {m.at})"
        return None

    def approvals(self, version: str, verdict: str | None) -> list[Move]:
        """Approvals of a version's very verdict, oldest first."""
        approvals = [m for m in self.moves if m.how is How.APPROVED and m.state is MoveState.DONE]
        return [m for m in approvals if (m.version, m.verdict) == (version, verdict)]


def read() -> MoveRecord:
    """The record as it stands; empty without a registered model, TrackingError where a move cannot be read."""
    try:
        model = MlflowClient().get_registered_model(registered_model())
    except MlflowException as fault:
        if fault.error_code == "RESOURCE_DOES_NOT_EXIST":
            return MoveRecord()
        raise
    moves = [Move.read(key, text) for key, text in model.tags.items() if _MOVE.fullmatch(key)]
    return MoveRecord(
        moves=sorted(moves, key=lambda move: move.number),
        # The SQL store gives integers.
        aliases={alias: str(version) for alias, version in model.aliases.items()},
    )


def write(move: Move) -> None:
    """Put a move into the record, or its new state over the old."""
    MlflowClient().set_registered_model_tag(registered_model(), move.key, move.model_dump_json())


def now() -> str:
    """This moment in UTC, as moves and tags hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def as_json(record: MoveRecord, probation: Mapping[str, str] = MappingProxyType({})) -> str:
    """The history as JSON, oldest first, with a move that nobody has written down yet."""
    return json.dumps(
        [m.model_dump(mode="json") | beside for m, beside in _told(record, probation)], indent=1
    )


def as_markdown(record: MoveRecord, probation: Mapping[str, str] = MappingProxyType({})) -> str:
    """The history as a table, oldest first, with a move that nobody has written down yet."""
    lines = [
        "| move | when (UTC) | what | champion | replaced | by | why | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for m, beside in _told(record, probation):
        what = m.how if m.state is MoveState.DONE else f"{m.how} ({m.state})"
        notes = ({"override": m.override} if m.override else {}) | beside
        why = [markdown(m.reason), *(f"[{name}: {markdown(words)}]" for name, words in notes.items())]
        when = m.at.removesuffix("+00:00").replace("T", " ")
        cells = [
            m.number,
            when,
            what,
            m.version or "none",
            m.replaced or "none",
            markdown(m.by),
            " ".join(why),
        ]
        lines.append(f"| {' | '.join(map(str, [*cells, (m.verdict or 'none')[:12]]))} |")
    return "\n".join(lines) if len(lines) > 2 else "No champion was ever named."


def _told(record: MoveRecord, probation: Mapping[str, str]) -> list[tuple[Move, dict[str, str]]]:
    """Every move; beside the newest that made a version champion, how that one fares."""
    unseen = record.unseen if record.pending is None else None
    moves = [*record.moves, *([unseen] if unseen else [])]
    newest = {m.version: m.number for m in moves if m.how in (How.PROMOTED, How.ELSEWHERE)}
    on_probation = {
        newest[version]: {PROBATION: words} for version, words in probation.items() if version in newest
    }
    return [(m, on_probation.get(m.number, {})) for m in moves]

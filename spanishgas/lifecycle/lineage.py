"""Where scores come from: from a score back through version, verdict, gold, silver and bronze to the raw files.

Every link is held against what was recorded of it: a table is hashed again, a verdict compared with its digest. What
is gone or differs is said on the link; the walk goes on with the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from spanishgas.errors import SpanishGasError, UsageError
from spanishgas.etl.source import open_source
from spanishgas.lake import LAYERS, Lake, Snapshot, content, location
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import VERDICT
from spanishgas.settings import of_offers, registered_model

SHOWN = 12
"""Characters of a digest that people see."""


@dataclass(frozen=True)
class Link:
    """One thing that scores come from, what is recorded of it, what is wrong with it, and what it came from."""

    what: str
    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    sources: list[Link] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Every fault of this link and of those below it."""
        below = [fault for source in self.sources for fault in source.broken]
        return [*(f"{self.what}: {fault}" for fault in self.faults), *below]


def lineage(which: str, lake: Lake) -> Link:
    """The links behind `which`: a score file or its folder, "gold", a version number or alias, or a customer's id."""
    walk = _LineageWalk(lake)
    if which in ("gold", "gold_master"):
        return walk.table(lake.current("gold_master"))
    if which in set(Alias) or (which.isdigit() and which in {v.number for v in registry.versions()}):
        return walk.version(which)
    place = f"{location(which)}/"
    for snapshot, _ in lake.snapshots():
        if place.startswith(f"{snapshot.uri}/"):
            return walk.table(snapshot)
    return walk.customer(which)


class _LineageWalk:
    """One walk; a table that is met twice is hashed once."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.known: dict[str, Link] = {}

    def customer(self, which: str) -> Link:
        """The newest scores of a customer; UsageError where they hold none of this id."""
        scores = self.lake.current("scores")
        table = scores.pandas()
        rows = table[table["customer_id"] == which]
        if rows.empty:
            raise UsageError(
                f"'{which}' is no score file, version, alias or table of {self.lake.root}, and no customer of the "
                "newest scores: give one of these, or `gold`"
            )
        facts = {str(name): str(value) for name, value in rows.iloc[0].items() if name != "customer_id"}
        return Link(f"customer {which}", facts, [], [self.table(scores)])

    def table(self, snapshot: Snapshot) -> Link:
        """A table of the lake and what it was built from."""
        manifest = snapshot.manifest
        if manifest.digest not in self.known:
            run, lost = _run(manifest.run_id)
            facts = {
                "as of": manifest.as_of.isoformat(),
                "rows": f"{manifest.rows:,}",
                "digest": manifest.digest,
                "code": _code(manifest.code),
                "uri": snapshot.uri,
            }
            sources = [self.source(*built_from, snapshot, run) for built_from in manifest.built_from.items()]
            faults = [*_table_faults(snapshot), *lost]
            self.known[manifest.digest] = Link(manifest.table, facts, faults, sources)
        return self.known[manifest.digest]

    def source(self, name: str, recorded: str, of: Snapshot, run: Run | None) -> Link:
        """What a table names as its source: a table, a raw file, or the version that scored."""
        for offers in (False, True):
            with of_offers(offers):
                if name == registered_model():
                    return self.version(recorded)
        if name.startswith("raw/"):
            return self.raw(name, recorded, of, run)
        table = name.split()[0]  # of another day, with that day
        return self.at(table, recorded) if table in LAYERS else Link(name, {"digest": recorded})

    def at(self, table: str, digest: str) -> Link:
        """A table by the digest that somebody recorded."""
        try:
            return self.table(self.lake.by_digest(digest, table))
        except SpanishGasError as fault:
            return Link(table, {"digest": digest}, [str(fault)])

    def raw(self, name: str, recorded: str, of: Snapshot, run: Run | None) -> Link:
        """A raw file, hashed again where the run that read it found it; in this lake, if that was in the lake."""
        tags = run.data.tags if run else {}
        place = location(tags.get("raw") or self.lake.raw(of.manifest.as_of))
        # The lake may have been moved or copied since.
        before = location(tags.get(of.manifest.table, of.uri)).removesuffix(of.key)
        folder = self.lake.store.uri(place.removeprefix(before)) if place.startswith(before) else place
        if folder not in self.known:
            self.known[folder] = Link(folder)
            with suppress(SpanishGasError):
                self.known[folder].facts.update(open_source(folder, None, self.lake.store.downloads).digests)
        digests = self.known[folder].facts
        faults = []
        if name not in digests:
            faults.append(f"is no longer in {folder}")
        elif digests[name] != recorded:
            faults.append(f"has another digest in {folder}: {digests[name][:SHOWN]}")
        return Link(name, {"digest": recorded, "folder": folder}, faults)

    def version(self, which: str) -> Link:
        """A version of the registered model, its verdict, and the table that it was trained on."""
        try:
            version = registry.resolve(which)
        except SpanishGasError as fault:
            return Link(f"version {which}", {}, [str(fault)])
        (run, lost), sources = _run(version.run_id), list[Link]()
        tags = run.data.tags if run else {}
        facts = {
            "experiment": "?",
            "verdict": f"{version.tags.get(VERDICT, 'missing')}, {(version.digest or 'no digest')[:SHOWN]}",
            "code": _code({k[5:]: v for k, v in tags.items() if k.startswith("code.")}),
            "run": version.run_id,
            **({"override": version.override} if version.override else {}),
        }
        faults = [*([version.fault] if version.fault else []), *lost]
        try:
            record = version.judged.record
            facts["experiment"] = record.subject
            sources += [self.at(*source) for source in record.sources]
            version.checked()
        except SpanishGasError as fault:
            faults.append(str(fault) if sources else "does not say which table it was trained on")
        return Link(f"version {version.number}", facts, faults, sources)


def _table_faults(snapshot: Snapshot) -> list[str]:
    manifest = snapshot.manifest
    faults = [f"{e.rows} rows were erased on {e.on}" for e in manifest.erased]
    try:
        digest, _, _ = content(snapshot.dataset())
    except (SpanishGasError, OSError, ValueError) as fault:
        return [*faults, f"cannot be read: {fault}"]
    if digest != manifest.digest:
        faults.append(f"its rows have another digest: {digest[:SHOWN]}")
    return faults


def _run(run_id: str | None) -> tuple[Run | None, list[str]]:
    """The run of this id, if one is named, and what is wrong with it."""
    try:
        return (MlflowClient().get_run(run_id) if run_id else None), []
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None, [f"its run {run_id} is gone from the tracking server"]


def _code(recorded: Mapping[str, str]) -> str:
    if "commit" not in recorded:
        return "not recorded"
    return recorded["commit"][:SHOWN] + (" (dirty)" if recorded.get("dirty") == "true" else "")


def as_json(link: Link) -> str:
    """The whole walk as JSON."""
    return json.dumps(asdict(link), indent=1)


def as_tree(link: Link) -> str:
    """The walk as a tree, and how many of its links are broken."""
    count = len(link.broken)
    ending = (
        f"{count} fault{'s' * (count > 1)}, marked with !"
        if count
        else "every link is there and has its digest"
    )
    return "\n".join([*_lines(link, "", ""), ending])


def _lines(link: Link, first: str, rest: str) -> Iterator[str]:
    long = ("digest", "uri", "folder")
    facts = [f"{name} {value}" for name, value in link.facts.items() if name not in long]
    digest = [link.facts["digest"][:SHOWN]] if "digest" in link.facts else []
    yield first + ", ".join([link.what, *digest, *facts])
    for fault in link.faults:
        yield f"{rest}{'│  ' if link.sources else '   '}! {fault}"
    for number, source in enumerate(link.sources):
        last = number == len(link.sources) - 1
        yield from _lines(source, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def produced(version: str, lake: Lake) -> list[tuple[Snapshot, bool]]:
    """Score snapshots that a version made, and the recommendations built from them, with whether each is current."""
    name, snapshots = registered_model(), lake.snapshots()
    scores = {s.manifest.digest for s, _ in snapshots if s.manifest.built_from.get(name) == version}
    return [
        (snapshot, current)
        for snapshot, current in snapshots
        if {snapshot.manifest.digest, snapshot.manifest.built_from.get("scores")} & scores
    ]

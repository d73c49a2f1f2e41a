"""The data stages as MLflow runs: drawing an extract of the synthetic utility, and building its tables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from spanishgas.errors import UsageError
from spanishgas.etl.build import EtlReport, build
from spanishgas.etl.overlaps import overlaps
from spanishgas.etl.quality import Quality, markdown, metrics
from spanishgas.lake import SCHEME, Lake, Place, S3Store, location, open_store
from spanishgas.lifecycle import runs
from spanishgas.lifetime import temporary_folder
from spanishgas.simulate import write_extract
from spanishgas.simulate.response import offers_made

log = logging.getLogger("spanishgas")


def simulate(
    out: Place,
    *,
    as_of: date,
    treatments: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **drawn: Any,
) -> Place:
    """Draw one extract into `out` (a folder or an s3:// prefix); gives where the truth lies, apart from it.

    `drawn` says what else `write_extract` is to know: customers, seed, labelled, effect, and the shift, if any.
    `treatments` says where `offers_made` reads which offers the labels are drawn under.
    """
    out = open_store(out).root
    truth, params = truth_of(out), {"as_of": as_of, "shift": "none", **drawn}
    title = f"simulate {drawn['customers']:,} customers as of {as_of}"
    offers = offers_made(treatments, as_of) if treatments else None
    with runs.stage("simulate", title, params=params | {"treatments": treatments or "none"}) as run:
        with _drawn(out, truth) as (raw, true):
            write_extract(raw, **params, treatments=offers, truth=true, progress=progress)
        run.log(tags={"raw": location(out), "truth": location(truth)})
    return truth


@contextmanager
def _drawn(out: Place, truth: Place) -> Iterator[tuple[Path, Path]]:
    """Local folders to draw into; where `out` is on S3, what lies in them then goes there, the truth first."""
    if not str(out).startswith(SCHEME):
        yield Path(out), Path(truth)
        return
    if S3Store(str(out)).listing():
        raise UsageError(f"{out} exists already: remove it or name a prefix that holds nothing")
    with temporary_folder() as work:
        yield Path(work, "raw"), Path(work, "truth")
        for name, store in (("truth", S3Store(str(truth))), ("raw", S3Store(str(out)))):
            for file in sorted(Path(work, name).iterdir()):
                store.put(file, file.name)


def truth_of(raw: Place) -> Place:
    """Where the truth of a drawn extract lies: <lake>/truth/<as_of>, or beside a folder elsewhere."""
    above, _, name = str(raw).rstrip("/").rpartition("/")
    beside = above == "raw" or above.endswith("/raw")
    truth = f"{above.removesuffix('raw')}truth/{name}" if beside else f"{str(raw).rstrip('/')}-truth"
    return truth if "://" in truth else Path(truth)


def etl(
    raw: Path | str, *, lake: Lake, as_of: date, engine: str = "duckdb", mapping: Path | None = None
) -> EtlReport:
    """Build bronze, silver and gold of one extract; tables that are up to date are left as they are.

    The run gets the data-quality report (quality.json, quality.md, metrics), as far as it came where a table stops the
    build. It holds counts, shares and ranges; rows stay in the lake.
    """
    params = {"raw": raw, "as_of": as_of, "engine": engine, "mapping": mapping or "auto"}
    tags = {"raw": location(raw), runs.LAKE: location(lake.root)}
    with runs.stage("etl", f"etl as of {as_of}", params=params, tags=tags) as run:
        quality = Quality()
        try:
            report = build(
                raw,
                lake,
                as_of,
                engine=engine,
                mapping=mapping,
                run_id=run.run_id,
                quality=quality,
                progress=lambda _: None,
            )
        finally:
            run.log(metrics=metrics(quality.report))
            run.document(quality.report, "quality.json")
            run.text(markdown(quality.report), "quality.md")
        snapshots = report.snapshots.items()
        run.log(tags={name: snapshot.uri for name, snapshot in snapshots} | {"reused": report.reused})
        rows = [f"| {name} | {s.manifest.rows:,} | {s.manifest.snapshot} |" for name, s in snapshots]
        for words in (told := overlaps(lake, as_of)):
            log.warning(words)
        run.describe("\n".join(["| table | rows | snapshot |", "|---|---|---|", *rows, "", *told]))
    return report

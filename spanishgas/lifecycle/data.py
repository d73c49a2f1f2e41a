"""The data stages as MLflow runs: drawing an extract of the synthetic utility, and building its tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from spanishgas.etl import EtlReport, build
from spanishgas.etl import report as quality_report
from spanishgas.etl.quality import Quality
from spanishgas.evaluation import likeness
from spanishgas.lake import Lake
from spanishgas.lifecycle import runs
from spanishgas.simulate import write_extract


def simulate(
    out: Path,
    *,
    customers: int,
    seed: int,
    as_of: date,
    labelled: bool,
    shift: str = "none",
    progress: Callable[[int, int], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Draw one extract into `out`, and the true churn probabilities apart from it; gives the folder of the truth.

    `report` is handed the comparison with the published figures, as Markdown; the run keeps it too.
    """
    truth = truth_of(out)
    params = {"customers": customers, "seed": seed, "as_of": as_of, "labelled": labelled, "shift": shift}
    with runs.stage("simulate", f"simulate {customers:,} customers as of {as_of}", params=params) as run:
        write_extract(
            out,
            customers=customers,
            seed=seed,
            as_of=as_of,
            labelled=labelled,
            shift=shift,
            truth=truth,
            progress=progress,
        )
        run.log(tags={"raw": out.resolve().as_uri(), "truth": truth.resolve().as_uri()})
        if report is not None:
            report(_likeness(run, likeness.report(out, as_of, truth)))
    return truth


def _likeness(run: runs.StageRun, found: likeness.Likeness) -> str:
    table = likeness.markdown(found)
    run.log(
        metrics={
            "figures.outside": len(found.outside),
            "best.average_precision": found.best_with_text or 0.0,
            "best.average_precision_before_text": found.best_before_text or 0.0,
        }
    )
    run.document(found.data(), "likeness.json")
    run.text(table, "likeness.md")
    return table


def truth_of(raw: Path) -> Path:
    """Where the truth of a drawn extract lies: <lake>/truth/<as_of>, or beside a folder elsewhere."""
    if raw.parent.name == "raw":
        return raw.parent.parent / "truth" / raw.name
    return raw.with_name(f"{raw.name}-truth")


def etl(
    raw: Path | str,
    *,
    lake: Lake,
    as_of: date,
    engine: str = "duckdb",
    mapping: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> EtlReport:
    """Build bronze, silver and gold of one extract; tables that are up to date are left as they are.

    The run gets the data-quality report (quality.json, quality.md, metrics), as far as it came where a table stops the
    build. It holds counts, shares and ranges; rows stay in the lake.
    """
    params = {"raw": raw, "as_of": as_of, "engine": engine, "mapping": mapping or "auto"}
    place = str(raw) if "://" in str(raw) else Path(raw).resolve().as_uri()
    with runs.stage("etl", f"etl as of {as_of}", params=params, tags={"raw": place}) as run:
        quality = Quality()
        try:
            report = build(
                raw,
                lake,
                as_of,
                engine=engine,
                mapping=mapping,
                run_id=run.run_id,
                progress=progress,
                quality=quality,
            )
        finally:
            run.log(metrics=quality_report.metrics(quality.report))
            run.document(quality.report, "quality.json")
            run.text(quality_report.markdown(quality.report), "quality.md")
        run.log(
            tags={name: snapshot.uri for name, snapshot in report.snapshots.items()}
            | {"reused": report.reused},
        )
        rows = "\n".join(
            f"| {n} | {s.manifest.rows:,} | {s.manifest.snapshot} |" for n, s in report.snapshots.items()
        )
        run.describe(f"| table | rows | snapshot |\n|---|---|---|\n{rows}")
    return report

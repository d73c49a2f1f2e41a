"""The verbs of the whole chain, of what its champion does, and of a look at all that they need and made."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from typer import echo

from spanishgas.cli import options
from spanishgas.cli.options import AUTO, HERE, require_tracking
from spanishgas.errors import DataError, SpanishGasError
from spanishgas.progress import bar, show


def main(
    customers: options.Customers = 10_000,
    trials: options.Trials = 8,
    lake: options.Place = HERE,
    seed: options.Seed = 7,
) -> None:
    """Run the whole chain, from raw files to ladder, champion, scores and drift report; reuse what is unchanged."""
    from spanishgas import pipeline

    require_tracking()
    show(pipeline.main(customers, trials, lake=lake, seed=seed, progress=bar))


def retrain(lake: options.Place = HERE, trials: options.Trials = 8, seed: options.Seed = 7) -> None:
    """Train the champion's experiment again on the newest labels, and promote it if gate and policy say so."""
    from spanishgas import pipeline

    require_tracking()
    echo(pipeline.retrain(trials, lake=lake, seed=seed, progress=bar).outcome)


def recalibrate(lake: options.Place = HERE) -> None:
    """Fit the champion's calibration and threshold to the newest labels, and promote it if gate and policy say so.

    The model itself stays: it ranks as it did, by the same inputs. `spanishgas outcomes` says which verb helps.
    """
    from spanishgas import pipeline

    require_tracking()
    echo(pipeline.recalibrate(lake=lake).outcome)


def score(
    alias: options.Alias = "champion", lake: options.Place = HERE, backend: options.BackendName = "local"
) -> None:
    """Score every customer of the newest gold table, and recommend what to do about them."""
    from spanishgas.monitoring.alerts import put_metrics
    from spanishgas.scoring import recommend
    from spanishgas.scoring import score as scoring

    require_tracking()
    for published in (
        scoring.score(alias, lake=lake, backend=backend, progress=bar, say=echo),
        recommend.recommend(lake=lake),
    ):
        echo(f"{published.manifest.table}: {published.manifest.rows:,} rows, {published.uri}")
    put_metrics({"RowsScored": published.manifest.rows})


def drift(
    current: options.Current = AUTO, alias: options.Alias = "champion", lake: options.Place = HERE
) -> None:
    """Compare the newest scored gold table with the champion's training table, and act as the policy says."""
    from spanishgas import pipeline
    from spanishgas.monitoring.drift import yes

    require_tracking()
    report = pipeline.watched(current, alias, lake=lake, progress=bar, say=echo)
    for reason in report.reasons:
        echo(reason)
    echo(f"alarm: {yes(report.alarm)}, report in run {report.run_id}")


def baseline(
    alias: options.Alias = "champion", lake: options.Place = HERE, as_json: options.AsJson = False
) -> None:
    """Show what the drift alarm has learned of this utility's own months, input by input."""
    from spanishgas.monitoring.drift import own_months
    from spanishgas.monitoring.own_months import MONTHS
    from spanishgas.rendering import as_markdown

    require_tracking(writes=False)
    own, table = own_months(alias, lake=lake)
    if as_json:
        months = [str(own.date(at)) for at in range(own.seen)]
        inputs = table.to_dict("records")
        echo(json.dumps({"months": months, "calibrated": own.calibrated, "inputs": inputs}, indent=1))
        return
    promised = "the false-alarm rate is promised" if own.calibrated else f"it is promised from {MONTHS} on"
    show(as_markdown(table))
    echo(
        f"{own.seen} of {MONTHS} own months seen: {promised}. Figures: customers who change place in a month, %."
    )


def monitor(last: options.Last = 12, as_json: options.AsJson = False) -> None:
    """Show each monitored window: drift, alarm, estimated and measured average precision, retrain."""
    from spanishgas.config.policy import load_policy
    from spanishgas.lifecycle import registry
    from spanishgas.monitoring import history

    require_tracking(writes=False)
    windows = history.windows()[-last:]
    if as_json:
        echo(history.as_json(windows))
        return
    show(history.as_markdown(windows))
    if windows and (champion := registry.champion()):
        with suppress(SpanishGasError):  # a version whose record is gone: doctor says so
            if old := champion.too_old(windows[-1].as_of, load_policy().max_age_days):
                echo(old)


def outcomes(
    file: options.LabelFile = None,
    labels: options.Labels = AUTO,
    as_of: options.AsOf = AUTO,
    lake: options.Place = HERE,
) -> None:
    """Compare labels with the scores that they belong to; without labels, estimate what they would show."""
    from spanishgas.monitoring import outcomes as measured

    require_tracking()
    labelled = file or labels
    study = measured.outcomes(labelled, as_of, lake=lake) if labelled else measured.estimate(as_of, lake=lake)
    for line in [*study.findings, *study.probation]:
        echo(line)
    echo(f"outcomes of version {study.version} as of {study.as_of} in run {study.run_id}")


def power(
    effect: options.Points = None,
    customers: options.Scored = None,
    campaigns: options.Planned = 1,
    lake: options.Place = HERE,
    as_json: options.AsJson = False,
) -> None:
    """Say how many customers and campaigns it takes to see what offers do, and whether there are enough controls yet.

    An effect is the difference in churn, in percentage points, between customers with an offer and controls. It is
    seen if a campaign of this design would call it significant (two-sided, 5 %) four times out of five (80 % power).
    More controls, more customers or more campaigns see smaller effects: set offers.control in policy.yaml.
    """
    from spanishgas import power as design
    from spanishgas.rendering import as_markdown

    table = design.power(lake, effect, customers, campaigns)
    if as_json:
        echo(table.to_json(orient="records", indent=1))
        return
    show(as_markdown(table.rename(columns=lambda name: name.replace("_", " "))))
    short = table["offer"][~table["enough"]].tolist()
    words = f"not yet enough for {', '.join(short)}" if short else "enough for every comparison"
    echo(
        f"Controls with labels in the lake: {words}. Effects are in points; power is that of {campaigns} campaigns."
    )


def uplift(lake: options.Place = HERE, trials: options.Trials = 25, seed: options.Seed = 7) -> None:
    """Learn from all labelled campaigns whom each offer keeps, and say whether that would earn more than the risk rule.

    Customers of the holdout teach nothing: on them, offers by learned effects are compared with offers by risk at the
    same budget. Only an interval of the difference above zero is a passed verdict. The version that is registered
    recommends once it is champion: `spanishgas promote --offers`.
    """
    from spanishgas.uplift import uplift as learned

    require_tracking()
    version = learned(lake, trials, seed)
    show(version.entity.description or "")
    echo(version.outcome)


def backtest(
    first: options.From,
    last: options.To,
    every: options.EveryStep = "1M",
    policy: options.Policies = options.NO_FILES,
    lake: options.Place = HERE,
    out: options.Replays = Path("backtest"),
    trials: options.Trials = 8,
    seed: options.Seed = 7,
    override: options.Override = "",
) -> None:
    """Replay the whole lifecycle over the extracts of a lake, each step knowing only what was known then.

    It has its own lake, experiment and registered model in --out. --override lets the first champion pass any gate.
    """
    from spanishgas.backtest.run import PAGE, PICTURE
    from spanishgas.backtest.run import backtest as replay

    require_tracking()
    how = {"trials": trials, "seed": seed, "override": override, "say": echo, "progress": bar}
    files = [Path(name) for value in policy for name in options.listed(value)]
    replay(first, last, every, lake=lake, out=out, policies=files, **how)
    show((out / PAGE).read_text())
    echo(f"page and picture: {out / PAGE}, {out / PICTURE}")


def doctor(
    lake: options.Place = HERE, relocate: options.Relocate = False, as_json: options.AsJson = False
) -> None:
    """Check environment, configuration, lake, disk, tracking and ports, and say what to fix."""
    from spanishgas import doctor as checks

    if relocate:
        import mlflow

        from spanishgas.lifecycle import local_store

        echo(f"{local_store.relocate(mlflow.get_tracking_uri())} records of artefacts were changed")
    findings = checks.examine(lake)
    width = max(len(finding.what) for finding in findings)
    lines = [f"{finding.state:<5}  {finding.what:<{width}}  {finding.words}" for finding in findings]
    echo(json.dumps([asdict(finding) for finding in findings], indent=1) if as_json else "\n".join(lines))
    faults = [finding.what for finding in findings if finding.state == "fault"]
    if faults:
        raise DataError(f"{len(faults)} to mend: {', '.join(faults)}")


QUIET = {
    "browser.gatherUsageStats": "false",
    "client.showErrorDetails": "none",  # a traceback may hold a customer's values
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": "false",  # a string by itself in a page is not for its readers
    "server.fileWatcherType": "none",
    "server.headless": "true",
}


def dashboard(
    port: options.Port = 8501, address: options.Address = "127.0.0.1", lake: options.Place = HERE
) -> None:
    """Serve the dashboard, which reads the lake and the tracking server, until interrupted."""
    if importlib.util.find_spec("streamlit") is None:
        raise SpanishGasError(
            "the dashboard needs the extra `dashboard`: uv sync --extra dashboard, or make dashboard"
        )
    script = str(resources.files("spanishgas") / "dashboard" / "app.py")
    flags = QUIET | {"server.address": address, "server.port": str(port)}
    words = [f"--{name}={value}" for name, value in flags.items()]
    os.environ["SPANISHGAS_DASHBOARD_KEY"] = key = secrets.token_urlsafe()
    host = f"[{address}]" if ":" in address else address
    echo(f"http://{host}:{port}/?key={key}", err=True)
    os.environ["SPANISHGAS_LAKE"] = str(lake.root)
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", script, *words])

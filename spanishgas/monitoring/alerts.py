"""An alarm reaches people once per window, and nothing fails because nobody could be reached.

    drift run with alarm=yes -> the promotion lock (one process) -> each sink -> mark on the run: sent, or why not
    refused champion --------^

A window is a version and an as-of date, however often its report is made; or a champion that is refused, and why.
Marks are tags `alert.<sink>` of its runs: a sink that failed is tried again by the next drift report. Whoever is killed
between delivery and mark delivers twice.

Sinks are a file of this machine, an SNS topic and a webhook; metrics go to CloudWatch. None tries for ever. An alert
holds words about features, a version and a run; no customer. What stands in it came from data, so it is one line of
printable characters, cut at a length, before any sink sees it.
"""

from __future__ import annotations

import fcntl
import hashlib
import html
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import urllib3
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict
from urllib3.util import Retry

from spanishgas.errors import ContractError, SpanishGasError, TrackingError
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.history import now
from spanishgas.lifecycle.promotion_lock import promotion_lock
from spanishgas.settings import FromEnvironment, settings

log = logging.getLogger("spanishgas")
MARK, REFUSAL = "alert.", "refusal"
SENT = "sent"
SUBJECT, LINE = 100, 500
"""Most characters of a subject, SNS's limit, and of a line of the text."""
TRIES = 4
SECONDS, PAUSE_SECONDS = 10.0, 0.5
"""How long one try may take, and the first pause between tries, which then doubles."""


class Alerting(FromEnvironment):
    """Who is told of an alarm; the prefix is SPANISHGAS_ALERT_."""

    model_config = SettingsConfigDict(env_prefix="SPANISHGAS_ALERT_")

    file: Path = Path("alerts.jsonl")
    """File that gets a JSON line per alert."""
    sns_topic: str = ""
    """ARN of an SNS topic that gets every alert; none if empty."""
    webhook: SecretStr = SecretStr("")
    """URL that gets every alert in Slack's format; none if empty. Anyone with the URL can post: keep it secret."""
    cloudwatch: str = ""
    """Namespace of CloudWatch's metrics of drift, scoring and data quality; none are sent if empty."""


class Undelivered(SpanishGasError):
    """A sink did not take an alert; the message says why, and names no secret."""


def plain(text: str, most: int = LINE) -> str:
    """`text` as one line of printable characters: a line break in a category's name must not begin a new line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


@dataclass(frozen=True)
class Alert:
    """What people are told of one window: printable lines, whatever it was made of."""

    window: str
    subject: str
    moved: Sequence[str]
    """What moved, in words, the weightiest first."""
    link: str

    def __post_init__(self) -> None:
        ascii_only = plain(self.subject).encode("ascii", "replace").decode()
        object.__setattr__(self, "subject", plain(ascii_only, SUBJECT))
        object.__setattr__(self, "moved", tuple(plain(line) for line in self.moved))
        object.__setattr__(self, "link", plain(self.link))

    @property
    def text(self) -> str:
        """The message in lines."""
        return "\n".join([*self.moved, f"Window: {plain(self.window)}", f"Report: {self.link}"])


Sink = Callable[[Alert], None]
"""Delivers an alert, or raises Undelivered."""


def sinks(alerting: Alerting) -> dict[str, Sink]:
    """Those that the settings name."""
    by_name: dict[str, Sink] = {"file": partial(to_file, alerting.file)}
    if alerting.sns_topic:
        by_name["sns"] = partial(to_topic, alerting.sns_topic)
    if url := alerting.webhook.get_secret_value():
        by_name["webhook"] = partial(to_webhook, url)
    return by_name


def to_file(path: Path, alert: Alert) -> None:
    """Append a JSON line; whole lines, also where several processes write."""
    line = {"at": now(), **{f: getattr(alert, f) for f in ("window", "subject", "moved", "link")}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    except OSError as fault:
        raise Undelivered(f"{path} cannot be written ({fault.strerror})") from fault


@contextmanager
def aws(service: str, named: str, region: str | None = None) -> Iterator[Any]:
    """A client, by AWS's own credentials, that tries `TRIES` times and waits `SECONDS` each.

    Undelivered where AWS does not take what it is given, or no region is known.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    tries = {"mode": "standard", "total_max_attempts": TRIES}
    patience = Config(retries=tries, connect_timeout=SECONDS, read_timeout=SECONDS)
    try:
        yield boto3.client(service, region_name=region, config=patience)
    except (BotoCoreError, ClientError) as fault:
        raise Undelivered(f"{named} did not take it ({plain(str(fault))})") from fault


def region_of(arn: str) -> str | None:
    """The region that an ARN names; None where it names none."""
    _, _, _, region, *_ = [*arn.split(":"), "", "", "", ""]
    return region or None


def to_topic(topic: str, alert: Alert) -> None:
    """Publish to an SNS topic."""
    with aws("sns", f"topic {topic}", region_of(topic)) as client:
        client.publish(TopicArn=topic, Subject=alert.subject, Message=alert.text)


def to_webhook(url: str, alert: Alert) -> None:
    """Post `{"text": ...}`, as Slack and what is compatible with it take it.

    A server that fails or is busy is tried again, and nobody is followed elsewhere.
    """
    again = Retry(
        TRIES - 1,
        redirect=False,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        backoff_factor=PAUSE_SECONDS,
        raise_on_status=False,
    )
    if not url.startswith(("http://", "https://")):
        raise Undelivered("SPANISHGAS_ALERT_WEBHOOK must be a URL that begins with https:// or http://")
    try:
        answer = urllib3.request("POST", url, json={"text": slack(alert)}, timeout=SECONDS, retries=again)
    # Its message names the URL, which is a secret.
    except urllib3.exceptions.HTTPError as fault:
        reason = type(getattr(fault, "reason", fault)).__name__
        raise Undelivered(f"the webhook cannot be reached ({reason})") from None
    if not 200 <= answer.status < 300:
        raise Undelivered(f"the webhook answered {answer.status}")


def slack(alert: Alert) -> str:
    """Subject and text with Slack's three special characters escaped, so that no data becomes a link or a mention."""
    return html.escape(f"{alert.subject}\n{alert.text}", quote=False)


def send(run_id: str) -> None:
    """Tell every sink of the alarm in run `run_id`, if it rang, and of those that a sink could not take before.

    What goes wrong is a warning with its reason, never an exception.
    """
    try:
        for name, sink in sinks(Alerting()).items():
            for run in _due(name, run_id):
                with promotion_lock(settings().registered_model):
                    _deliver(name, sink, run_id, run)
    except (TrackingError, MlflowException) as fault:
        log.warning("alerts: the tracking server failed, so nobody was told (%s); run drift again", fault)


def send_refusal(version: str, why: str) -> None:
    """Tell every sink, once, that nothing is scored with a champion, and why."""
    tags = {"version": version, "as_of": f"refused-{hashlib.sha256(why.encode()).hexdigest()[:12]}"}
    run_ids = [run.info.run_id for run in runs.find({"stage": REFUSAL, **tags})]
    if not run_ids:
        with runs.stage(REFUSAL, f"version {version} is refused", tags={"alarm": "yes", **tags}) as run:
            run.describe(why)
            run.log(tags={"why": why[:5000]})
            run_ids.append(run.run_id)
    send(run_ids[0])


def alert_of(run: Run) -> Alert:
    """What is to be said of a drift run, or of a refusal."""
    tags, metrics = run.data.tags, run.data.metrics
    if tags["stage"] == REFUSAL:
        subject, moved = f"champion version {tags['version']} is refused", [tags["why"]]
    else:
        subject = f"drift alarm as of {tags['as_of']}, version {tags['version']}"
        measured = f"Statistic {metrics['drift.statistic']:.2f}, threshold {metrics['drift.threshold']:.2f}."
        moved = [*runs.artifact(run.info.run_id, "drift.json")["reasons"], measured]
    return Alert(window_of(run), f"SpanishGas: {subject}", moved, link_to(run))


def window_of(run: Run) -> str:
    """Name of the window that a run is about."""
    return f"{settings().registered_model}/{run.data.tags['version']}/{run.data.tags['as_of']}"


def link_to(run: Run) -> str:
    """Page of a run in MLflow's UI, without the user and password that the server's address may hold."""
    where = urlsplit(mlflow.get_tracking_uri())
    if where.scheme not in ("http", "https"):
        return f"run {run.info.run_id} (mlflow ui)"
    host = where.netloc.rpartition("@")[2]
    page = f"{where.path.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return f"{where.scheme}://{host}{page}"


def _due(sink: str, run_id: str) -> list[Run]:
    """The run of each window to tell of; none of one that was told of, or is old news to the sink."""
    by_window: dict[str, list[Run]] = {}
    for run in runs.find({"alarm": "yes"}):
        by_window.setdefault(window_of(run), []).append(run)

    def mark(run: Run) -> str:
        return str(run.data.tags.get(f"{MARK}{sink}", ""))

    untold = (same for same in by_window.values() if not any(mark(run).startswith(SENT) for run in same))
    due = ([run for run in same if mark(run) or run.info.run_id == run_id] for same in untold)
    return [waiting[0] for waiting in due if waiting]


def _deliver(name: str, sink: Sink, run_id: str, run: Run) -> None:
    """Tell of a run under the lock, unless another one did while it was waited for."""
    if window_of(run) not in map(window_of, _due(name, run_id)):
        return
    try:
        sink(alert_of(run))
        mark = f"{SENT} {now()}"
    except Undelivered as fault:
        mark = f"failed: {fault}"
        log.warning("alert of %s: %s; the next drift report tries again", window_of(run), fault)
    MlflowClient().set_tag(run.info.run_id, f"{MARK}{name}", mark[:5000])


def put_metrics(metrics: Mapping[str, float]) -> None:
    """Send `metrics` to CloudWatch under the registered model's name, where the settings name a namespace.

    What is no finite number, and what goes wrong, is a warning with its reason, never an exception.
    """
    namespace = Alerting().cloudwatch
    if not namespace:
        return
    model = [{"Name": "Model", "Value": settings().registered_model}]
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    for name in metrics.keys() - finite:
        log.warning("metric %s is %s, which CloudWatch does not take", name, metrics[name])
    data = [{"MetricName": name, "Value": value, "Dimensions": model} for name, value in finite.items()]
    try:
        with aws("cloudwatch", "CloudWatch") as client:
            client.put_metric_data(Namespace=namespace, MetricData=data)
    except Undelivered as fault:
        log.warning("metrics: %s", fault)


@contextmanager
def build_counted() -> Iterator[None]:
    """Counts a build that broken data stopped: DataQualityFailures is 1, and 0 for a build that went through."""
    try:
        yield
    except ContractError:
        put_metrics({"DataQualityFailures": 1})
        raise
    put_metrics({"DataQualityFailures": 0})

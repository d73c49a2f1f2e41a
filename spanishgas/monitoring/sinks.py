"""Where alerts and metrics go: a file of this machine, an SNS topic, a webhook; CloudWatch. None tries for ever.

An alert holds words about features, a version and a run; no customer. What stands in it came from data, so it is one
line of printable characters, cut at a length, before any sink sees it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from urllib3.util import Retry, Timeout

from spanishgas.errors import ContractError, SpanishGasError
from spanishgas.lifecycle.history import now
from spanishgas.settings import settings

log = logging.getLogger("spanishgas")
SUBJECT, LINE = 100, 500
"""Most characters of a subject, SNS's limit, and of a line of the text."""
TRIES = 4
SECONDS, PAUSE_SECONDS = 10.0, 0.5
"""How long one try may take, and the first pause between tries, which then doubles."""


class Alerting(BaseSettings):
    """Who is told of an alarm; the prefix is SPANISHGAS_ALERT_."""

    model_config = SettingsConfigDict(
        env_prefix="SPANISHGAS_ALERT_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    file: Path = Path("alerts.jsonl")
    """File that gets a JSON line per alert."""
    sns_topic: str = ""
    """ARN of an SNS topic that gets every alert; none if empty."""
    webhook: SecretStr = SecretStr("")
    """URL that gets every alert as Slack takes it; none if empty. Who has it may post, so it is a secret."""
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


@dataclass(frozen=True)
class FileSink:
    """A JSON line per alert; whole lines, also where several processes write."""

    path: Path
    name: str = "file"

    def send(self, alert: Alert) -> None:
        """Append a line."""
        line = {"at": now(), **{f: getattr(alert, f) for f in ("window", "subject", "moved", "link")}}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(f"{json.dumps(line, ensure_ascii=False)}\n")
        except OSError as fault:
            raise Undelivered(f"{self.path} cannot be written ({fault.strerror})") from fault


def aws(service: str, region: str | None = None) -> Any:
    """A client that tries `TRIES` times and waits `SECONDS` each; BotoCoreError where no region is known."""
    import boto3
    from botocore.config import Config

    patience = Config(
        retries={"mode": "standard", "total_max_attempts": TRIES},
        connect_timeout=SECONDS,
        read_timeout=SECONDS,
    )
    return boto3.client(service, region_name=region, config=patience)


def region_of(arn: str) -> str | None:
    """The region that an ARN names; None where it names none."""
    _, _, _, region, *_ = [*arn.split(":"), "", "", "", ""]
    return region or None


@dataclass(frozen=True)
class SnsSink:
    """A message to a topic, by AWS's own credentials."""

    topic: str
    name: str = "sns"

    def send(self, alert: Alert) -> None:
        """Publish; boto3 tries again by itself."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = aws("sns", region_of(self.topic))
            client.publish(TopicArn=self.topic, Subject=alert.subject, Message=alert.text)
        except (BotoCoreError, ClientError) as fault:
            raise Undelivered(f"topic {self.topic} did not take it ({plain(str(fault))})") from fault


@dataclass(frozen=True)
class WebhookSink:
    """A post of `{"text": ...}`, as Slack and what is compatible with it take it."""

    url: str
    name: str = "webhook"

    def send(self, alert: Alert) -> None:
        """Post; a server that fails or is busy is tried again, and nobody is followed elsewhere."""
        again = Retry(
            TRIES - 1,
            redirect=0,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            backoff_factor=PAUSE_SECONDS,
            raise_on_redirect=False,
            raise_on_status=False,
        )
        if not self.url.startswith(("http://", "https://")):
            raise Undelivered("SPANISHGAS_ALERT_WEBHOOK must be a URL that begins with https:// or http://")
        try:
            with urllib3.PoolManager(timeout=Timeout(SECONDS), retries=again) as pool:
                answer = pool.request("POST", self.url, json={"text": slack(alert)})
        # Its message names the URL, which is a secret.
        except urllib3.exceptions.HTTPError as fault:
            reason = type(getattr(fault, "reason", fault)).__name__
            raise Undelivered(f"the webhook cannot be reached ({reason})") from None
        if not 200 <= answer.status < 300:
            raise Undelivered(f"the webhook answered {answer.status}")


def slack(alert: Alert) -> str:
    """Subject and text with Slack's three special characters escaped, so that no data becomes a link or a mention."""
    text = f"{alert.subject}\n{alert.text}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


Sink = FileSink | SnsSink | WebhookSink


def sinks(given: Alerting) -> Iterator[Sink]:
    """Those that the settings name."""
    yield FileSink(given.file)
    if given.sns_topic:
        yield SnsSink(given.sns_topic)
    if url := given.webhook.get_secret_value():
        yield WebhookSink(url)


def put_metrics(metrics: Mapping[str, float]) -> None:
    """Send `metrics` to CloudWatch under the registered model's name, where the settings name a namespace.

    What is no finite number, and what goes wrong, is a warning with its reason, never an exception.
    """
    namespace = Alerting().cloudwatch
    if not namespace:
        return
    from botocore.exceptions import BotoCoreError, ClientError

    model, data = [{"Name": "Model", "Value": settings().registered_model}], []
    for name, value in metrics.items():
        if math.isfinite(value):
            data.append({"MetricName": name, "Value": float(value), "Dimensions": model})
        else:
            log.warning("metric %s is %s, which CloudWatch does not take", name, value)
    try:
        aws("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)
    except (BotoCoreError, ClientError) as fault:
        log.warning("CloudWatch did not take metrics (%s)", plain(str(fault)))


@contextmanager
def build_counted() -> Iterator[None]:
    """Counts a build that broken data stopped: DataQualityFailures is 1, and 0 for a build that went through."""
    try:
        yield
    except ContractError:
        put_metrics({"DataQualityFailures": 1})
        raise
    put_metrics({"DataQualityFailures": 0})

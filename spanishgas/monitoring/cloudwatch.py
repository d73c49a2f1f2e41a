"""Metrics for CloudWatch's alarms and dashboards, where SPANISHGAS_ALERT_CLOUDWATCH names a namespace.

Cut to what PutMetricData takes; nothing fails because a number could not be sent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from spanishgas.errors import ContractError
from spanishgas.monitoring.settings import Alerting
from spanishgas.monitoring.sinks import aws, plain
from spanishgas.settings import settings

if TYPE_CHECKING:
    from spanishgas.monitoring.drift import Drift

log = logging.getLogger("spanishgas")
MOST_METRICS, MOST_BYTES, MOST_DIMENSIONS, LARGEST = 1000, 1_000_000, 30, 2.0**360
"""Of one call of PutMetricData, one metric and one value, by the API's reference."""


def put(metrics: Mapping[str, float], dimensions: Mapping[str, str] | None = None) -> None:
    """Send `metrics` under the registered model's name and `dimensions`; those that are no finite number stay behind.

    What goes wrong is a warning with its reason, never an exception.
    """
    namespace = Alerting().cloudwatch
    if not namespace:
        return
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = aws("cloudwatch")
        for batch in batches(data(metrics, {"Model": settings().registered_model, **(dimensions or {})})):
            client.put_metric_data(Namespace=namespace, MetricData=batch)
    except (BotoCoreError, ClientError) as fault:
        log.warning("CloudWatch did not take metrics (%s)", plain(str(fault)))


def drift(found: Drift) -> None:
    """What a drift report found."""
    put({"DriftShare": found.share, "PredictionDrift": found.prediction, "DriftAlarm": found.alarm})


@contextmanager
def quality() -> Iterator[None]:
    """Counts a build that broken data stopped: DataQualityFailures is 1, and 0 for a build that went through."""
    try:
        yield
    except ContractError:
        put({"DataQualityFailures": 1})
        raise
    put({"DataQualityFailures": 0})


def data(metrics: Mapping[str, float], dimensions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A datum per metric, with at most as many dimensions as the API takes."""
    named = [{"Name": k, "Value": v} for k, v in islice(dimensions.items(), MOST_DIMENSIONS)]
    for name, value in metrics.items():
        if math.isfinite(value) and abs(value) <= LARGEST:
            yield {"MetricName": name, "Value": float(value), "Dimensions": named}
        else:
            log.warning("metric %s is %s, which CloudWatch does not take", name, value)


def batches(data: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """The data in as few calls as the limits allow, in their order."""
    batch: list[Mapping[str, Any]] = []
    size = 0
    for datum in data:
        if batch and (len(batch) == MOST_METRICS or size + _size(datum) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(datum)
        size += _size(datum)
    if batch:
        yield batch


def _size(datum: Mapping[str, Any]) -> int:
    """No fewer bytes than a datum takes in any of the API's protocols: the wordiest names each field in full."""
    texts = [datum["MetricName"], *(text for d in datum["Dimensions"] for text in d.values())]
    return sum(60 + 3 * len(text.encode()) for text in texts) + 100

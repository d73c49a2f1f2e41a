"""Alerts: said once per window, to every sink that can be reached, and nothing that data could have smuggled in."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import mlflow
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.errors import ContractError
from spanishgas.lifecycle import runs
from spanishgas.monitoring import alerts
from spanishgas.monitoring.alerts import Alert, Undelivered, slack, to_file, to_topic, to_webhook
from tests.tracked import own_model, own_store

SECRET = "T000-B000-sesame"
ALERT = Alert("m/1/2025-03-31", "SpanishGas: drift alarm", ["prices moved"], "run 1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("store")
    with own_store(root):
        yield root


@pytest.fixture
def told(store: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of alerts of a model of the test's own."""
    with own_model(request.node.name) as name:
        file = store / name / "alerts.jsonl"
        monkeypatch.setenv("SPANISHGAS_ALERT_FILE", str(file))
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        yield file


def drift_run(
    as_of: str = "2025-03-31", alarm: str = "yes", reasons: tuple[str, ...] = ("prices moved",)
) -> str:
    """What a drift report leaves behind."""
    tags = {"alarm": alarm, "as_of": as_of, "version": "1"}
    with runs.stage("drift", f"drift as of {as_of}", tags=tags) as run:
        run.log(metrics={"drift.statistic": 7.5, "drift.threshold": 3.2})
        run.document({"reasons": list(reasons)}, "drift.json")
    return run.run_id


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def mark(run_id: str, sink: str = "file") -> str:
    return str(MlflowClient().get_run(run_id).data.tags.get(f"alert.{sink}", ""))


class Hook(BaseHTTPRequestHandler):
    """Answers what the test has lined up, then 200; keeps what was posted."""

    answers: list[int]
    posted: list[dict[str, str]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = type(self).answers.pop(0) if type(self).answers else 200
        if status == 200:
            type(self).posted.append(body)
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.answers, Hook.posted = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/services/{SECRET}"
    server.shutdown()
    server.server_close()
    thread.join()


# Once per window


def test_an_alarm_is_told_once_however_often_the_report_is_asked_for(told: Path) -> None:
    run_id = drift_run()
    alerts.send(run_id)
    alerts.send(run_id)
    [line] = lines(told)
    assert line["subject"] == "SpanishGas: drift alarm as of 2025-03-31, version 1"
    assert line["moved"] == ["prices moved", "Statistic 7.50, threshold 3.20."]
    assert str(line["window"]).endswith("/1/2025-03-31")
    assert run_id in str(line["link"])
    assert mark(run_id).startswith("sent ")


def test_another_report_of_the_same_window_tells_nobody_again_and_another_window_does(told: Path) -> None:
    alerts.send(drift_run())
    alerts.send(drift_run())
    assert len(lines(told)) == 1
    alerts.send(drift_run("2025-04-30"))
    assert len(lines(told)) == 2


def test_a_report_without_an_alarm_tells_nobody(told: Path) -> None:
    alerts.send(drift_run(alarm="no"))
    assert not told.exists()


def test_alarms_from_before_a_sink_was_there_are_old_news_to_it(
    told: Path, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alerts.send(drift_run())
    monkeypatch.setenv("SPANISHGAS_ALERT_WEBHOOK", hook)
    alerts.send(drift_run("2025-04-30"))
    assert ["2025-04-30" in p["text"] for p in Hook.posted] == [True]


def test_what_another_process_told_while_the_lock_was_waited_for_is_not_told_again(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = drift_run()

    @contextmanager
    def waited(model: str) -> Iterator[None]:
        MlflowClient().set_tag(run_id, "alert.file", "sent by another")
        yield

    monkeypatch.setattr(alerts, "promotion_lock", waited)
    alerts.send(run_id)
    assert lines(told) == []
    assert mark(run_id) == "sent by another"


def test_a_process_that_died_before_its_mark_leaves_the_alert_to_the_next(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = drift_run()

    def die(path: Path, alert: Alert) -> None:
        raise SystemExit

    with monkeypatch.context() as killed:
        killed.setattr(alerts, "to_file", die)
        with pytest.raises(SystemExit):
            alerts.send(run_id)
    alerts.send(run_id)
    assert len(lines(told)) == 1


@pytest.mark.slow
def test_of_processes_at_once_one_tells(told: Path) -> None:
    run_id = drift_run()
    script = f"import mlflow; mlflow.set_tracking_uri({mlflow.get_tracking_uri()!r}); " + (
        f"from spanishgas.monitoring import alerts; print(flush=True); input(); alerts.send({run_id!r})"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in started:
        assert process.stdout
        process.stdout.readline()
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        process.communicate()
    assert [process.returncode for process in started] == [0, 0]
    assert len(lines(told)) == 1


# Failures


def test_a_sink_that_fails_is_a_warning_and_is_tried_again_by_the_next_report_while_others_are_not(
    told: Path, hook: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANISHGAS_ALERT_WEBHOOK", hook)
    Hook.answers = [400]
    first = drift_run()
    with caplog.at_level(logging.WARNING):
        alerts.send(first)
    assert "the webhook answered 400; the next drift report tries again" in caplog.text
    assert (mark(first)[:4], mark(first, "webhook")) == ("sent", "failed: the webhook answered 400")
    alerts.send(drift_run("2025-04-30", alarm="no"))
    assert ["2025-03-31" in p["text"] for p in Hook.posted] == [True]
    assert mark(first, "webhook").startswith("sent ")
    assert len(lines(told)) == 1


def test_a_file_that_cannot_be_written_is_a_warning(
    told: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told.parent.mkdir(parents=True)
    monkeypatch.setenv("SPANISHGAS_ALERT_FILE", str(told.parent))
    with caplog.at_level(logging.WARNING):
        alerts.send(drift_run())
    assert "cannot be written (Is a directory)" in caplog.text


def test_a_tracking_server_that_fails_is_a_warning(
    told: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = drift_run()
    MlflowClient().delete_registered_model(told.parent.name)
    with caplog.at_level(logging.WARNING):
        alerts.send(run_id)
    assert "so nobody was told" in caplog.text
    MlflowClient().create_registered_model(told.parent.name)
    alerts.send(run_id)
    assert len(lines(told)) == 1


def test_a_webhook_that_fails_twice_gets_the_message_at_the_third_try(hook: str) -> None:
    Hook.answers = [503, 429]
    to_webhook(hook, ALERT)
    assert Hook.posted == [{"text": slack(ALERT)}]


@pytest.mark.parametrize("status", [302, 404])
def test_a_webhook_that_refuses_or_sends_elsewhere_is_asked_once(hook: str, status: int) -> None:
    Hook.answers = [status]
    with pytest.raises(Undelivered, match=f"answered {status}"):
        to_webhook(hook, ALERT)
    assert (Hook.answers, Hook.posted) == ([], [])


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/{}", "file:///{}", "{}"])
def test_what_is_said_of_a_webhook_names_no_secret(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PAUSE_SECONDS", 0)
    with pytest.raises(Undelivered) as fault:
        to_webhook(address.format(SECRET), ALERT)
    assert SECRET not in str(fault.value)
    assert fault.value.__cause__ is None


# AWS, over HTTP


def test_an_alarm_reaches_the_subscribers_of_a_topic_once_and_after_a_failure(
    told: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sns, sqs = boto3.client("sns"), boto3.client("sqs")
    topic = f"arn:aws:sns:eu-south-2:123456789012:{bucket[:60]}"
    monkeypatch.setenv("SPANISHGAS_ALERT_SNS_TOPIC", topic)
    run_id = drift_run(reasons=("prices moved", "\u00e9tat\nSubject: forged"))
    alerts.send(run_id)
    assert mark(run_id, "sns").startswith("failed: topic ")
    assert sns.create_topic(Name=bucket[:60])["TopicArn"] == topic
    queue = sqs.create_queue(QueueName=bucket[:60])["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    alerts.send(run_id)
    alerts.send(run_id)
    [got] = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    message = json.loads(got["Body"])
    assert message["Subject"] == "SpanishGas: drift alarm as of 2025-03-31, version 1"
    assert message["Message"].splitlines()[:2] == ["prices moved", "\u00e9tat Subject: forged"]
    assert run_id in message["Message"]


def test_metrics_arrive_in_cloudwatch_and_numbers_that_it_refuses_stay_behind(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANISHGAS_ALERT_CLOUDWATCH", bucket)
    with caplog.at_level(logging.WARNING):
        alerts.put_metrics({"DriftShare": 0.25, "PredictionDrift": float("nan")})
    with pytest.raises(ContractError), alerts.build_counted():
        raise ContractError("customers breaks its contract")
    assert "metric PredictionDrift is nan" in caplog.text
    client = boto3.client("cloudwatch")
    listed = client.list_metrics(Namespace=bucket)["Metrics"]
    assert {m["MetricName"] for m in listed} == {"DriftShare", "DataQualityFailures"}
    now = datetime.now(UTC)
    queries = [
        {"Id": f"m{i}", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
        for i, metric in enumerate(listed)
    ]
    answer = client.get_metric_data(
        MetricDataQueries=queries, StartTime=now - timedelta(minutes=5), EndTime=now + timedelta(minutes=5)
    )
    assert sorted(r["Values"] for r in answer["MetricDataResults"]) == [[0.25], [1.0]]


def test_a_cloudwatch_that_cannot_be_reached_is_a_warning(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPANISHGAS_ALERT_CLOUDWATCH", "SpanishGas")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with caplog.at_level(logging.WARNING), alerts.build_counted():
        pass
    assert "metrics: CloudWatch did not take it (You must specify a region" in caplog.text


# What data must not do


def test_a_subject_is_short_ascii_without_control_characters_whatever_data_says() -> None:
    subject = Alert("w", "drift\r\nBcc: all\u202e " + "\u00e1" * 200, [], "").subject
    assert len(subject) == 100
    assert subject.isascii()
    assert subject.isprintable()


def test_a_name_from_data_forges_no_line_no_link_and_no_mention(tmp_path: Path) -> None:
    forged = 'new category "x\n{"subject": "all clear"}\u2028" <!channel> <https://evil|click> & more'
    alert = Alert("m/1/2025-03-31", "s", [forged, "y" * 5000], "run 1")
    assert len(alert.text.splitlines()) == 4
    assert "<" not in slack(alert)
    assert "&lt;!channel&gt; &lt;https://evil|click&gt; &amp; more" in slack(alert)
    to_file(tmp_path / "alerts.jsonl", alert)
    [line] = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert [len(moved) <= 500 for moved in json.loads(line)["moved"]] == [True, True]


def test_the_link_leads_to_the_runs_page_and_holds_no_password(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = MlflowClient().get_run(drift_run())
    assert alerts.link_to(run) == f"run {run.info.run_id} (mlflow ui)"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://ana:sesame@mlflow.example.com/base/")
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert alerts.link_to(run) == f"https://mlflow.example.com/base{page}"


def test_a_topics_own_region_is_asked(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    topic = boto3.client("sns", "eu-west-1").create_topic(Name=bucket[:60])["TopicArn"]
    to_topic(topic, ALERT)
    with pytest.raises(Undelivered, match="sns-nonsense did not take it"):
        to_topic("sns-nonsense", ALERT)

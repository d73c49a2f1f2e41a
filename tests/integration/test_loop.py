"""From alarms to a retrain, on a real tracking store and lake: when one starts, when not, and after a kill."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import boto3
import pytest
from mlflow.tracking import MlflowClient

from spanishgas import provenance
from spanishgas.cli import chain
from spanishgas.config import policy
from spanishgas.config.policy import DriftLimits, Windows, load_policy
from spanishgas.errors import SpanishGasError
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry, runs
from spanishgas.monitoring import history, loop
from spanishgas.monitoring.drift import Drift
from spanishgas.monitoring.history import Window
from spanishgas.monitoring.loop import RetrainStep as Step
from spanishgas.monitoring.loop import decide
from spanishgas.settings import settings
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import own_model, own_store
from tests.versions import add_version, made_up_record

TRAINED, JAN, FEB, MAR, APR, JUL = (
    date(2024, 12, 31), date(2025, 1, 31), date(2025, 2, 28), date(2025, 3, 31), date(2025, 4, 30), date(2025, 7, 31),
)  # fmt: skip
LIMITS = DriftLimits.model_validate(
    {
        "false_alarm_rate": 0.01,
        "min_effect": 0.1,
        "windows": {"k": 2, "of": 3},
        "retrain": True,
        "cooldown_days": 90,
    }
    | ({"column_share": 0.5} if "column_share" in DriftLimits.model_fields else {})
)


def window(as_of: date, alarm: bool, version: str = "1", retrain: str = "") -> Window:
    measured = {
        "rows": None,
        "share": 0.1,
        "statistic": 4.0,
        "threshold": 3.0,
        "months": 3.0,
        "prediction": 0.2,
    }
    later = {"estimated": None, "measured": None, "concept": None, "process": ""}
    about = {
        "as_of": as_of,
        "version": version,
        "run_id": f"run of {as_of}",
        "alarm": alarm,
        "retrain": retrain,
    }
    return Window(**measured, **later, **about)


@pytest.mark.parametrize(
    ("before", "now", "labels", "step"),
    [
        pytest.param([], window(JAN, True), JAN, Step.QUIET, id="one alarm is not serious"),
        pytest.param([window(JAN, True)], window(FEB, True), JAN, Step.BEGUN, id="two of three are"),
        pytest.param([window(JAN, True), window(FEB, False)], window(MAR, True), JAN, Step.BEGUN, id="not in a row"),
        pytest.param(
            [window(JAN, True), window(FEB, False), window(MAR, False)],
            window(APR, True),
            JAN,
            Step.QUIET,
            id="one that is four windows back is forgotten",
        ),
        pytest.param(
            [window(JAN, True), window(FEB, True)], window(MAR, False), JAN, Step.QUIET, id="the newest must have rung"
        ),
        pytest.param([window(JAN, True, "0")], window(FEB, True), JAN, Step.QUIET, id="another version's do not count"),
        pytest.param([window(JAN, True)], window(FEB, True), None, Step.UNLABELLED, id="no labels at all"),
        pytest.param([window(JAN, True)], window(FEB, True), TRAINED, Step.UNLABELLED, id="no newer labels"),
        pytest.param(
            [window(JAN, True, "0", "done"), window(FEB, True)], window(MAR, True), JAN, Step.COOLING, id="cooling down"
        ),
        pytest.param(
            [window(JAN, True, "0", "done"), window(APR, True)],
            window(JUL, True),
            JAN,
            Step.BEGUN,
            id="the cool-down is over",
        ),
        pytest.param(
            [window(JAN, True, "0", "waits for labels")], window(FEB, True), JAN, Step.QUIET, id="waiting is no retrain"
        ),
        pytest.param([window(JAN, True)], window(FEB, True, "1", "done"), JAN, Step.DONE, id="done is done"),
        pytest.param(
            [window(JAN, True), window(MAR, True)], window(FEB, True), JAN, Step.QUIET, id="an old window sets off none"
        ),
    ],
)  # fmt: skip
def test_the_policy_decides_by_windows_versions_labels_and_cool_down(
    before: list[Window], now: Window, labels: date | None, step: Step
) -> None:
    assert decide(now, before, LIMITS, TRAINED, labels).step is step


def test_a_policy_may_leave_the_start_to_people_and_names_the_command() -> None:
    limits = LIMITS.model_copy(update={"retrain": False})
    found = decide(window(FEB, True), [window(JAN, True)], limits, TRAINED, JAN)
    assert found.step is Step.PROPOSED
    assert "spanishgas retrain" in found.words


def test_a_policy_may_ask_for_other_windows() -> None:
    limits = LIMITS.model_copy(update={"windows": Windows(k=1, of=1)})
    assert decide(window(JAN, True), [], limits, TRAINED, JAN).step is Step.BEGUN


# On a real store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("store")
    with own_store(root):
        yield root


class Utility:
    """A lake, a champion trained in it, and drift reports that the test makes up."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.retrained, self.said = lake, list[str](), list[str]()
        table = publish_gold(lake, gold_frame(20), TRAINED)
        self.version = add_version(record=made_up_record(table.manifest.digest, TRAINED, "E3"))
        MlflowClient().set_registered_model_alias(settings().registered_model, "champion", self.version)

    def labels(self, as_of: date) -> None:
        publish_gold(self.lake, gold_frame(20, seed=1), as_of)

    def report(self, as_of: date, alarm: bool) -> Drift:
        tags = {"alarm": "yes" if alarm else "no", "as_of": as_of, "version": self.version}
        with runs.stage("drift", f"drift as of {as_of}", tags=tags) as run:
            run.log(
                metrics={
                    "drift.share": 0.25,
                    "drift.statistic": 4,
                    "drift.threshold": 3,
                    "drift.months": 3,
                    "prediction_drift": 0.2,
                }
            )
        return Drift(
            run_id=run.run_id,
            as_of=as_of,
            version=self.version,
            alarm=alarm,
            statistic=4.0,
            threshold=3.0,
            months=3,
            calibrated=False,
            reasons=[],
            share=0.25,
            drifted={},
            prediction=0.2,
        )

    def close(self, found: Drift) -> Step:
        def retrain(run_id: str) -> str:
            self.retrained.append(run_id)
            return "retrained: version 2"

        return loop.close(found, self.lake, retrain, self.said.append)


@pytest.fixture
def utility(
    store: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Utility]:
    with own_model(request.node.name) as name:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
        yield Utility(Lake(store / name))


def tags_of(found: Drift) -> dict[str, str]:
    return {
        k: v for k, v in MlflowClient().get_run(found.run_id).data.tags.items() if k.startswith("retrain")
    }


def test_a_lasting_drift_retrains_once_in_the_cool_down_and_the_runs_say_why(utility: Utility) -> None:
    utility.labels(JAN)
    reports = [utility.report(JAN, True)]
    steps = [utility.close(reports[0])]
    for as_of in (FEB, MAR, APR):
        reports.append(utility.report(as_of, True))
        steps.append(utility.close(reports[-1]))
    assert steps == [Step.QUIET, Step.DONE, Step.COOLING, Step.COOLING]
    assert utility.retrained == [reports[1].run_id]
    tags = tags_of(reports[1])
    assert tags["retrain.triggered_by"].startswith("2 of the last 2 windows rang")
    assert (tags["retrain"], tags["retrain.result"]) == ("done", "retrained: version 2")
    assert utility.close(reports[1]) is Step.DONE
    assert utility.close(reports[-1]) is Step.COOLING
    assert len(utility.retrained) == 1


def test_without_newer_labels_nothing_is_trained_and_once_they_come_the_same_report_starts_it(
    utility: Utility,
) -> None:
    utility.close(utility.report(JAN, True))
    found = utility.report(FEB, True)
    assert utility.close(found) is Step.UNLABELLED
    assert "spanishgas etl" in utility.said[-1]
    assert (utility.retrained, tags_of(found)) == ([], {"retrain": "waits for labels"})
    utility.labels(JAN)
    assert utility.close(found) is Step.DONE
    assert utility.retrained == [found.run_id]


def test_a_retrain_that_was_cut_short_goes_on_with_the_next_report_and_only_then(utility: Utility) -> None:
    utility.labels(JAN)
    utility.close(utility.report(JAN, True))
    found = utility.report(FEB, True)

    def cut_short(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.close(found, utility.lake, cut_short, utility.said.append)
    assert tags_of(found)["retrain"] == "begun"
    later = utility.report(MAR, False)
    assert utility.close(later) is Step.DONE
    assert (utility.retrained, tags_of(found)["retrain"]) == ([found.run_id], "done")
    assert utility.close(later) is Step.QUIET
    assert len(utility.retrained) == 1


def test_a_retrain_that_another_living_process_has_begun_is_left_to_it(utility: Utility) -> None:
    utility.labels(JAN)
    utility.close(utility.report(JAN, True))
    found = utility.report(FEB, True)
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        host = provenance.process().rpartition(":")[0]
        for key, value in {"retrain": "begun", "retrain.process": f"{host}:{sleeper.pid}"}.items():
            MlflowClient().set_tag(found.run_id, key, value)
        assert utility.close(found) is Step.BEGUN
        assert utility.retrained == []
    finally:
        sleeper.kill()
        sleeper.wait()
    assert utility.close(found) is Step.DONE
    assert utility.retrained == [found.run_id]


def test_a_report_of_a_version_that_is_not_champion_starts_nothing(utility: Utility) -> None:
    utility.labels(JAN)
    utility.close(utility.report(JAN, True))
    found = utility.report(FEB, True)
    MlflowClient().delete_registered_model_alias(settings().registered_model, "champion")
    assert utility.close(found) is Step.QUIET
    assert utility.retrained == []


def test_on_aws_the_state_machine_is_started_in_mode_train_once_per_window(
    utility: Utility, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("stepfunctions")
    definition = json.dumps(
        {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 60, "End": True}}}
    )
    made = client.create_state_machine(
        name=bucket, definition=definition, roleArn="arn:aws:iam::123456789012:role/any"
    )
    arn = made["stateMachineArn"]
    monkeypatch.setenv("SPANISHGAS_RETRAIN_STATE_MACHINE", arn)
    settings.cache_clear()
    utility.labels(JAN)
    utility.close(utility.report(JAN, True))
    found = utility.report(FEB, True)
    assert utility.close(found) is Step.DONE
    assert utility.retrained == []
    version = registry.resolve(utility.version)
    again = loop.start_execution(arn, version, history.windows()[-1])
    [execution] = client.list_executions(stateMachineArn=arn)["executions"]
    assert again == tags_of(found)["retrain.result"] == f"execution {execution['name']} of {arn}"
    order = json.loads(client.describe_execution(executionArn=execution["executionArn"])["input"])
    assert (order["mode"], order["experiment"], order["model"]) == ("train", "E3", "xgboost")
    with pytest.raises(SpanishGasError, match=r"could not be started.*states:StartExecution"):
        loop.start_execution(f"{arn}-gone", version, history.windows()[-1])


# History


def test_the_history_has_a_row_per_window_in_order_by_its_newest_report_with_outcomes_beside_it(
    utility: Utility, capsys: pytest.CaptureFixture[str]
) -> None:
    utility.labels(JAN)
    utility.report(FEB, True)
    first = utility.report(JAN, True)
    utility.close(utility.report(FEB, True))
    newest = utility.report(FEB, True)
    tags = {"as_of": JAN, "version": utility.version}
    with runs.stage("outcomes", "labels of January", tags=tags) as run:
        run.log(metrics={"outcomes.average_precision": 0.71})
    found = history.windows()
    assert [(w.as_of, w.run_id) for w in found] == [(JAN, first.run_id), (FEB, newest.run_id)]
    assert [w.measured for w in found] == [0.71, None]
    assert [w.retrain for w in found] == ["", "done"]
    capsys.readouterr()
    chain.monitor(last=12, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith(
        f"| 2025-01-31 | {utility.version} |  | 25% | 4.00 | 3.00 | 3 | yes | 0.20 |  | 0.710 |  |"
    )
    assert len(lines) == 4
    chain.monitor(last=1, as_json=True)
    [row] = json.loads(capsys.readouterr().out)
    assert (row["as_of"], row["alarm"], row["retrain"]) == ("2025-02-28", True, "done")


def test_a_champion_older_than_the_policy_allows_is_named_below_the_history(
    utility: Utility, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    utility.report(FEB, False)
    chain.monitor(last=12, as_json=False)
    assert "max_age_days" not in capsys.readouterr().out
    strict = load_policy().model_copy(update={"max_age_days": 30})
    monkeypatch.setattr(policy, "load_policy", lambda: strict)
    chain.monitor(last=12, as_json=False)
    assert (
        "2024-12-31, 59 days before the newest (2025-02-28); policy.yaml allows 30" in capsys.readouterr().out
    )


def test_an_empty_history_names_the_command_that_fills_it(
    utility: Utility, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.monitor(last=12, as_json=False)
    assert "spanishgas drift" in capsys.readouterr().out
    chain.monitor(last=12, as_json=True)
    assert json.loads(capsys.readouterr().out) == []

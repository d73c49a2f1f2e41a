"""The pipeline's definition: well formed, its words known to the command line, every way through it executed."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import boto3
import pytest
import typer
from typer.core import TyperGroup

from spanishgas.cli import app
from tests import aws_stand_in
from tests.aws_stand_in import Account, JobFailed
from tests.infra.conftest import GOOD, Jobs, ended, passed
from tests.infra.state_machine import definition, states

JOB = "arn:aws:states:::sagemaker:createProcessingJob.sync"
TRAIN = {"id": "any", "mode": "train", "raw": "s3://lake/raw/2024-12-31", "as_of": "2024-12-31"}
ENDS = {"Succeeded", "NotPromoted", "Failed"}


def slow_too(*cases: object) -> list[Any]:
    arguments = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*each, marks=pytest.mark.slow) for each in arguments]


def following(state: dict[str, Any]) -> set[str]:
    found = {state[key] for key in ("Next", "Default") if key in state}
    found |= {rule["Next"] for rule in state.get("Choices", [])}
    return found | {rule["Next"] for rule in state.get("Catch", [])}


def test_every_state_that_is_named_exists_and_every_state_is_reached() -> None:
    every = states()
    reached, left = {definition()["StartAt"]}, [definition()["StartAt"]]
    while left:
        fresh = following(every[left.pop()]) - reached
        reached |= fresh
        left += fresh
    assert reached == every.keys()


def test_what_ends_is_a_success_a_refusal_or_a_failure() -> None:
    assert {name for name, state in states().items() if not following(state)} == ENDS
    assert {states()[name]["Type"] for name in ENDS} == {"Succeed", "Fail"}


@pytest.mark.parametrize("name", [name for name, state in states().items() if state["Type"] == "Task"])
def test_every_task_is_limited_in_time_tried_again_ever_later_and_caught(name: str) -> None:
    task = states()[name]
    assert task["TimeoutSeconds"] > 0
    assert task["Retry"]
    assert all(rule["BackoffRate"] > 1 and rule["MaxAttempts"] >= 1 for rule in task["Retry"])
    assert task["Catch"][-1]["ErrorEquals"] == ["States.ALL"]
    # A failed execution is written down; if that fails too, it is at least told.
    last = {"RecordFailure": "AlertFailure", "AlertFailure": "Failed"}
    late = {"RecordOutcome", "RecordLatest"}
    assert task["Catch"][-1]["Next"] == ("AlertFailure" if name in late else last.get(name, "RecordFailure"))


@pytest.mark.parametrize("name", [name for name, state in states().items() if state["Type"] == "Task"])
def test_nothing_that_takes_long_is_repeated_whatever_failed(name: str) -> None:
    """States.TaskFailed is any failure: of twelve hours of training, or of a holdout that was opened."""
    task = states()[name]
    repeated = {error for rule in task["Retry"] for error in rule["ErrorEquals"]}
    assert "States.ALL" not in repeated
    assert "States.TaskFailed" not in repeated or task["TimeoutSeconds"] <= 60


@pytest.mark.parametrize(
    "name", [name for name, state in states().items() if state.get("Resource", "").endswith(".sync")]
)
def test_every_job_is_told_the_region_by_the_name_that_boto3_reads(name: str) -> None:
    given = states()[name]["Parameters"]
    if name == "EtlOnSpark":
        submitted = given["JobDriver"]["SparkSubmit"]["SparkSubmitParameters"]
        assert "driverEnv.AWS_DEFAULT_REGION=${region}" in submitted
    else:
        assert given["Environment.$"] == "$.settings.environment"
        environment = states()["Prepare"]["Parameters"]["settings"]["environment"]
        assert environment["AWS_DEFAULT_REGION"] == "${region}"


def words(name: str) -> list[str]:
    """The words of a job that are not taken from the execution's state."""
    given: str = states()[name]["Parameters"]["AppSpecification"]["ContainerArguments.$"]
    return re.findall(r"'([^'{}]*?)'(?=[,)])", given.removeprefix("States.Array"))


@pytest.mark.parametrize("name", [name for name, state in states().items() if state.get("Resource") == JOB])
def test_a_job_calls_a_verb_with_options_that_the_command_line_knows(name: str) -> None:
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    verb, *rest = words(name)
    known = {word for option in verbs.commands[verb].params for word in option.opts}
    given = {word for word in rest if word.startswith("--")}
    assert given <= known
    required = {option.opts[0] for option in verbs.commands[verb].params if option.required}
    assert required <= given


@pytest.mark.parametrize("name", [name for name, state in states().items() if state.get("Resource") == JOB])
def test_a_job_is_limited_tagged_and_within_the_private_network(name: str) -> None:
    given = states()[name]["Parameters"]
    assert 0 < given["StoppingCondition"]["MaxRuntimeInSeconds"] < states()[name]["TimeoutSeconds"]
    assert {tag["Key"] for tag in given["Tags"]} == {"project", "pipeline"}
    assert given["NetworkConfig"] == {"VpcConfig.$": "$.settings.network"}
    assert given["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == "${kms_key}"


def test_only_the_state_before_it_leads_to_promotion_and_only_a_passed_gate_to_that() -> None:
    before = {
        target: {n for n, s in states().items() if target in following(s)}
        for target in ("Promote", "TakeTurn")
    }
    assert before["Promote"] == {"TakeTurn", "WhichAgain"}
    (again,) = [rule for rule in states()["WhichAgain"]["Choices"] if rule["Next"] == "Promote"]
    assert again["StringMatches"] == "spanishgas-promote-*"  # so it was reached, and its turn is still held
    assert before["TakeTurn"] == {"Gate", "IsTurnHeld", "AwaitTurn", "VoidTurn"}
    assert states()["Gate"]["Default"] == "NoVerdict"


def run(account: Account, given: dict[str, Any], name: str = "run") -> tuple[dict[str, Any], list[str]]:
    arn = boto3.client("stepfunctions").start_execution(
        stateMachineArn=account.machine, name=name, input=json.dumps(given)
    )["executionArn"]
    return ended(arn), passed(arn)


def test_a_labelled_upload_is_built_trained_evaluated_promoted_scored_and_watched(
    account: Account, jobs: Jobs
) -> None:
    done, way = run(account, TRAIN)
    assert done["status"] == "SUCCEEDED"
    assert way[-1] == "Succeeded"
    lake = f"s3://{account.bucket}"
    assert jobs.created == [
        ("etl", "--raw", TRAIN["raw"], "--lake", lake, "--as_of", "2024-12-31"),
        ("experiment", "--id", "E5", "--model", "xgboost", "--trials", "25", "--lake", lake),
        ("evaluate", "--run", "0123456789abcdef", "--lake", lake),
        ("promote", "--version", "3", "--reason", "run any of the pipeline"),
        ("score", "--alias", "champion", "--lake", lake, "--backend", "sagemaker"),
        ("drift", "--lake", lake),
    ]
    assert account.row("any")["status"] == "succeeded"
    assert account.row("latest")["run"] == "any"
    assert account.row("turn") == {}
    assert account.messages() == []


def test_a_refused_gate_ends_as_not_promoted_and_nothing_is_scored(account: Account, jobs: Jobs) -> None:
    """In the replaced system training had overwritten the model before the gate, and scoring followed in any case."""
    jobs.said["evaluate"] = "not promoted"
    done, way = run(account, TRAIN)
    assert (done["status"], way[-1]) == ("SUCCEEDED", "NotPromoted")
    assert jobs.verbs() == ["etl", "experiment", "evaluate"]
    assert account.row("any")["status"] == "not promoted"


@pytest.mark.parametrize(
    "said", ["version 3, gate refused", *slow_too("version 3", "gate passed", "", "Version 3, gate passed")]
)
def test_whatever_is_not_a_passed_gate_promotes_nothing(account: Account, jobs: Jobs, said: str) -> None:
    jobs.said["evaluate"] = said
    done, _ = run(account, TRAIN)
    assert done["status"] == "FAILED"
    assert jobs.verbs() == ["etl", "experiment", "evaluate"]


def test_an_upload_without_labels_is_scored_with_the_champion(account: Account, jobs: Jobs) -> None:
    run(account, {**TRAIN, "mode": "score"})
    assert jobs.verbs() == ["etl", "score", "drift"]


@pytest.mark.parametrize("given", [{"raw": TRAIN["raw"]}, *slow_too({}, {"mode": "scoring"})])
def test_without_a_known_mode_nothing_runs(account: Account, jobs: Jobs, given: dict[str, Any]) -> None:
    """In the replaced system an input without a mode was scored: uploads never trained."""
    done, _ = run(account, given)
    assert (done["status"], done["cause"]) == ("FAILED", "UnknownMode: mode must be train or score")
    assert jobs.created == []
    assert account.row("run")["status"] == "failed"  # called by its execution, for it brought no name


@pytest.mark.slow
def test_a_schedule_trains_on_the_gold_that_is_there_with_what_it_asks_for(
    account: Account, jobs: Jobs
) -> None:
    run(account, {"id": "schedule/1", "mode": "train", "experiment": "E3", "trials": 4})
    lake = f"s3://{account.bucket}"
    assert jobs.created[0] == (
        "experiment",
        "--id",
        "E3",
        "--model",
        "xgboost",
        "--trials",
        "4",
        "--lake",
        lake,
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["score", *slow_too("etl", "experiment", "evaluate", "promote", "drift")])
def test_a_job_whose_container_fails_is_not_repeated_but_written_down_and_told(
    account: Account, jobs: Jobs, verb: str
) -> None:
    jobs.said[verb] = JobFailed("error: the disk is full")
    done, way = run(account, TRAIN)
    assert (done["status"], way[-1]) == ("FAILED", "Failed")
    assert jobs.verbs().count(verb) == 1
    assert account.row("any")["status"] == "failed"
    assert "the disk is full" in account.row("any")["failure"]
    ((subject, text),) = account.messages()
    assert subject == "SpanishGas: a run failed"
    assert "the disk is full" in text
    assert account.row("latest") == {}


CAPACITY = "CapacityError: Unable to provision requested ML compute capacity."
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."


def first_failing(jobs: Jobs, verb: str, *reasons: str) -> None:
    """Have the verb's job fail for each of the reasons, then do as before."""
    left, before = [*reasons], jobs.said.get(verb, "done")

    def answer() -> str:
        if left:
            raise JobFailed("", left.pop(0))
        assert isinstance(before, str)
        return before

    jobs.said[verb] = answer


@pytest.mark.parametrize(
    ("verb", "reason"),
    [
        ("score", INTERNAL),
        *slow_too(*[(verb, CAPACITY) for verb in ("etl", "experiment", "evaluate", "promote", "drift")]),
        *slow_too(*[(verb, INTERNAL) for verb in ("etl", "experiment", "promote", "drift")]),
    ],
)
def test_a_job_that_sagemaker_could_not_run_is_done_again_and_the_run_goes_on(
    account: Account, jobs: Jobs, verb: str, reason: str
) -> None:
    first_failing(jobs, verb, reason)
    done, way = run(account, {**TRAIN, "mode": "score" if verb == "score" else "train"})
    assert done["status"] == "SUCCEEDED", way
    assert jobs.verbs().count(verb) == 2


@pytest.mark.parametrize(
    ("verb", "reasons"),
    [("etl", [CAPACITY, INTERNAL]), *slow_too(("evaluate", [INTERNAL]), ("score", [INTERNAL, INTERNAL]))],
)
def test_a_second_failure_is_final_and_so_is_an_evaluation_that_may_have_opened_the_holdout(
    account: Account, jobs: Jobs, verb: str, reasons: list[str]
) -> None:
    first_failing(jobs, verb, *reasons)
    assert run(account, TRAIN)[0]["status"] == "FAILED"
    assert jobs.verbs().count(verb) == len(reasons)
    assert reasons[-1] in account.row("any")["failure"]


def test_drift_is_told_counted_and_no_failure(account: Account, jobs: Jobs) -> None:
    jobs.said["drift"] = "alarm: yes, report in run 77"
    assert run(account, TRAIN)[0]["status"] == "SUCCEEDED"
    ((subject, text),) = account.messages()
    assert (subject, "report in run 77" in text) == ("SpanishGas: the customers have drifted", True)
    metrics = boto3.client("cloudwatch").list_metrics(Namespace="SpanishGas", MetricName="Drift")["Metrics"]
    assert {"Name": "Pipeline", "Value": account.bucket} in [d for m in metrics for d in m["Dimensions"]]


@pytest.mark.slow
def test_one_execution_promotes_at_a_time_and_the_next_goes_on_when_it_has_ended(
    account: Account, jobs: Jobs
) -> None:
    entered, release, at_once, most = threading.Semaphore(0), threading.Event(), [0], [0]

    def slow() -> str:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        entered.release()
        assert release.wait(60)
        at_once[0] -= 1
        return "champion: version 3"

    jobs.said["promote"] = slow
    client = boto3.client("stepfunctions")
    both = [
        client.start_execution(
            stateMachineArn=account.machine, name=name, input=json.dumps({"id": name, "mode": "train"})
        )["executionArn"]
        for name in ("first", "second")
    ]
    assert entered.acquire(timeout=60)
    while not any("AwaitTurn" in passed(arn) for arn in both):
        assert {client.describe_execution(executionArn=arn)["status"] for arn in both} == {"RUNNING"}
        time.sleep(0.2)
    release.set()
    assert [ended(arn)["status"] for arn in both] == ["SUCCEEDED"] * 2
    assert most == [1]
    assert account.row("turn") == {}


@pytest.mark.slow
def test_the_turn_of_an_execution_that_failed_is_void(account: Account, jobs: Jobs) -> None:
    jobs.said["promote"] = JobFailed("killed")
    run(account, TRAIN, "dead")
    assert "dead" in account.row("turn")["holder"]
    jobs.said["promote"] = "champion: version 3"
    done, way = run(account, TRAIN, "alive")
    assert done["status"] == "SUCCEEDED"
    assert "VoidTurn" in way


@pytest.mark.slow
def test_one_variable_puts_the_etl_on_spark(aws: str, jobs: Jobs) -> None:
    jobs.said, jobs.created = dict(GOOD), []
    own = aws_stand_in.account(
        "on-spark", {"etl_engine": "spark", "spark_application": "app", "spark_role": aws_stand_in.ROLE}
    )
    assert run(own, {**TRAIN, "mode": "score"})[0]["status"] == "SUCCEEDED"
    lake = "s3://on-spark"
    assert jobs.created[0] == ("spark", TRAIN["raw"], lake, f"{lake}/code/experiments", "2024-12-31")
    assert jobs.verbs() == ["spark", "score", "drift"]


@pytest.mark.slow
def test_a_jobs_environment_holds_no_password(account: Account, jobs: Jobs) -> None:
    run(account, {**TRAIN, "mode": "score"})
    for parameters in jobs.parameters:
        assert "SPANISHGAS_TRACKING_SECRET" in parameters["Environment"]
        assert not [name for name in parameters["Environment"] if "PASSWORD" in name]


@pytest.mark.slow
def test_the_stand_in_refuses_a_job_that_sagemaker_would_refuse(aws: str, jobs: Jobs) -> None:
    jobs.said, jobs.created = dict(GOOD), []
    own = aws_stand_in.account("refusing", {"job_role": "short"})
    done, _ = run(own, {**TRAIN, "mode": "score"})
    assert done["status"] == "FAILED"
    assert "RoleArn" in done["cause"]
    assert jobs.created == []

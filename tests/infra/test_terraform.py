"""What the architecture promises, read from the Terraform files themselves."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import tempfile
from types import ModuleType

import botocore.session
import pytest
from botocore import xform_name

from spanishgas.aws import job, upload
from spanishgas.lake import LAYERS
from spanishgas.monitoring import loop
from spanishgas.scoring import sagemaker_sdk
from spanishgas.scoring.jobs import PREFIX
from tests.infra.state_machine import states
from tests.infra.terraform import ACTION, MODULES, ROOT, Module, module

ALL = ["", *MODULES]
NO_RESOURCE = {  # actions that AWS grants for everything or not at all
    "ecr:GetAuthorizationToken",
    "cloudwatch:PutMetricData",  # held to the namespace by a condition
    "ecs:RegisterTaskDefinition",
    "ecs:DeregisterTaskDefinition",
    *(f"ec2:{verb}NetworkInterface" for verb in ("Create", "Delete")),
    *(f"ec2:{verb}NetworkInterfacePermission" for verb in ("Create", "Delete")),
    *(
        f"ec2:Describe{what}"
        for what in ("NetworkInterfaces", "Vpcs", "DhcpOptions", "Subnets", "SecurityGroups")
    ),
    *(f"logs:{verb}LogDelivery" for verb in ("Create", "Get", "Update", "Delete")),
    *(
        "logs:ListLogDeliveries",
        "logs:PutResourcePolicy",
        "logs:DescribeResourcePolicies",
        "logs:DescribeLogGroups",
    ),
}


def test_terraform_finds_its_files_as_it_would_format_them() -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("no terraform on this machine: the workflow `ci` runs fmt and validate")
    done = subprocess.run(
        [terraform, "fmt", "-check", "-diff", "-recursive", ROOT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_version_provider_region_and_state_are_the_designs() -> None:
    (settings,) = module().blocks["terraform"]
    assert settings["required_version"] == ">= 1.9"
    (providers,) = settings["required_providers"]
    assert providers["aws"] == {"source": "hashicorp/aws", "version": "~> 6.0"}
    assert settings["backend"] == [{"s3": {"use_lockfile": True, "encrypt": True}}]
    (tags,) = module().named("provider")["aws"]["default_tags"]
    assert set(tags["tags"]) == {"project", "environment", "managed_by"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_called_once_says_its_purpose_and_its_cost(name: str) -> None:
    head = module(name).text.partition("\n\n")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert "# Cost: " in head
    calls = [call for call in module().named("module").values() if call["source"] == f"./modules/{name}"]
    assert len(calls) == (0 if name == "iam" else 1)  # iam is called by the modules that need a role


@pytest.mark.parametrize("name", ALL)
def test_every_argument_is_declared_and_every_needed_one_is_given(name: str) -> None:
    for call, body in module(name).named("module").items():
        variables = module(body["source"].rpartition("/")[2]).named("variable")
        given = body.keys() - {"source", "count", "for_each", "depends_on"}
        needed = {variable for variable, about in variables.items() if "default" not in about}
        assert given <= variables.keys(), call
        assert needed <= given, call


@pytest.mark.parametrize("name", ALL)
def test_every_variable_is_used_and_every_reference_is_declared(name: str) -> None:
    here = module(name)
    # Comments and descriptions may speak of anything.
    text = re.sub(r"(?m)#.*$|^\s*(description|error_message) += .*$", "", here.text)
    assert set(re.findall(r"\bvar\.(\w+)", text)) == here.named("variable").keys()
    assert set(re.findall(r"\blocal\.(\w+)", text)) == here.locals()
    made = {f"{type_}.{label}" for type_, label, _ in here.typed()}
    read = {f"data.{type_}.{label}" for type_, label, _ in here.typed("data")}
    assert set(re.findall(r"\bdata\.\w+\.\w+", text)) == read
    used = set(re.findall(r"(?<![\w.\"/:-])(aws_\w+\.\w+)", text))
    assert used <= made, used - made
    for call, output in re.findall(r"\bmodule\.(\w+)(?:\[\*\])?\.(\w+)", text):
        source = here.named("module")[call]["source"].rpartition("/")[2]
        assert output in module(source).named("output"), f"module.{call}.{output}"


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_an_environment_sets_known_variables_and_with_the_accounts_own_all_that_are_needed(
    environment: str,
) -> None:
    variables = module().named("variable")
    set_here = _set(f"{environment}.tfvars")
    assert set_here["environment"] == f'"{environment}"'
    given = set_here.keys() | _set("account.tfvars.example").keys() | {"images"}  # which a deployment names
    needed = {name for name, about in variables.items() if "default" not in about}
    assert needed <= given <= variables.keys()


def _set(file: str) -> dict[str, str]:
    text = (ROOT / "environments" / file).read_text()
    return dict(re.findall(r"(?m)^(\w+) += (.*)$", text))


def test_every_resource_can_be_tagged_by_default_tags_alone() -> None:
    own = {tag for name in ALL for _, _, body in module(name).typed() for tag in body.get("tags", {})}
    assert own <= {"Name"}


def test_the_lake_is_encrypted_versioned_private_and_speaks_tls_alone() -> None:
    storage = module("storage")
    (rule,) = storage.one("aws_s3_bucket_server_side_encryption_configuration")["rule"]
    assert rule["apply_server_side_encryption_by_default"][0]["sse_algorithm"] == "aws:kms"
    assert storage.one("aws_s3_bucket_versioning")["versioning_configuration"] == [{"status": "Enabled"}]
    block = storage.one("aws_s3_bucket_public_access_block")
    kinds = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    assert [block[kind] for kind in kinds] == [True] * 4
    assert storage.one("aws_kms_key")["enable_key_rotation"] is True
    policies = {label: body["statement"] for type_, label, body in storage.typed("data") if "policy" in type_}
    denied = {
        (s["condition"][0]["variable"], *s["condition"][0]["values"])
        for s in policies["lake"]
        if s["effect"] == "Deny" and s["principals"][0]["identifiers"] == ["*"]
    }
    assert denied == {("aws:SecureTransport", "false"), ("s3:TlsVersion", "1.2")}


def test_bronze_cools_down_scores_expire_and_old_versions_go() -> None:
    rules = {
        rule["id"]: rule for rule in module("storage").one("aws_s3_bucket_lifecycle_configuration")["rule"]
    }
    assert all(rule["status"] == "Enabled" for rule in rules.values())
    bronze, scored, old = rules.values()
    assert bronze["filter"] == [{"prefix": "bronze/"}]
    assert bronze["transition"] == [{"days": 90, "storage_class": "STANDARD_IA"}]
    assert (scored["filter"], scored["expiration"]) == ([{"prefix": "scored/"}], [{"days": 365}])
    assert old["noncurrent_version_expiration"] == [{"noncurrent_days": 30}]


def test_the_database_is_private_encrypted_backed_up_and_its_password_is_nobodys() -> None:
    database = module("database").one("aws_db_instance")
    assert database["engine"] == "postgres"
    assert database["publicly_accessible"] is False
    for name in ("storage_encrypted", "deletion_protection", "manage_master_user_password"):
        assert database[name] is True
    assert "password" not in database
    assert "kms_key_id" in database
    for environment in ("dev", "staging", "prod"):
        days = re.search(r"backup_days = (\d+)", _set(f"{environment}.tfvars")["database"])
        assert days is not None
        assert int(days[1]) >= 7
    parameters = {
        p["name"]: p["value"] for p in module("database").one("aws_db_parameter_group")["parameter"]
    }
    assert parameters["rds.force_ssl"] == "1"


def test_the_tracking_server_is_internal_behind_tls_with_its_own_upgrade() -> None:
    tracking = module("tracking")
    assert tracking.one("aws_lb")["internal"] is True
    listener = tracking.one("aws_lb_listener")
    assert (listener["port"], listener["protocol"]) == (443, "HTTPS")
    assert "TLS13" in listener["ssl_policy"]
    assert tracking.one("aws_ecs_service")["network_configuration"][0]["assign_public_ip"] is False
    assert 'upgrade = "upgrade"' in tracking.text
    for task in ("tracking", "pipeline"):  # a password is a reference to a secret, never a value
        assert not re.search(r'name = "\w*(PASSWORD|KEY)", value =', module(task).text)


def test_nothing_lets_the_internet_in() -> None:
    for name in ALL:
        for type_, label, body in module(name).typed():
            if type_ == "aws_vpc_security_group_ingress_rule":
                assert "0.0.0.0/0" not in str(body), label
            assert type_ not in {
                "aws_internet_gateway",
                "aws_nat_gateway",
                "aws_eip",
                "aws_iam_user",
                "aws_iam_access_key",
            }
            assert body.get("map_public_ip_on_launch", False) is False
            assert body.get("publicly_accessible", False) is False
            assert body.get("assign_public_ip", False) is False


def test_whatever_can_be_encrypted_with_the_projects_key_is() -> None:
    argument = {
        "aws_cloudwatch_log_group": "kms_key_id",
        "aws_secretsmanager_secret": "kms_key_id",
        "aws_sns_topic": "kms_master_key_id",
        "aws_lambda_function": "kms_key_arn",
        "aws_scheduler_schedule": "kms_key_arn",
        "aws_dynamodb_table": "server_side_encryption",
        "aws_ecr_repository": "encryption_configuration",
        "aws_db_instance": "kms_key_id",
    }
    found = [
        (type_, label, body)
        for name in ALL
        for type_, label, body in module(name).typed()
        if type_ in argument
    ]
    assert {type_ for type_, _, _ in found} == argument.keys()
    assert [
        (type_, label) for type_, label, body in found if "kms" not in str(body.get(argument[type_]))
    ] == []


def test_images_are_scanned_and_deployed_by_digest() -> None:
    registry = module("registry")
    repository = registry.one("aws_ecr_repository")
    assert repository["image_scanning_configuration"] == [{"scan_on_push": True}]
    assert repository["image_tag_mutability"] == "IMMUTABLE"
    (rule,) = module().named("variable")["images"]["validation"]
    assert "@sha256:" in rule["condition"]


def test_no_image_that_may_run_is_ever_expired() -> None:
    """Plans push too: whatever counts or ages what has a tag expires in the end the digests that run."""
    rules = re.findall(r"selection += \{(.*)\}", module("registry").text)
    assert rules
    assert [rule for rule in rules if 'tagStatus = "untagged"' not in rule] == []


def test_the_region_has_one_source() -> None:
    assert "region" not in module().named("variable")
    assert "region" not in module().named("provider")["aws"]
    script = (ROOT.parent / "terraform.sh").read_text()
    assert "-e AWS_REGION " in script
    assert not [file for file in ROOT.rglob("*.tf") if re.search(r"\b[a-z]{2}-[a-z]+-\d\b", file.read_text())]


def test_a_service_of_aws_that_pulls_or_calls_does_so_for_this_account_alone() -> None:
    """A principal that is a service acts for whoever uses that service, unless the condition names the account."""
    open_to = [
        (name, label, statement["sid"])
        for name in MODULES
        if name != "iam"  # whose roles are taken by the services of this account, by their own condition
        for _, label, body in module(name).typed("data")
        for statement in body.get("statement", [])
        for principal in statement.get("principals", [])
        if principal["type"] == "Service" and "account_id" not in str(statement.get("condition"))
    ]
    assert open_to == []


def test_nothing_that_json_encodes_holds_a_character_that_terraform_escapes() -> None:
    """`jsonencode` writes <, > and & as \\u003c and so on, which whoever replaces keywords does not see."""
    for name in ALL:
        for encoded in module(name).text.split("jsonencode(")[1:]:
            depth, end = 1, 0
            while depth:
                depth += {"(": 1, ")": -1}.get(encoded[end], 0)
                end += 1
            assert not re.search(r'"[^"]*[<>&][^"]*"', encoded[:end]), name


def test_a_weekly_retraining_has_an_id_of_its_own_in_the_text_that_the_scheduler_gets() -> None:
    (line,) = re.findall(r'(?m)^ +input += ("\{.*\}")', module("pipeline").text)
    rendered = json.loads(line)
    assert rendered == '{"id": "schedule/<aws.scheduler.scheduled-time>", "mode": "train"}'
    terraform = shutil.which("terraform")
    if terraform is not None:
        done = subprocess.run(
            [terraform, "console"], input=line, cwd=tempfile.gettempdir(), capture_output=True, text=True
        )
        assert json.loads(done.stdout) == rendered, done.stderr


def test_silence_is_an_alarm_only_where_a_clock_starts_runs() -> None:
    made = module("alerts").one("aws_cloudwatch_metric_alarm")["for_each"]
    assert 'key != "silent" || var.schedules_enabled' in made
    assert module().named("module")["alerts"]["schedules_enabled"] == "${var.schedules_enabled}"


def test_a_job_may_make_transform_jobs_whatever_the_registered_model_is_called() -> None:
    (resources,) = set(re.findall(r'"\$\{local.arn\}:transform-job/([\w-]*)\*"', module("sagemaker").text))
    assert resources == PREFIX


def test_only_the_key_policy_and_denials_name_a_wildcard_action() -> None:
    wild = {(name, action) for name in ALL for action in ACTION.findall(module(name).text) if "*" in action}
    assert wild == {("storage", "kms:*"), ("storage", "s3:*")}
    statements = [s for _, _, body in module("storage").typed("data") for s in body.get("statement", [])]
    assert all(s["effect"] == "Deny" for s in statements if s["actions"] == ["s3:*"])
    assert [s["sid"] for s in statements if s["actions"] == ["kms:*"]] == ["AccountDecidesByIam"]
    managed = {found for name in ALL for found in re.findall(r"iam::aws:policy/(\S+)\"", module(name).text)}
    assert managed == {"ReadOnlyAccess"}  # of the deploy role, which is denied the lake


def test_every_resource_is_allowed_only_where_an_action_knows_none() -> None:
    pairs = [
        (name, set(re.findall(r'"([\w-]+:\w+)"', actions)))
        for name in MODULES
        for actions in re.findall(r'actions += \[([^]]*)\][,\s]+resources += \["\*"\]', module(name).text)
        if name != "storage"  # a key policy's resource is the key
    ]
    assert pairs
    assert [(name, actions - NO_RESOURCE) for name, actions in pairs if actions - NO_RESOURCE] == []
    for text in (module(name).text for name in MODULES):
        for found in re.findall(r"\{[^{}]*cloudwatch:PutMetricData[^{}]*\{[^{}]*\}", text):
            assert '"cloudwatch:namespace", values = ["SpanishGas"]' in found


def test_every_role_is_made_by_the_one_module_or_by_githubs_trust() -> None:
    roles = {name for name in ALL for type_, _, _ in module(name).typed() if type_ == "aws_iam_role"}
    assert roles == {"iam", "deploy"}


OPERATIONS = {
    xform_name(operation): f"{prefix}:{operation}"
    for service, prefix in {
        "dynamodb": "dynamodb",
        "stepfunctions": "states",
        "cloudwatch": "cloudwatch",
        "secretsmanager": "secretsmanager",
    }.items()
    for operation in botocore.session.get_session().get_service_model(service).operation_names
} | {"list_objects_v2": "s3:ListBucket"}


def _calls(*modules: ModuleType) -> set[str]:
    """The AWS actions that code asks for, by the names of boto3's operations in it."""
    words = {word for code in modules for word in re.findall(r"\b[a-z]\w+_\w+\b", inspect.getsource(code))}
    return {OPERATIONS[word] for word in words if word in OPERATIONS}


def test_the_function_may_do_what_its_code_does_and_no_more() -> None:
    needed = _calls(upload)
    assert {"dynamodb:UpdateItem", "states:StartExecution", "s3:ListBucket"} <= needed
    around = {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "sns:Publish",
        "kms:Decrypt",
        "kms:GenerateDataKey",
    }
    assert module("trigger").may("role") == needed | around


def test_a_job_may_do_what_its_code_does() -> None:
    may = module("sagemaker").may("job_role")
    sdk = inspect.getsource(sagemaker_sdk)
    assert "TransformJob.create" in sdk
    assert "Model.create" in sdk
    used = {
        f"sagemaker:{verb}{what}" for verb in ("Create", "Describe") for what in ("Model", "TransformJob")
    }
    used |= {"sagemaker:DeleteModel", "sagemaker:StopTransformJob", "sagemaker:AddTags", "iam:PassRole"}
    assert used | _calls(job, loop) <= may
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"} <= may
    assert not {"sagemaker:CreateEndpoint", "s3:PutBucketPolicy"} & may


def test_a_job_may_write_wherever_a_verb_does() -> None:
    written = re.search(r"prefixes = \[(.*?)\]", module("sagemaker").text)
    assert written is not None
    assert {*map(str, LAYERS.values()), "raw", "truth"} <= set(re.findall(r'"(\w+)"', written[1]))
    assert '"${var.bucket_arn}/code/commits/*"' in module("sagemaker").role("job_role")
    assert module().named("output")["backend"]["value"]["code"].endswith("/code/commits")


def test_a_job_starts_transform_jobs_on_the_instance_types_that_are_named_alone() -> None:
    role = module("sagemaker").role("job_role")
    (limited,) = [part for part in role.split("sid ") if '"sagemaker:CreateTransformJob"' in part]
    assert 'variable = "sagemaker:InstanceTypes", values = var.instance_types' in limited
    assert module().named("module")["sagemaker"]["instance_types"] == "${distinct(values(var.instances))}"


def test_the_state_machine_may_do_what_its_tasks_do() -> None:
    needed = set()
    for task in (state for state in states().values() if state["Type"] == "Task"):
        service, operation = (
            task["Resource"].removeprefix("arn:aws:states:::").removeprefix("aws-sdk:").split(":")
        )
        action = operation.removesuffix(".sync")
        needed.add(f"{ {'sfn': 'states'}.get(service, service) }:{action[0].upper()}{action[1:]}")
        if operation.endswith(".sync"):
            needed |= {"events:PutTargets", "events:PutRule", "events:DescribeRule", "iam:PassRole"}
    needed |= {"sagemaker:DescribeProcessingJob", "sagemaker:StopProcessingJob", "sagemaker:AddTags"}
    needed |= {"emr-serverless:GetJobRun", "emr-serverless:CancelJobRun"}
    around = {action for action in module("pipeline").may("role") if action.startswith(("logs:", "kms:"))}
    assert module("pipeline").may("role") == needed | around


def test_retraining_is_on_mondays_at_six_and_reconciling_every_few_minutes() -> None:
    schedules = {
        label: body for type_, label, body in module("pipeline").typed() if type_ == "aws_scheduler_schedule"
    }
    assert schedules["retrain"]["schedule_expression"] == "cron(0 6 ? * MON *)"
    assert schedules["retrain"]["schedule_expression_timezone"] == "UTC"
    assert schedules["reconcile"]["schedule_expression"] == "rate(15 minutes)"


def test_failure_drift_and_silence_are_mailed() -> None:
    text = module("alerts").text
    rows = dict(re.findall(r"(?m)^    (\w+) += \{ namespace = .*?metric = \"(\w+)\".*$", text))
    assert {"ExecutionsFailed", "ExecutionsTimedOut", "Drift", "DaysSinceLastRun"} <= set(rows.values())
    silent = re.search(r"silent .*above = (\d+), missing = \"(\w+)\"", text)
    assert silent is not None
    assert silent.groups() == ("8", "breaching")
    # Without any task of the server there is no unhealthy one either: what counts is that one is healthy.
    server = re.search(r"metric = \"(\w+Count)\".*below = (\d+), missing = \"(\w+)\"", text)
    assert server is not None
    assert server.groups() == ("HealthyHostCount", "1", "breaching")
    assert module("alerts").one("aws_sns_topic_subscription")["protocol"] == "email"
    assert module("alerts").one("aws_cloudwatch_metric_alarm")["alarm_actions"] == [
        "${aws_sns_topic.this.arn}"
    ]


def test_the_manifest_is_paid_by_request_and_can_be_restored() -> None:
    table = module("trigger").one("aws_dynamodb_table")
    assert table["billing_mode"] == "PAY_PER_REQUEST"
    assert table["point_in_time_recovery"] == [{"enabled": True}]


def test_only_this_repositorys_environments_may_deploy_and_they_never_read_the_lake() -> None:
    deploy = module("deploy")
    statements = {label: body["statement"] for _, label, body in deploy.typed("data") if "statement" in body}
    (trust,) = statements["trust"]
    assert trust["actions"] == ["sts:AssumeRoleWithWebIdentity"]
    subject = trust["condition"][1]
    assert (subject["test"], subject["values"]) == (
        "StringEquals",
        ["repo:${var.repository}:environment:${each.value}"],
    )
    denied = [s for s in statements["look"] if s.get("effect") == "Deny"]
    assert [(s["actions"], s["resources"]) for s in denied] == [
        (["s3:GetObject", "s3:GetObjectVersion"], ["${var.bucket_arn}/*"])
    ]
    documents = {label: body for _, label, body in deploy.typed("data")}
    for wide in ("plan", "deploy"):  # those that read everything else
        assert documents[wide]["source_policy_documents"] == ["${data.aws_iam_policy_document.look.json}"]
    # What has no reviewer changes nothing that runs.
    actions = {label: {a for s in found for a in s["actions"]} for label, found in statements.items()}
    assert not [
        action for action in actions["plan"] | actions["look"] if ":Update" in action or ":Run" in action
    ]
    assert actions["retrain"] == {
        "states:StartExecution", "states:DescribeExecution", "dynamodb:GetItem", "kms:Decrypt", "kms:GenerateDataKey"
    }  # fmt: skip
    everything = set().union(*actions.values())
    assert not [a for a in everything if a.startswith(("iam:Create", "iam:Put", "iam:Attach"))]


def test_a_release_may_do_what_terraform_does_for_one_and_hands_roles_to_their_services_alone() -> None:
    deploy = module("deploy")
    statements = {label: body["statement"] for _, label, body in deploy.typed("data") if "statement" in body}
    by_id = {s["sid"]: s for found in statements.values() for s in found if "sid" in s}
    assert module().named("provider")["aws"]["default_tags"]  # so whatever is registered is tagged
    assert by_id["RollOutTasks"]["actions"] == ["ecs:RegisterTaskDefinition", "ecs:DeregisterTaskDefinition"]
    assert by_id["TagTasks"]["actions"] == ["ecs:TagResource"]
    assert "states:UpdateStateMachine" in by_id["RollOutMachine"]["actions"]
    assert by_id["CheckDefinition"]["actions"] == ["states:ValidateStateMachineDefinition"]
    (handed,) = by_id["HandOverRoles"]["condition"]
    assert handed["variable"] == "iam:PassedToService"
    assert "sagemaker.amazonaws.com" not in handed["values"]
    (given,) = [body for label, body in module().named("module").items() if label == "deploy"]
    assert not [role for role in given["passed_roles"] if "job_role" in role]


def test_one_environment_of_an_account_makes_the_provider_of_githubs_identities() -> None:
    makers = [
        path.stem
        for path in sorted((ROOT / "environments").glob("*.tfvars"))
        if "create_github_provider = true" in path.read_text()
    ]
    assert makers == ["dev"]


def test_the_definition_is_given_exactly_the_values_that_it_names() -> None:
    text = (ROOT.parent / "stepfunctions" / "pipeline.asl.json").read_text()
    block = re.search(
        r"templatefile\(var\.definition_file, \{(.*?)\n  \}\)", module("pipeline").text, re.DOTALL
    )
    assert block is not None
    assert set(re.findall(r"(?m)^    (\w+) +=", block[1])) == set(re.findall(r"\$\{(\w+)\}", text))


def test_no_file_names_an_account_a_person_or_a_host() -> None:
    """The replaced system published its account, user, bucket and addresses."""
    for file in [
        *ROOT.rglob("*.tf"),
        *ROOT.rglob("*.tfvars*"),
        ROOT.parent / "stepfunctions" / "pipeline.asl.json",
    ]:
        text = file.read_text()
        accounts = set(re.findall(r"(?<!\d)\d{12}(?!\d)", text)) - {"111122223333", "000000000000"}
        assert accounts == set(), file
        assert not re.search(r"AKIA[0-9A-Z]{16}|AdministratorAccess", text), file
        hosts = re.findall(r"[\w.-]+\.(?:com|net|org|io)\b", text)
        assert [
            h for h in hosts if not h.endswith(("amazonaws.com", "example.com", "githubusercontent.com"))
        ] == []


def test_the_parser_sees_a_promise_that_is_broken() -> None:
    broken = Module('actions = ["s3:*"]', {"resource": [{"aws_lb": {"this": {"internal": False}}}]})
    assert broken.one("aws_lb")["internal"] is False
    assert ACTION.findall(broken.text) == ["s3:*"]

# The state machine and what starts it by the clock: retraining on Mondays, reconciling every 15 minutes.
# Cost: the state machine is cents a month; what it starts is not: instance-hours of jobs, and a small Fargate task for
# a minute or two of every quarter of an hour.

variable "name" { type = string }
variable "definition_file" { type = string }
variable "job_image" { type = string }
variable "serve_image" { type = string }
variable "job_role_arn" { type = string }
variable "transform_role_arn" { type = string }
variable "instances" { type = object({ etl = string, train = string, score = string, transform = string }) }
variable "etl_engine" { type = string }
variable "trials" { type = number }
variable "spark" { type = object({ application_id = string, application_arn = string, role_arn = string }) }
variable "bucket_name" { type = string }
variable "transform_prefix" { type = string }
variable "kms_key_arn" { type = string }
variable "subnet_ids" { type = list(string) }
variable "security_group_id" { type = string }
variable "tracking_uri" { type = string }
variable "pipeline_secret_arn" { type = string }
variable "cluster_arn" { type = string }
variable "execution_role_arn" { type = string }
variable "table_name" { type = string }
variable "table_arn" { type = string }
variable "topic_arn" { type = string }
variable "schedules_enabled" { type = bool }

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}

locals {
  here   = "${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}"
  bucket = "arn:aws:s3:::${var.bucket_name}"
  spark  = var.spark == null ? { application_id = "none", application_arn = null, role_arn = "none" } : var.spark
  state  = var.schedules_enabled ? "ENABLED" : "DISABLED"
}

resource "aws_cloudwatch_log_group" "this" {
  for_each          = { machine = "/aws/vendedlogs/states/${var.name}", reconcile = "/${var.name}/reconcile" }
  name              = each.value
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

module "role" {
  source  = "../iam"
  name    = "${var.name}-pipeline"
  service = "states.amazonaws.com"
  statements = concat([
    {
      sid       = "Jobs"
      actions   = ["sagemaker:CreateProcessingJob", "sagemaker:DescribeProcessingJob", "sagemaker:StopProcessingJob", "sagemaker:AddTags"]
      resources = ["arn:aws:sagemaker:${local.here}:processing-job/spanishgas-*"]
    },
    {
      sid        = "HandOverRoles"
      actions    = ["iam:PassRole"]
      resources  = compact([var.job_role_arn, try(var.spark.role_arn, null)])
      conditions = [{ test = "StringEquals", variable = "iam:PassedToService", values = ["sagemaker.amazonaws.com", "emr-serverless.amazonaws.com"] }]
    },
    {
      sid       = "HearOfJobs"
      actions   = ["events:PutTargets", "events:PutRule", "events:DescribeRule"]
      resources = [for job in ["SageMakerProcessingJobs", "EMRServerlessJob"] : "arn:aws:events:${local.here}:rule/StepFunctionsGetEventsFor${job}Rule"]
    },
    { sid = "Manifest", actions = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"], resources = [var.table_arn] },
    { sid = "WhetherTheHolderLives", actions = ["states:DescribeExecution"], resources = ["arn:aws:states:${local.here}:execution:${var.name}:*"] },
    { sid = "Alert", actions = ["sns:Publish"], resources = [var.topic_arn] },
    { sid = "CountDrift", actions = ["cloudwatch:PutMetricData"], resources = ["*"], conditions = [{ test = "StringEquals", variable = "cloudwatch:namespace", values = ["SpanishGas"] }] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"], resources = [var.kms_key_arn] },
    {
      sid        = "EncryptDisksOfJobs"
      actions    = ["kms:CreateGrant"]
      resources  = [var.kms_key_arn]
      conditions = [{ test = "StringEquals", variable = "kms:ViaService", values = ["sagemaker.${data.aws_region.here.region}.amazonaws.com"] }]
    },
    {
      sid = "Log"
      actions = [
        "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
        "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups"
      ]
      resources = ["*"]
    },
    ], var.etl_engine != "spark" ? [] : [
    {
      sid       = "Spark"
      actions   = ["emr-serverless:StartJobRun", "emr-serverless:GetJobRun", "emr-serverless:CancelJobRun"]
      resources = [local.spark.application_arn, "${local.spark.application_arn}/jobruns/*"]
    }
  ])
}

resource "aws_sfn_state_machine" "this" {
  name     = var.name
  role_arn = module.role.arn
  definition = templatefile(var.definition_file, {
    name               = var.name
    region             = data.aws_region.here.region
    bucket             = var.bucket_name
    transform_prefix   = var.transform_prefix
    table              = var.table_name
    topic              = var.topic_arn
    job_image          = var.job_image
    serve_image        = var.serve_image
    job_role           = var.job_role_arn
    transform_role     = var.transform_role_arn
    kms_key            = var.kms_key_arn
    subnet_a           = var.subnet_ids[0]
    subnet_b           = var.subnet_ids[1]
    security_group     = var.security_group_id
    tracking_uri       = var.tracking_uri
    tracking_secret    = var.pipeline_secret_arn
    etl_engine         = var.etl_engine
    trials             = var.trials
    etl_instance       = var.instances.etl
    train_instance     = var.instances.train
    score_instance     = var.instances.score
    transform_instance = var.instances.transform
    spark_application  = local.spark.application_id
    spark_role         = local.spark.role_arn
  })
  logging_configuration {
    level                  = "ERROR"
    include_execution_data = true # ids, paths and what the verbs say; no rows
    log_destination        = "${aws_cloudwatch_log_group.this["machine"].arn}:*"
  }
}

module "scheduler_role" {
  source  = "../iam"
  name    = "${var.name}-scheduler"
  service = "scheduler.amazonaws.com"
  statements = [
    { sid = "Retrain", actions = ["states:StartExecution"], resources = [aws_sfn_state_machine.this.arn] },
    { sid = "Reconcile", actions = ["ecs:RunTask"], resources = ["${aws_ecs_task_definition.reconcile.arn_without_revision}:*"] },
    {
      sid        = "HandOverRoles"
      actions    = ["iam:PassRole"]
      resources  = [var.execution_role_arn, module.reconcile_role.arn]
      conditions = [{ test = "StringEquals", variable = "iam:PassedToService", values = ["ecs-tasks.amazonaws.com"] }]
    },
    { sid = "Decrypt", actions = ["kms:Decrypt"], resources = [var.kms_key_arn] },
  ]
}

resource "aws_scheduler_schedule" "retrain" {
  name                         = "${var.name}-retrain"
  state                        = local.state
  schedule_expression          = "cron(0 6 ? * MON *)"
  schedule_expression_timezone = "UTC"
  kms_key_arn                  = var.kms_key_arn
  flexible_time_window { mode = "OFF" }
  target {
    arn      = aws_sfn_state_machine.this.arn
    role_arn = module.scheduler_role.arn
    input    = "{\"id\": \"schedule/<aws.scheduler.scheduled-time>\", \"mode\": \"train\"}" # jsonencode writes < as \u003c
  }
}

# Sees a champion that was moved by hand, and scores with it. It reads gold and writes scores; nothing else.
module "reconcile_role" {
  source  = "../iam"
  name    = "${var.name}-reconcile"
  service = "ecs-tasks.amazonaws.com"
  statements = [
    { sid = "Read", actions = ["s3:GetObject"], resources = ["${local.bucket}/gold/*", "${local.bucket}/scored/*"] },
    { sid = "Scores", actions = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], resources = ["${local.bucket}/scored/*"] },
    { sid = "List", actions = ["s3:ListBucket"], resources = [local.bucket] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] },
  ]
}

resource "aws_ecs_task_definition" "reconcile" {
  family                   = "${var.name}-reconcile"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024
  memory                   = 4096
  execution_role_arn       = var.execution_role_arn
  task_role_arn            = module.reconcile_role.arn
  container_definitions = jsonencode([{
    name       = "reconcile"
    image      = var.job_image
    user       = "10001"
    essential  = true
    entryPoint = ["python", "-m", "spanishgas"]
    command    = ["reconcile", "--lake", "s3://${var.bucket_name}"]
    environment = [
      { name = "AWS_DEFAULT_REGION", value = data.aws_region.here.region },
      { name = "MLFLOW_TRACKING_URI", value = var.tracking_uri },
      { name = "SPANISHGAS_CACHE", value = "/tmp/cache" },
    ]
    secrets = [
      { name = "MLFLOW_TRACKING_USERNAME", valueFrom = "${var.pipeline_secret_arn}:username::" },
      { name = "MLFLOW_TRACKING_PASSWORD", valueFrom = "${var.pipeline_secret_arn}:password::" },
      { name = "SPANISHGAS_SEALING_KEY", valueFrom = "${var.pipeline_secret_arn}:sealing_key::" },
    ]
    logConfiguration = {
      logDriver = "awslogs"
      options   = { awslogs-group = aws_cloudwatch_log_group.this["reconcile"].name, awslogs-region = data.aws_region.here.region, awslogs-stream-prefix = "reconcile" }
    }
  }])
}

resource "aws_scheduler_schedule" "reconcile" {
  name                = "${var.name}-reconcile"
  state               = local.state
  schedule_expression = "rate(15 minutes)"
  kms_key_arn         = var.kms_key_arn
  flexible_time_window { mode = "OFF" }
  target {
    arn      = var.cluster_arn
    role_arn = module.scheduler_role.arn
    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.reconcile.arn
      launch_type         = "FARGATE"
      network_configuration {
        subnets          = var.subnet_ids
        security_groups  = [var.security_group_id]
        assign_public_ip = false
      }
    }
    retry_policy { maximum_retry_attempts = 0 } # the next one comes anyway
  }
}

output "state_machine_arn" { value = aws_sfn_state_machine.this.arn }
output "role_arn" { value = module.role.arn }

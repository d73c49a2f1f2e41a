# Who is told, and of what: failed runs, drift, a function or a server that fails; where runs are started by the clock, also
# that there was no good one in eight days.
# Cost: cents: a few alarms, and mails.

variable "name" { type = string }
variable "alert_email" { type = string }
variable "kms_key_arn" { type = string }
variable "state_machine_arn" { type = string }
variable "function_name" { type = string }
variable "load_balancer" { type = object({ balancer = string, targets = string }) }
variable "database_id" { type = string }
variable "schedules_enabled" { type = bool }

data "aws_caller_identity" "here" {}

locals {
  machine = { StateMachineArn = var.state_machine_arn }
  ours    = { Pipeline = var.name }
  day     = 86400
  # missing: what silence means. The days are counted daily, so their silence is an alarm too.
  alarms = {
    failed    = { namespace = "AWS/States", metric = "ExecutionsFailed", dimensions = local.machine, statistic = "Sum", period = 300, above = 0, missing = "notBreaching", what = "An execution failed" }
    timed_out = { namespace = "AWS/States", metric = "ExecutionsTimedOut", dimensions = local.machine, statistic = "Sum", period = 300, above = 0, missing = "notBreaching", what = "An execution ran out of time" }
    aborted   = { namespace = "AWS/States", metric = "ExecutionsAborted", dimensions = local.machine, statistic = "Sum", period = 300, above = 0, missing = "notBreaching", what = "An execution was aborted" }
    drift     = { namespace = "SpanishGas", metric = "Drift", dimensions = local.ours, statistic = "Maximum", period = 300, above = 0, missing = "notBreaching", what = "The scored customers differ from those the champion was trained on" }
    silent    = { namespace = "SpanishGas", metric = "DaysSinceLastRun", dimensions = local.ours, statistic = "Maximum", period = local.day, above = 8, missing = "breaching", what = "No good run in eight days" }
    upload    = { namespace = "AWS/Lambda", metric = "Errors", dimensions = { FunctionName = var.function_name }, statistic = "Sum", period = 300, above = 0, missing = "notBreaching", what = "The upload function failed" }
    tracking  = { namespace = "AWS/ApplicationELB", metric = "HealthyHostCount", dimensions = { LoadBalancer = var.load_balancer.balancer, TargetGroup = var.load_balancer.targets }, statistic = "Maximum", period = 300, below = 1, missing = "breaching", what = "The tracking server does not answer" }
    database  = { namespace = "AWS/RDS", metric = "CPUUtilization", dimensions = { DBInstanceIdentifier = var.database_id }, statistic = "Average", period = 1800, above = 90, missing = "breaching", what = "The database is busy or gone" }
  }
}

resource "aws_sns_topic" "this" {
  name              = "${var.name}-alerts"
  kms_master_key_id = var.kms_key_arn
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "AlarmsPublish"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]
    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.here.account_id]
    }
  }
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.this.arn]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  arn    = aws_sns_topic.this.arn
  policy = data.aws_iam_policy_document.topic.json
}

resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = { for key, alarm in local.alarms : key => alarm if key != "silent" || var.schedules_enabled }
  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = each.value.what
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = 1
  comparison_operator = can(each.value.below) ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = try(each.value.below, each.value.above)
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.this.arn]
}

output "topic_arn" { value = aws_sns_topic.this.arn }

# From a complete raw upload to one execution: the Lambda function, and the manifest of what was taken.
# Cost: cents: a call per uploaded object, a row per upload.

variable "name" { type = string }
variable "image" { type = string }
variable "bucket_name" { type = string }
variable "bucket_arn" { type = string }
variable "kms_key_arn" { type = string }
variable "state_machine_arn" { type = string }
variable "topic_arn" { type = string }

data "aws_caller_identity" "here" {}

resource "aws_dynamodb_table" "manifest" {
  name                        = "${var.name}-manifest"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "id"
  deletion_protection_enabled = true
  attribute {
    name = "id"
    type = "S"
  }
  point_in_time_recovery { enabled = true }
  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}-upload"
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

module "role" {
  source            = "../iam"
  name              = "${var.name}-upload"
  service           = "lambda.amazonaws.com"
  account_condition = false # Lambda does not send the account when it takes a function's role
  statements = [
    { sid = "Log", actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["${aws_cloudwatch_log_group.this.arn}:*"] },
    { sid = "ListRaw", actions = ["s3:ListBucket"], resources = [var.bucket_arn], conditions = [{ test = "StringLike", variable = "s3:prefix", values = ["raw/*"] }] },
    { sid = "Manifest", actions = ["dynamodb:GetItem", "dynamodb:UpdateItem"], resources = [aws_dynamodb_table.manifest.arn] },
    { sid = "Start", actions = ["states:StartExecution"], resources = [var.state_machine_arn] },
    { sid = "TellOfFailure", actions = ["sns:Publish"], resources = [var.topic_arn] },
    { sid = "CountDays", actions = ["cloudwatch:PutMetricData"], resources = ["*"], conditions = [{ test = "StringEquals", variable = "cloudwatch:namespace", values = ["SpanishGas"] }] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] },
  ]
}

resource "aws_lambda_function" "upload" {
  # checkov:skip=CKV_AWS_115: a new account has ten concurrent executions in all, and AWS lets none of them be reserved
  function_name = "${var.name}-upload"
  role          = module.role.arn
  package_type  = "Image"
  image_uri     = var.image
  timeout       = 60
  memory_size   = 256
  kms_key_arn   = var.kms_key_arn
  environment {
    variables = {
      PIPELINE_NAME     = var.name
      LAKE_BUCKET       = var.bucket_name
      MANIFEST_TABLE    = aws_dynamodb_table.manifest.name
      STATE_MACHINE_ARN = var.state_machine_arn
    }
  }
  depends_on = [aws_cloudwatch_log_group.this]
}

# Tried twice more; what fails even then is told to the people who get the alerts.
resource "aws_lambda_function_event_invoke_config" "upload" {
  function_name          = aws_lambda_function.upload.function_name
  maximum_retry_attempts = 2
  destination_config {
    on_failure { destination = var.topic_arn }
  }
}

resource "aws_lambda_permission" "callers" {
  for_each       = { bucket = { service = "s3", arn = var.bucket_arn }, rule = { service = "events", arn = aws_cloudwatch_event_rule.ended.arn } }
  statement_id   = each.key
  function_name  = aws_lambda_function.upload.function_name
  action         = "lambda:InvokeFunction"
  principal      = "${each.value.service}.amazonaws.com"
  source_arn     = each.value.arn
  source_account = data.aws_caller_identity.here.account_id
}

resource "aws_s3_bucket_notification" "raw" {
  bucket     = var.bucket_name
  depends_on = [aws_lambda_permission.callers]
  lambda_function {
    lambda_function_arn = aws_lambda_function.upload.arn
    events              = ["s3:ObjectCreated:*"]
    filter_prefix       = "raw/"
  }
}

# An execution that was aborted or ran out of time writes nothing down any more: the function does it instead.
resource "aws_cloudwatch_event_rule" "ended" {
  name = "${var.name}-ended"
  event_pattern = jsonencode({
    source      = ["aws.states"]
    detail-type = ["Step Functions Execution Status Change"]
    detail      = { status = ["ABORTED", "TIMED_OUT", "FAILED"], stateMachineArn = [var.state_machine_arn] }
  })
}

resource "aws_cloudwatch_event_target" "ended" {
  rule = aws_cloudwatch_event_rule.ended.name
  arn  = aws_lambda_function.upload.arn
}

# Counts the days since the last good run; an alarm of CloudWatch alone cannot look back further than seven.
resource "aws_scheduler_schedule" "count_days" {
  name                = "${var.name}-count-days"
  schedule_expression = "rate(1 day)"
  kms_key_arn         = var.kms_key_arn
  flexible_time_window { mode = "OFF" }
  target {
    arn      = aws_lambda_function.upload.arn
    role_arn = module.scheduler_role.arn
    input    = jsonencode({ count_days = true })
  }
}

module "scheduler_role" {
  source  = "../iam"
  name    = "${var.name}-count-days"
  service = "scheduler.amazonaws.com"
  statements = [
    { sid = "Call", actions = ["lambda:InvokeFunction"], resources = [aws_lambda_function.upload.arn] },
    { sid = "Decrypt", actions = ["kms:Decrypt"], resources = [var.kms_key_arn] },
  ]
}

output "table_name" { value = aws_dynamodb_table.manifest.name }
output "table_arn" { value = aws_dynamodb_table.manifest.arn }
output "function_name" { value = aws_lambda_function.upload.function_name }
output "function_arn" { value = aws_lambda_function.upload.arn }

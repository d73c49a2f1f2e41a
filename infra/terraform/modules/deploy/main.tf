# What GitHub's workflows may do here, without a stored key, by a role per job: `plan` pushes images and shows a plan,
# `deploy` rolls out a release once somebody approved, `retrain` starts a run. None may create a resource or change a
# role: an administrator applies what changes the infrastructure itself. None may read the lake itself; but who rolls
# out code decides what the roles that may will run.
# Cost: none.

variable "name" { type = string }
variable "environment" { type = string }
variable "repository" { type = string }
variable "create_provider" { type = bool }
variable "repository_arns" { type = map(string) }
variable "bucket_arn" { type = string }
variable "kms_key_arn" { type = string }
variable "machine_arn" { type = string }
variable "function_arn" { type = string }
variable "cluster_arn" { type = string }
variable "service_arn" { type = string }
variable "table_arn" { type = string }
variable "passed_roles" { type = list(string) }

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}

locals {
  issuer = "token.actions.githubusercontent.com"
  here   = "${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}"
  state  = "arn:aws:s3:::spanishgas-state-${data.aws_caller_identity.here.account_id}"
  # GitHub's environment of each; reviewers stand on that of `deploy` alone.
  environments = { plan = "${var.environment}-plan", deploy = var.environment, retrain = "${var.environment}-retrain" }
  policies     = { plan = data.aws_iam_policy_document.plan.json, deploy = data.aws_iam_policy_document.deploy.json, retrain = data.aws_iam_policy_document.retrain.json }
}

resource "aws_iam_openid_connect_provider" "github" {
  count          = var.create_provider ? 1 : 0
  url            = "https://${local.issuer}"
  client_id_list = ["sts.amazonaws.com"]
}

# Only jobs of this repository that GitHub runs in that environment, with its approvals.
data "aws_iam_policy_document" "trust" {
  for_each = local.environments
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.here.account_id}:oidc-provider/${local.issuer}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["repo:${var.repository}:environment:${each.value}"]
    }
  }
}

data "aws_iam_policy_document" "look" {
  statement {
    sid       = "ReadState"
    actions   = ["s3:ListBucket"]
    resources = [local.state]
  }
  statement {
    sid       = "ReadStateFile"
    actions   = ["s3:GetObject"]
    resources = ["${local.state}/${var.environment}/terraform.tfstate"]
  }
  statement {
    sid       = "LockState"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${local.state}/${var.environment}/terraform.tfstate.tflock"]
  }
  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
  statement {
    sid       = "CheckDefinition" # a plan has a changed definition checked
    actions   = ["states:ValidateStateMachineDefinition"]
    resources = ["arn:aws:states:${local.here}:stateMachine:*"]
  }
  # A plan reads every resource's settings (ReadOnlyAccess, below), but nothing that is about a customer.
  statement {
    sid       = "NeverReadTheLake"
    effect    = "Deny"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${var.bucket_arn}/*"]
  }
}

data "aws_iam_policy_document" "plan" {
  source_policy_documents = [data.aws_iam_policy_document.look.json]
  statement {
    sid       = "LogInToRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    sid = "Push"
    actions = [
      "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:DescribeImages",
      "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"
    ]
    resources = values(var.repository_arns)
  }
}

data "aws_iam_policy_document" "deploy" {
  source_policy_documents = [data.aws_iam_policy_document.look.json]
  statement {
    sid       = "WriteState"
    actions   = ["s3:PutObject"]
    resources = ["${local.state}/${var.environment}/terraform.tfstate"]
  }
  statement {
    sid       = "RollOutMachine"
    actions   = ["states:UpdateStateMachine"]
    resources = [var.machine_arn]
  }
  statement {
    sid       = "RollOutFunction"
    actions   = ["lambda:UpdateFunctionCode"]
    resources = [var.function_arn]
  }
  statement {
    sid       = "RollOutTasks" # these two actions know no resource
    actions   = ["ecs:RegisterTaskDefinition", "ecs:DeregisterTaskDefinition"]
    resources = ["*"]
  }
  statement {
    sid       = "TagTasks" # Terraform registers each with tags
    actions   = ["ecs:TagResource"]
    resources = ["arn:aws:ecs:${local.here}:task-definition/${var.name}-*"]
  }
  statement {
    sid       = "RollOutServer"
    actions   = ["ecs:UpdateService"]
    resources = [var.service_arn]
  }
  statement {
    sid       = "RollOutSchedule" # it names the revision of the reconciling task
    actions   = ["scheduler:UpdateSchedule"]
    resources = ["arn:aws:scheduler:${local.here}:schedule/default/${var.name}-reconcile"]
  }
  statement {
    sid       = "UpgradeDatabase"
    actions   = ["ecs:RunTask", "ecs:DescribeTasks"]
    resources = ["arn:aws:ecs:${local.here}:task-definition/${var.name}-tracking-upgrade:*", "arn:aws:ecs:${local.here}:task/${var.name}/*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [var.cluster_arn]
    }
  }
  statement {
    sid       = "HandOverRoles"
    actions   = ["iam:PassRole"]
    resources = concat(var.passed_roles, ["arn:aws:iam::${data.aws_caller_identity.here.account_id}:role/${var.name}-reconcile", "arn:aws:iam::${data.aws_caller_identity.here.account_id}:role/${var.name}-scheduler"])
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com", "scheduler.amazonaws.com", "states.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "retrain" {
  statement {
    sid       = "Start"
    actions   = ["states:StartExecution"]
    resources = [var.machine_arn]
  }
  statement {
    sid       = "WatchRun"
    actions   = ["states:DescribeExecution"]
    resources = ["arn:aws:states:${local.here}:execution:${var.name}:*"]
  }
  statement {
    sid       = "ReadManifest"
    actions   = ["dynamodb:GetItem"]
    resources = [var.table_arn]
  }
  statement {
    sid       = "UseKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role" "this" {
  for_each             = local.environments
  name                 = "${var.name}-github-${each.key}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 21600 # a retraining that is waited for, as long as a job of GitHub may last
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies
  name     = each.key
  role     = aws_iam_role.this[each.key].id
  policy   = each.value
}

# A plan reads every resource's settings.
resource "aws_iam_role_policy_attachment" "read" {
  for_each   = toset(["plan", "deploy"])
  role       = aws_iam_role.this[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
}

output "role_arns" { value = { for key, role in aws_iam_role.this : key => role.arn } }

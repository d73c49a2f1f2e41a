# What jobs run as, and their limits: processing jobs as `job`, the batch transform jobs that they start as `transform`.
# Cost: none by itself; jobs cost instance-hours, and only on the types that are allowed here.

variable "name" { type = string }
variable "bucket_arn" { type = string }
variable "kms_key_arn" { type = string }
variable "repository_arns" { type = map(string) }
variable "pipeline_secret_arn" { type = string }
variable "transform_prefix" { type = string }
variable "instance_types" { type = list(string) }

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}

locals {
  arn      = "arn:aws:sagemaker:${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}"
  pull     = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
  write    = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
  prefixes = ["raw", "truth", "bronze", "silver", "gold", "quarantine", "experiments", "scored"] # truth: of what `simulate` drew
}

module "job_role" {
  source            = "../iam"
  name              = "${var.name}-job"
  service           = "sagemaker.amazonaws.com"
  account_condition = false # SageMaker does not send the account when it takes a job's role
  statements = [
    { sid = "Lake", actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], resources = [for prefix in local.prefixes : "${var.bucket_arn}/${prefix}/*"] },
    { sid = "OwnCode", actions = ["s3:GetObject"], resources = ["${var.bucket_arn}/code/commits/*"] }, # of `mlflow run -b sagemaker`
    { sid = "ListLake", actions = ["s3:ListBucket"], resources = [var.bucket_arn] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"], resources = [var.kms_key_arn] },
    {
      sid        = "EncryptDisksOfTransformJobs"
      actions    = ["kms:CreateGrant"]
      resources  = [var.kms_key_arn]
      conditions = [{ test = "Bool", variable = "kms:GrantIsForAWSResource", values = ["true"] }]
    },
    { sid = "TrackingUser", actions = ["secretsmanager:GetSecretValue"], resources = [var.pipeline_secret_arn] },
    { sid = "RetrainOnDrift", actions = ["states:StartExecution"], resources = ["arn:aws:states:${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}:stateMachine:${var.name}"] },
    { sid = "LogInToRegistry", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
    { sid = "Pull", actions = local.pull, resources = [var.repository_arns["job"]] },
    { sid = "Log", actions = local.write, resources = ["arn:aws:logs:*:*:log-group:/aws/sagemaker/ProcessingJobs*"] },
    {
      sid       = "Transform"
      actions   = ["sagemaker:CreateModel", "sagemaker:DescribeModel", "sagemaker:DeleteModel", "sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob", "sagemaker:AddTags"]
      resources = ["${local.arn}:model/spanishgas-*", "${local.arn}:transform-job/spanishgas-*"]
    },
    {
      sid        = "TransformOnAllowedInstances"
      actions    = ["sagemaker:CreateTransformJob"]
      resources  = ["${local.arn}:transform-job/spanishgas-*", "${local.arn}:model/spanishgas-*"]
      conditions = [{ test = "ForAllValues:StringEquals", variable = "sagemaker:InstanceTypes", values = var.instance_types }]
    },
    {
      sid        = "HandOverTransformRole"
      actions    = ["iam:PassRole"]
      resources  = [module.transform_role.arn]
      conditions = [{ test = "StringEquals", variable = "iam:PassedToService", values = ["sagemaker.amazonaws.com"] }]
    },
    {
      sid = "PrivateNetwork"
      actions = [
        "ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission", "ec2:DescribeNetworkInterfaces", "ec2:DescribeVpcs",
        "ec2:DescribeDhcpOptions", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"
      ]
      resources = ["*"]
    },
  ]
}

module "transform_role" {
  source            = "../iam"
  name              = "${var.name}-transform"
  service           = "sagemaker.amazonaws.com"
  account_condition = false
  statements = [
    { sid = "Parts", actions = ["s3:GetObject", "s3:PutObject"], resources = ["${var.bucket_arn}/${var.transform_prefix}/*"] },
    { sid = "ListParts", actions = ["s3:ListBucket"], resources = [var.bucket_arn], conditions = [{ test = "StringLike", variable = "s3:prefix", values = ["${var.transform_prefix}/*"] }] },
    { sid = "Encrypt", actions = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant", "kms:DescribeKey"], resources = [var.kms_key_arn] },
    { sid = "LogInToRegistry", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
    { sid = "Pull", actions = local.pull, resources = [var.repository_arns["serve"]] },
    { sid = "Log", actions = local.write, resources = ["arn:aws:logs:*:*:log-group:/aws/sagemaker/TransformJobs*"] },
  ]
}

output "job_role_arn" { value = module.job_role.arn }
output "transform_role_arn" { value = module.transform_role.arn }

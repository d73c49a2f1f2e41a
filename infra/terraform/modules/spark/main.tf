# EMR Serverless for the ETL of large fleets; made only where etl_engine is spark. Environment, driver script and
# experiments lie under code/ of the bucket: docs/spark.md says how they get there.
# Cost: vCPU-hours and GB-hours while a job runs; nothing while none does.

variable "name" { type = string }
variable "subnet_ids" { type = list(string) }
variable "security_group_id" { type = string }
variable "bucket_arn" { type = string }
variable "kms_key_arn" { type = string }
variable "pipeline_secret_arn" { type = string }

resource "aws_emrserverless_application" "this" {
  name          = var.name
  release_label = "emr-spark-8.0.0" # it must hold Spark 4: look up what your region calls the newest such release
  type          = "SPARK"
  architecture  = "X86_64"
  network_configuration {
    subnet_ids         = var.subnet_ids
    security_group_ids = [var.security_group_id]
  }
  maximum_capacity {
    cpu    = "64 vCPU"
    memory = "256 GB"
    disk   = "1000 GB"
  }
  auto_stop_configuration {
    enabled              = true
    idle_timeout_minutes = 5
  }
}

module "role" {
  source  = "../iam"
  name    = "${var.name}-spark"
  service = "emr-serverless.amazonaws.com"
  statements = [
    { sid = "Read", actions = ["s3:GetObject"], resources = ["${var.bucket_arn}/raw/*", "${var.bucket_arn}/code/*"] },
    { sid = "Build", actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], resources = [for prefix in ["bronze", "silver", "gold", "quarantine"] : "${var.bucket_arn}/${prefix}/*"] },
    { sid = "List", actions = ["s3:ListBucket"], resources = [var.bucket_arn] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] },
    { sid = "TrackingUser", actions = ["secretsmanager:GetSecretValue"], resources = [var.pipeline_secret_arn] },
  ]
}

output "job" { value = { application_id = aws_emrserverless_application.this.id, application_arn = aws_emrserverless_application.this.arn, role_arn = module.role.arn } }

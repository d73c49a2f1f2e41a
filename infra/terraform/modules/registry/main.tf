# Image repositories. A tag never moves; deployments name digests, and nobody here knows which of them run: what has a tag
# is removed by hand alone.
# Cost: storage by the gigabyte-month; layers that images share count once.

variable "name" { type = string }
variable "kms_key_arn" { type = string }

resource "aws_ecr_repository" "this" {
  for_each             = toset(["job", "serve", "tracking", "lambda"])
  name                 = "${var.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"
  image_scanning_configuration { scan_on_push = true }
  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "What a broken push left"
      selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
      action       = { type = "expire" }
    }]
  })
}

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}

# Lambda pulls by itself, not through a role: for the functions of this name alone.
data "aws_iam_policy_document" "lambda" {
  statement {
    sid     = "LambdaPulls"
    actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:lambda:${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}:function:${var.name}-*"]
    }
  }
}

resource "aws_ecr_repository_policy" "lambda" {
  repository = aws_ecr_repository.this["lambda"].name
  policy     = data.aws_iam_policy_document.lambda.json
}

output "repository_urls" { value = { for key, repository in aws_ecr_repository.this : key => repository.repository_url } }
output "repository_arns" { value = { for key, repository in aws_ecr_repository.this : key => repository.arn } }

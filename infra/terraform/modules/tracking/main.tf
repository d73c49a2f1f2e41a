# The tracking server: MLflow with basic auth on Fargate, behind an internal load balancer with TLS; metadata in the
# database, artefacts handed through to the bucket, so that clients need no access to it.
# Cost: the load balancer and the task, both by the hour; secrets by the month.

variable "name" { type = string }
variable "vpc_id" { type = string }
variable "subnet_ids" { type = list(string) }
variable "job_security_group" { type = string }
variable "client_cidrs" { type = list(string) }
variable "host" { type = string }
variable "certificate_arn" { type = string }
variable "image" { type = string }
variable "repository_arns" { type = map(string) }
variable "database_host" { type = string }
variable "database_secret_arn" { type = string }
variable "bucket_name" { type = string }
variable "bucket_arn" { type = string }
variable "kms_key_arn" { type = string }

data "aws_region" "here" {}

locals {
  port = 5000
  # `upgrade` migrates the database and ends; `users` makes the pipeline's user. Both are run by hand or by a deployment.
  tasks = { server = "serve", upgrade = "upgrade", users = "users" }
}

# Their values are put by hand, once, and never pass through Terraform's state. server: admin_password and flask_key;
# pipeline: username and password, which the jobs log in with.
resource "aws_secretsmanager_secret" "this" {
  for_each    = { server = "The tracking server's own", pipeline = "The jobs' user of the tracking server" }
  name        = "${var.name}/tracking/${each.key}"
  description = each.value
  kms_key_id  = var.kms_key_arn
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}/tracking"
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

# What ECS does before the container runs, for every task of the cluster.
module "execution_role" {
  source  = "../iam"
  name    = "${var.name}-ecs-execution"
  service = "ecs-tasks.amazonaws.com"
  statements = [
    { sid = "LogIn", actions = ["ecr:GetAuthorizationToken"], resources = ["*"] },
    {
      sid       = "Pull"
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
      resources = [var.repository_arns["tracking"], var.repository_arns["job"]]
    },
    { sid = "Log", actions = ["logs:CreateLogStream", "logs:PutLogEvents"], resources = ["arn:aws:logs:*:*:log-group:/${var.name}/*"] },
    { sid = "ReadSecrets", actions = ["secretsmanager:GetSecretValue"], resources = values(aws_secretsmanager_secret.this)[*].arn },
    { sid = "Decrypt", actions = ["kms:Decrypt"], resources = [var.kms_key_arn] },
  ]
}

module "task_role" {
  source  = "../iam"
  name    = "${var.name}-tracking"
  service = "ecs-tasks.amazonaws.com"
  statements = [
    { sid = "Artefacts", actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"], resources = ["${var.bucket_arn}/models/*"] },
    {
      sid        = "ListArtefacts"
      actions    = ["s3:ListBucket"]
      resources  = [var.bucket_arn]
      conditions = [{ test = "StringLike", variable = "s3:prefix", values = ["models/*", "models"] }]
    },
    { sid = "DatabasePassword", actions = ["secretsmanager:GetSecretValue"], resources = [var.database_secret_arn] },
    { sid = "Encrypt", actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.kms_key_arn] },
  ]
}

resource "aws_ecs_task_definition" "this" {
  for_each                 = local.tasks
  family                   = "${var.name}-tracking-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024
  memory                   = 2048
  execution_role_arn       = module.execution_role.arn
  task_role_arn            = module.task_role.arn
  container_definitions = jsonencode([{
    name         = "tracking"
    image        = var.image
    command      = [each.value]
    essential    = true
    portMappings = [{ containerPort = local.port }]
    environment = [
      { name = "AWS_DEFAULT_REGION", value = data.aws_region.here.region },
      { name = "TRACKING_HOST", value = var.host },
      { name = "TRACKING_ARTIFACTS", value = "s3://${var.bucket_name}/models" },
      { name = "TRACKING_DATABASE_HOST", value = var.database_host },
      { name = "TRACKING_DATABASE_SECRET", value = var.database_secret_arn },
    ]
    secrets = concat(
      [
        { name = "MLFLOW_AUTH_ADMIN_PASSWORD", valueFrom = "${aws_secretsmanager_secret.this["server"].arn}:admin_password::" },
        { name = "MLFLOW_FLASK_SERVER_SECRET_KEY", valueFrom = "${aws_secretsmanager_secret.this["server"].arn}:flask_key::" },
      ],
      each.key == "users" ? [
        { name = "TRACKING_USER", valueFrom = "${aws_secretsmanager_secret.this["pipeline"].arn}:username::" },
        { name = "TRACKING_USER_PASSWORD", valueFrom = "${aws_secretsmanager_secret.this["pipeline"].arn}:password::" },
      ] : []
    )
    linuxParameters = { initProcessEnabled = true }
    logConfiguration = {
      logDriver = "awslogs"
      options   = { awslogs-group = aws_cloudwatch_log_group.this.name, awslogs-region = data.aws_region.here.region, awslogs-stream-prefix = each.key }
    }
  }])
}

resource "aws_security_group" "task" {
  name        = "${var.name}-tracking"
  description = "Tasks of the tracking server"
  vpc_id      = var.vpc_id
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-tracking-balancer"
  description = "Load balancer of the tracking server"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = merge(
    { jobs = { group = var.job_security_group, cidr = null }, tasks = { group = aws_security_group.task.id, cidr = null } },
    { for cidr in var.client_cidrs : cidr => { group = null, cidr = cidr } }
  )
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = each.value.group
  cidr_ipv4                    = each.value.cidr
  description                  = "TLS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "balancer_to_task" {
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = aws_security_group.task.id
  description                  = "MLflow"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_ingress_rule" "task" {
  security_group_id            = aws_security_group.task.id
  referenced_security_group_id = aws_security_group.balancer.id
  description                  = "MLflow from the load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

# Within a network that has no way out: endpoints, S3 and the database.
resource "aws_vpc_security_group_egress_rule" "task" {
  for_each          = { "AWS services" = 443, "PostgreSQL" = 5432 }
  security_group_id = aws_security_group.task.id
  cidr_ipv4         = "0.0.0.0/0"
  description       = each.key
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

resource "aws_lb" "this" {
  name                       = "${var.name}-tracking"
  internal                   = true
  load_balancer_type         = "application"
  subnets                    = var.subnet_ids
  security_groups            = [aws_security_group.balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = true
  idle_timeout               = 300
}

resource "aws_lb_target_group" "this" {
  name                 = "${var.name}-tracking"
  port                 = local.port
  protocol             = "HTTP"
  target_type          = "ip"
  vpc_id               = var.vpc_id
  deregistration_delay = 60
  health_check {
    path    = "/health"
    matcher = "200"
  }
}

resource "aws_lb_listener" "tls" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_route53_zone" "this" {
  name = var.host
  vpc { vpc_id = var.vpc_id }
}

resource "aws_route53_record" "this" {
  zone_id = aws_route53_zone.this.zone_id
  name    = var.host
  type    = "A"
  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}

resource "aws_ecs_service" "this" {
  name                              = "${var.name}-tracking"
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.this["server"].arn
  desired_count                     = 1
  launch_type                       = "FARGATE"
  health_check_grace_period_seconds = 900 # a release's server waits up to 600 s for the database's upgrade
  depends_on                        = [aws_lb_listener.tls]
  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = false
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = "tracking"
    container_port   = local.port
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}

output "uri" { value = "https://${var.host}" }
output "security_group_id" { value = aws_security_group.task.id }
output "cluster_arn" { value = aws_ecs_cluster.this.arn }
output "service_arn" { value = aws_ecs_service.this.id }
output "upgrade_task_arn" { value = aws_ecs_task_definition.this["upgrade"].arn }
output "execution_role_arn" { value = module.execution_role.arn }
output "task_role_arn" { value = module.task_role.arn }
output "server_secret_arn" { value = aws_secretsmanager_secret.this["server"].arn }
output "pipeline_secret_arn" { value = aws_secretsmanager_secret.this["pipeline"].arn }
output "load_balancer" { value = { balancer = aws_lb.this.arn_suffix, targets = aws_lb_target_group.this.arn_suffix } }

# PostgreSQL for the tracking server. RDS keeps the password in Secrets Manager and changes it every week.
# Cost: the instance by the hour (twice with multi_az) and storage by the gigabyte-month; after the endpoints the largest
# fixed part of the bill.

variable "name" { type = string }
variable "vpc_id" { type = string }
variable "subnet_ids" { type = list(string) }
variable "clients" { type = map(string) }
variable "kms_key_arn" { type = string }
variable "size" { type = object({ class = string, gigabytes = number, multi_az = bool, backup_days = number }) }

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL of the tracking server"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each                     = var.clients
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = each.value
  description                  = "PostgreSQL from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  name   = var.name
  family = "postgres16"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  parameter {
    name  = "log_min_duration_statement"
    value = "5000"
  }
}

module "monitoring_role" {
  source  = "../iam"
  name    = "${var.name}-database-monitoring"
  service = "monitoring.rds.amazonaws.com"
  statements = [{
    sid       = "WriteMetrics"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:PutRetentionPolicy", "logs:DescribeLogStreams"]
    resources = ["arn:aws:logs:*:*:log-group:RDSOSMetrics*"]
  }]
}

resource "aws_db_instance" "this" {
  identifier                      = var.name
  engine                          = "postgres"
  engine_version                  = "16"
  instance_class                  = var.size.class
  allocated_storage               = var.size.gigabytes
  max_allocated_storage           = var.size.gigabytes * 4
  storage_type                    = "gp3"
  storage_encrypted               = true
  kms_key_id                      = var.kms_key_arn
  db_name                         = "mlflow"
  username                        = "mlflow"
  manage_master_user_password     = true
  master_user_secret_kms_key_id   = var.kms_key_arn
  multi_az                        = var.size.multi_az
  publicly_accessible             = false
  ca_cert_identifier              = "rds-ca-rsa2048-g1" # its roots are infra/tracking/rds.pem
  db_subnet_group_name            = aws_db_subnet_group.this.name
  vpc_security_group_ids          = [aws_security_group.this.id]
  parameter_group_name            = aws_db_parameter_group.this.name
  backup_retention_period         = var.size.backup_days
  copy_tags_to_snapshot           = true
  deletion_protection             = true
  final_snapshot_identifier       = "${var.name}-final"
  auto_minor_version_upgrade      = true
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.kms_key_arn
  monitoring_interval             = 60
  monitoring_role_arn             = module.monitoring_role.arn
}

output "id" { value = aws_db_instance.this.identifier }
output "host" { value = aws_db_instance.this.address }
output "secret_arn" { value = aws_db_instance.this.master_user_secret[0].secret_arn }

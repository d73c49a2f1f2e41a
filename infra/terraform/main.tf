# SpanishGas on AWS: one root module, an environment per tfvars file.
#
#   raw upload -> trigger -> pipeline (jobs of module sagemaker, or spark) -> storage
#                              |-> tracking (MLflow on database and storage)
#                              |-> alerts

locals {
  name             = "spanishgas-${var.environment}"
  transform_prefix = "scored/transform" # archives and parts of transform jobs: parts and answers name customers, so they expire with scores
}

module "network" {
  source         = "./modules/network"
  name           = local.name
  cidr           = var.cidr
  endpoint_zones = var.endpoint_zones
  kms_key_arn    = module.storage.kms_key_arn
}

module "storage" {
  source = "./modules/storage"
  name   = local.name
}

module "registry" {
  source      = "./modules/registry"
  name        = local.name
  kms_key_arn = module.storage.kms_key_arn
}

module "database" {
  source      = "./modules/database"
  name        = local.name
  vpc_id      = module.network.vpc_id
  subnet_ids  = module.network.subnet_ids
  clients     = { tracking = module.tracking.security_group_id }
  kms_key_arn = module.storage.kms_key_arn
  size        = var.database
}

module "tracking" {
  source              = "./modules/tracking"
  name                = local.name
  vpc_id              = module.network.vpc_id
  subnet_ids          = module.network.subnet_ids
  job_security_group  = module.network.job_security_group_id
  client_cidrs        = var.client_cidrs
  host                = var.tracking_host
  certificate_arn     = var.certificate_arn
  image               = var.images.tracking
  repository_arns     = module.registry.repository_arns
  database_host       = module.database.host
  database_secret_arn = module.database.secret_arn
  bucket_name         = module.storage.bucket_name
  bucket_arn          = module.storage.bucket_arn
  kms_key_arn         = module.storage.kms_key_arn
}

module "sagemaker" {
  source              = "./modules/sagemaker"
  name                = local.name
  bucket_arn          = module.storage.bucket_arn
  kms_key_arn         = module.storage.kms_key_arn
  repository_arns     = module.registry.repository_arns
  pipeline_secret_arn = module.tracking.pipeline_secret_arn
  transform_prefix    = local.transform_prefix
  instance_types      = distinct(values(var.instances))
}

module "spark" {
  source              = "./modules/spark"
  count               = var.etl_engine == "spark" ? 1 : 0
  name                = local.name
  subnet_ids          = module.network.subnet_ids
  security_group_id   = module.network.job_security_group_id
  bucket_arn          = module.storage.bucket_arn
  kms_key_arn         = module.storage.kms_key_arn
  pipeline_secret_arn = module.tracking.pipeline_secret_arn
}

module "pipeline" {
  source              = "./modules/pipeline"
  name                = local.name
  definition_file     = "${path.root}/../stepfunctions/pipeline.asl.json"
  job_image           = var.images.job
  serve_image         = var.images.serve
  job_role_arn        = module.sagemaker.job_role_arn
  transform_role_arn  = module.sagemaker.transform_role_arn
  instances           = var.instances
  etl_engine          = var.etl_engine
  trials              = var.trials
  spark               = one(module.spark[*].job)
  bucket_name         = module.storage.bucket_name
  transform_prefix    = local.transform_prefix
  kms_key_arn         = module.storage.kms_key_arn
  subnet_ids          = module.network.subnet_ids
  security_group_id   = module.network.job_security_group_id
  tracking_uri        = module.tracking.uri
  pipeline_secret_arn = module.tracking.pipeline_secret_arn
  cluster_arn         = module.tracking.cluster_arn
  execution_role_arn  = module.tracking.execution_role_arn
  table_name          = module.trigger.table_name
  table_arn           = module.trigger.table_arn
  topic_arn           = module.alerts.topic_arn
  schedules_enabled   = var.schedules_enabled
}

module "trigger" {
  source            = "./modules/trigger"
  name              = local.name
  image             = var.images.lambda
  bucket_name       = module.storage.bucket_name
  bucket_arn        = module.storage.bucket_arn
  kms_key_arn       = module.storage.kms_key_arn
  state_machine_arn = module.pipeline.state_machine_arn
  topic_arn         = module.alerts.topic_arn
}

module "alerts" {
  source            = "./modules/alerts"
  name              = local.name
  alert_email       = var.alert_email
  kms_key_arn       = module.storage.kms_key_arn
  state_machine_arn = module.pipeline.state_machine_arn
  function_name     = module.trigger.function_name
  load_balancer     = module.tracking.load_balancer
  database_id       = module.database.id
  schedules_enabled = var.schedules_enabled
}

module "deploy" {
  source          = "./modules/deploy"
  name            = local.name
  environment     = var.environment
  repository      = var.github_repository
  create_provider = var.create_github_provider
  repository_arns = module.registry.repository_arns
  bucket_arn      = module.storage.bucket_arn
  kms_key_arn     = module.storage.kms_key_arn
  machine_arn     = module.pipeline.state_machine_arn
  function_arn    = module.trigger.function_arn
  cluster_arn     = module.tracking.cluster_arn
  service_arn     = module.tracking.service_arn
  table_arn       = module.trigger.table_arn
  passed_roles    = [module.tracking.task_role_arn, module.tracking.execution_role_arn, module.pipeline.role_arn]
}

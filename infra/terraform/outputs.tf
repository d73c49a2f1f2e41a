output "bucket" { value = module.storage.bucket_name }
output "repositories" { value = module.registry.repository_urls }
output "tracking_uri" { value = module.tracking.uri }
output "tracking_cluster" { value = module.tracking.cluster_arn }
output "tracking_service" { value = module.tracking.service_arn }
output "upgrade_task" { value = module.tracking.upgrade_task_arn }
output "server_secret" { value = module.tracking.server_secret_arn }
output "pipeline_secret" { value = module.tracking.pipeline_secret_arn }
output "subnets" { value = module.network.subnet_ids }
output "tracking_security_group" { value = module.tracking.security_group_id }
output "state_machine" { value = module.pipeline.state_machine_arn }
output "manifest_table" { value = module.trigger.table_name }
output "upload_function" { value = module.trigger.function_name }
output "alerts_topic" { value = module.alerts.topic_arn }
output "backend" {
  description = "What `mlflow run -b sagemaker --backend-config` takes, as JSON."
  value = {
    image           = var.images.job
    role            = module.sagemaker.job_role_arn
    lake            = "s3://${module.storage.bucket_name}"
    code            = "s3://${module.storage.bucket_name}/code/commits"
    instance_type   = var.instances.train
    subnets         = module.network.subnet_ids
    security_groups = [module.network.job_security_group_id]
    kms_key         = module.storage.kms_key_arn
    tracking_secret = module.tracking.pipeline_secret_arn
  }
}
output "github_roles" { value = module.deploy.role_arns }

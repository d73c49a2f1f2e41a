environment       = "prod"
cidr              = "10.42.0.0/20"
endpoint_zones    = 2
database          = { class = "db.t4g.medium", gigabytes = 50, multi_az = true, backup_days = 30 }
schedules_enabled = true

create_github_provider = false # dev of the same account makes it

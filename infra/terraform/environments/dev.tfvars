environment       = "dev"
cidr              = "10.40.0.0/20"
endpoint_zones    = 1
database          = { class = "db.t4g.micro", gigabytes = 20, multi_az = false, backup_days = 7 }
schedules_enabled = false

create_github_provider = true

environment       = "staging"
cidr              = "10.41.0.0/20"
endpoint_zones    = 1
database          = { class = "db.t4g.small", gigabytes = 20, multi_az = false, backup_days = 7 }
schedules_enabled = false

create_github_provider = false # dev of the same account makes it

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
  # The rest is given to `terraform init`: bucket, key and region are those of an account. Locking needs no table; the
  # setting is known from 1.10 on.
  backend "s3" {
    use_lockfile = true
    encrypt      = true
  }
}

# The region is AWS_REGION, as for the scripts.
provider "aws" {
  default_tags {
    tags = { project = "spanishgas", environment = var.environment, managed_by = "terraform" }
  }
}

variable "environment" {
  description = "dev, staging or prod; part of every name."
  type        = string
  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "environment must be dev, staging or prod."
  }
}

variable "cidr" {
  description = "Address range of the private network."
  type        = string
}

variable "endpoint_zones" {
  description = "Availability zones that interface endpoints stand in: 1 is cheaper, 2 survive the loss of a zone."
  type        = number
}

variable "client_cidrs" {
  description = "Private networks (VPN, peering) whose people may open the tracking server."
  type        = list(string)
  default     = []
}

variable "tracking_host" {
  description = "Name of the tracking server; the certificate must be valid for it."
  type        = string
}

variable "certificate_arn" {
  description = "ACM certificate of tracking_host."
  type        = string
}

variable "images" {
  description = "Images by digest: repository URL@sha256:..., for job, serve, tracking and lambda."
  type        = object({ job = string, serve = string, tracking = string, lambda = string })
  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "Images are named by digest: ...@sha256:<64 hex digits>."
  }
}

variable "alert_email" {
  description = "Who is told of failures, drift and silence."
  type        = string
}

variable "github_repository" {
  description = "The repository whose workflows may deploy, as in the subject of GitHub's tokens: owner/name, or owner@id/name@id where it was made, renamed or transferred since July 2026."
  type        = string
}

variable "create_github_provider" {
  description = "Whether this environment creates the account's one GitHub OIDC provider; true in one environment of an account."
  type        = bool
}

variable "database" {
  description = "Size of the tracking database."
  type        = object({ class = string, gigabytes = number, multi_az = bool, backup_days = number })
}

variable "instances" {
  description = "Instance type of each kind of job."
  type        = object({ etl = string, train = string, score = string, transform = string })
  default     = { etl = "ml.m5.xlarge", train = "ml.m5.xlarge", score = "ml.t3.large", transform = "ml.m5.xlarge" }
}

variable "trials" {
  description = "Sets of hyperparameters that a training tries, unless its caller says otherwise."
  type        = number
  default     = 25
}

variable "etl_engine" {
  description = "duckdb: a processing job. spark: EMR Serverless, for fleets that one machine cannot read in time."
  type        = string
  default     = "duckdb"
  validation {
    condition     = contains(["duckdb", "spark"], var.etl_engine)
    error_message = "etl_engine must be duckdb or spark."
  }
}

variable "schedules_enabled" {
  description = "Whether retraining and reconciling run by the clock."
  type        = bool
  default     = true
}

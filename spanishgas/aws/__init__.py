"""The ways in and out on AWS: what a raw upload starts, and how a verb runs as a job."""

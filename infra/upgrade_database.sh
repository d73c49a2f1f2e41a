#!/usr/bin/env bash
# Usage: upgrade_database.sh NAME: run the newest upgrade task of the tracking server, in its service's network, and wait.
set -euo pipefail
name=$1
network=$(aws ecs describe-services --cluster "$name" --services "$name-tracking" \
  --query 'services[0].networkConfiguration' --output json)
task=$(aws ecs run-task --cluster "$name" --task-definition "$name-tracking-upgrade" --launch-type FARGATE \
  --network-configuration "$network" --query 'tasks[0].taskArn' --output text)
aws ecs wait tasks-stopped --cluster "$name" --tasks "$task"
code=$(aws ecs describe-tasks --cluster "$name" --tasks "$task" --query 'tasks[0].containers[0].exitCode' --output text)
[ "$code" = 0 ] || { echo "the upgrade ended with $code: see the log group /$name/tracking" >&2; exit 1; }

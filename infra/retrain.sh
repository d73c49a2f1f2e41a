#!/usr/bin/env bash
# Usage: retrain.sh STATE_MACHINE_ARN MANIFEST_TABLE ID: start a retraining, wait until it ends, and print how.
set -euo pipefail
machine=$1 table=$2 id=$3
execution=$(aws stepfunctions start-execution --state-machine-arn "$machine" --name "${id//\//-}" \
  --input "{\"id\": \"$id\", \"mode\": \"train\"}" --query executionArn --output text)
state() { aws stepfunctions describe-execution --execution-arn "$execution" --query status --output text; }
while [ "$(state)" = RUNNING ]; do sleep "${EVERY:-60}"; done
outcome=$(aws dynamodb get-item --table-name "$table" --key "{\"id\": {\"S\": \"$id\"}}" --query 'Item.status.S' --output text)
echo "Retraining $id: **$outcome** ($execution)"
[ "$(state)" = SUCCEEDED ]

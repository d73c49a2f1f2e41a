#!/usr/bin/env bash
# Usage: retrain.sh STATE_MACHINE_ARN MANIFEST_TABLE ID: start a retraining, wait until it ends, and print how; after
# WAIT_SECONDS, less than a job of GitHub may last, print that it has not ended. A look that fails says nothing.
set -euo pipefail
machine=$1 table=$2 id=$3
execution=$(aws stepfunctions start-execution --state-machine-arn "$machine" --name "${id//\//-}" \
  --input "{\"id\": \"$id\", \"mode\": \"train\"}" --query executionArn --output text)
while
  state=$(aws stepfunctions describe-execution --execution-arn "$execution" --query status --output text) || state=unknown
  [[ ! $state =~ ^(SUCCEEDED|FAILED|TIMED_OUT|ABORTED)$ ]]
do
  if [ "$SECONDS" -ge "${WAIT_SECONDS:-19800}" ]; then
    echo "Retraining $id: **not ended** after $((SECONDS / 60)) minutes ($state); a failure is mailed ($execution)"
    exit 0
  fi
  sleep "${EVERY:-60}"
done
outcome=$(aws dynamodb get-item --table-name "$table" --key "{\"id\": {\"S\": \"$id\"}}" \
  --query 'Item.status.S' --output text) || outcome=$state
echo "Retraining $id: **$outcome** ($execution)"
[ "$state" = SUCCEEDED ]

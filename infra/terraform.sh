#!/usr/bin/env bash
# Usage: terraform.sh plan|show|apply, for ENVIRONMENT of AWS_ACCOUNT, with TF_VAR_images and ACCOUNT_TFVARS: what the
# workflow `deploy` runs. TERRAFORM names an image; without it the terraform of this machine is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/infra/terraform
run() {
  if [ -n "${TERRAFORM:-}" ]; then
    # The definition of the state machine lies beside the folder.
    docker run --rm -v "$PWD/infra:$PWD/infra" -w "$folder" -e TF_VAR_images -e AWS_REGION -e AWS_ACCESS_KEY_ID \
      -e AWS_SECRET_ACCESS_KEY -e AWS_SESSION_TOKEN "$TERRAFORM" "$@"
  else
    terraform -chdir="$folder" "$@"
  fi
}
init() {
  run init -input=false -backend-config="bucket=spanishgas-state-$AWS_ACCOUNT" \
    -backend-config="key=$ENVIRONMENT/terraform.tfstate" -backend-config="region=$AWS_REGION" >&2
}
case $1 in
  plan)
    printf '%s\n' "$ACCOUNT_TFVARS" > "$folder/environments/$ENVIRONMENT.account.tfvars"
    init
    run plan -input=false -out=release.tfplan -var-file="environments/$ENVIRONMENT.tfvars" \
      -var-file="environments/$ENVIRONMENT.account.tfvars"
    ;;
  show) run show -no-color release.tfplan ;;
  apply) init && run apply -input=false release.tfplan ;;
  *) echo "usage: terraform.sh plan|show|apply" >&2 && exit 2 ;;
esac

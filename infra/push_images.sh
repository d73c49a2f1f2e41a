#!/usr/bin/env bash
# Usage: push_images.sh REGISTRY TAG OUTPUT: build and push every image, and write `images=` with their digests to OUTPUT.
# A commit that was pushed before is not built again: tags never move.
set -euo pipefail
registry=$1 tag=$2 output=$3
MANIFEST=application/vnd.docker.distribution.manifest.v2+json # SageMaker refuses OCI's, which builders write by default
region=$(cut -d. -f4 <<< "$registry")
if ! grep -q "Amazon RDS $region Root" infra/tracking/rds.pem; then
  echo "infra/tracking/rds.pem has no authority of $region: add AWS's for rds-ca-rsa2048-g1" >&2
  exit 1
fi
errors=$(mktemp)
# Prints digest and manifest type of what was pushed; nothing where that is not there. Any other answer ends the script.
pushed() {
  aws ecr describe-images --repository-name "${registry#*/}/$1" --image-ids "imageTag=$tag" \
    --query 'imageDetails[0].[imageDigest,imageManifestMediaType]' --output text 2> "$errors" ||
    grep -q ImageNotFoundException "$errors" || { cat "$errors" >&2; return 1; }
}
aws ecr get-login-password | docker login --username AWS --password-stdin "${registry%%/*}"
images=
for target in job serve tracking lambda; do
  image=$(pushed "$target")
  if [ -z "$image" ]; then
    docker buildx build --platform linux/amd64 --provenance=false --sbom=false --target "$target" \
      --output "type=image,name=$registry/$target:$tag,push=true,oci-mediatypes=false" .
    image=$(pushed "$target")
  fi
  read -r digest kind <<< "$image"
  if [ "$kind" != "$MANIFEST" ]; then
    echo "$registry/$target:$tag is '$kind', and SageMaker takes $MANIFEST alone: delete it and push again" >&2
    exit 1
  fi
  images+="${images:+,}\"$target\":\"$registry/$target@$digest\""
done
echo "images={$images}" >> "$output"

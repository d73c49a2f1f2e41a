#!/usr/bin/env bash
# Usage: push_images.sh REGISTRY TAG OUTPUT: build and push every image, and write `images=` with their digests to OUTPUT.
# A commit that was pushed before is not built again: tags never move.
set -euo pipefail
registry=$1 tag=$2 output=$3
aws ecr get-login-password | docker login --username AWS --password-stdin "${registry%%/*}"
images=
for target in job serve tracking lambda; do
  repository="${registry#*/}/$target"
  found() { aws ecr describe-images --repository-name "$repository" --image-ids "imageTag=$tag" --query 'imageDetails[0].imageDigest' --output text; }
  if ! found > /dev/null 2>&1; then
    docker buildx build --platform linux/amd64 --provenance=false --target "$target" --tag "$registry/$target:$tag" --push .
  fi
  images+="${images:+,}\"$target\":\"$registry/$target@$(found)\""
done
echo "images={$images}" >> "$output"

"""A raw extract under an s3:// prefix, brought to a local folder; what did not change is not downloaded again.

<cache>/objects/<etag>-<size>     an object's bytes, put there by a rename when they are whole
<cache>/<digest of a listing>/    links to them under the names they have below the prefix
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spanishgas.errors import DataError, UsageError

SCHEME = "s3://"
_WAYS_OUT = {
    "NoSuchBucket": "there is no such bucket: check the name and the account",
    "AccessDenied": "access is denied: the credentials need s3:ListBucket and s3:GetObject",
    "403": "access is denied: the credentials need s3:ListBucket and s3:GetObject",
}


@dataclass(frozen=True)
class Listed:
    """An object as the bucket lists it."""

    key: str
    etag: str
    size: int


class Prefix:
    """The objects below s3://bucket/prefix; region, credentials and endpoint are those of boto3's environment.

    Every failure of the store is a `DataError` that names the prefix and the way out.
    """

    def __init__(self, uri: str) -> None:
        path = uri.removeprefix(SCHEME).rstrip("/")
        self.uri = SCHEME + path
        self.bucket, _, prefix = path.partition("/")
        if not self.bucket:
            raise UsageError(f"raw '{uri}' names no bucket: give s3://bucket/prefix")
        self.prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        tries = Config(connect_timeout=10, retries={"max_attempts": 3, "mode": "standard"})
        return boto3.Session().client("s3", config=tries)

    def listing(self) -> dict[str, Listed]:
        """The objects by their name below the prefix; `DataError` if there is none."""
        with self._told():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix
            )
            objects = [
                Listed(o["Key"], o["ETag"].strip('"'), o["Size"])
                for p in pages
                for o in p.get("Contents", [])
            ]
        if not objects:
            raise DataError(f"{self.uri} holds no object: give the prefix that holds the seven raw files")
        return {o.key.removeprefix(self.prefix): o for o in objects if not o.key.endswith("/")}

    def download(self, objects: Mapping[str, Listed], cache: Path) -> Path:
        """A folder that holds exactly these objects under these names."""
        listing = json.dumps(sorted((name, o.etag, o.size) for name, o in objects.items()))
        folder = cache / hashlib.sha256(listing.encode()).hexdigest()[:32]
        if folder.exists():
            return folder
        staging = cache / f".staging-{uuid.uuid4().hex}"
        try:
            for name, listed in objects.items():
                link = staging / name
                link.parent.mkdir(parents=True, exist_ok=True)
                os.link(self._object(listed, cache / "objects"), link)
            staging.mkdir(parents=True, exist_ok=True)
            if not folder.exists():
                staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder

    def _object(self, listed: Listed, store: Path) -> Path:
        file = store / f"{listed.etag}-{listed.size}"
        if file.exists():
            return file
        store.mkdir(parents=True, exist_ok=True)
        half = store / f".{file.name}-{uuid.uuid4().hex}"
        try:
            with self._told():
                self._client.download_file(self.bucket, listed.key, str(half))
            if half.stat().st_size != listed.size:
                raise DataError(f"{SCHEME}{self.bucket}/{listed.key} changed while it was read: run again")
            half.rename(file)
        finally:
            half.unlink(missing_ok=True)
        return file

    @contextmanager
    def _told(self) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except NoCredentialsError as fault:
            words = "no credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            raise DataError(f"{self.uri} cannot be read: {words}") from fault
        except ClientError as fault:
            words = _WAYS_OUT.get(fault.response["Error"]["Code"], str(fault))
            raise DataError(f"{self.uri} cannot be read: {words}") from fault
        except (BotoCoreError, Boto3Error) as fault:
            raise DataError(
                f"{self.uri} cannot be read: {str(fault).splitlines()[0]}. Check AWS_ENDPOINT_URL and AWS_REGION."
            ) from fault

"""Objects under one s3:// prefix; region, credentials and endpoint are those of boto3's environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from spanishgas.errors import UsageError
from spanishgas.scoring.transform import TransformError

SCHEME = "s3://"


class Bucket:
    """Reads and writes whole objects; every failure is a TransformError that names the object."""

    def __init__(self, uri: str) -> None:
        self._name, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
        if not uri.startswith(SCHEME) or not self._name:
            raise UsageError(f"SPANISHGAS_TRANSFORM_S3 '{uri}' is not an S3 prefix: give s3://bucket/prefix")
        self._prefix = f"{prefix}/" if prefix else ""

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.Session().client("s3", config=Config(retries={"max_attempts": 10, "mode": "standard"}))

    def uri(self, key: str) -> str:
        """The object's URI."""
        return f"{SCHEME}{self._name}/{self._prefix}{key}"

    def write(self, key: str, body: bytes) -> None:
        """Put a whole object."""
        with self._reported(key):
            self._client.put_object(Bucket=self._name, Key=self._prefix + key, Body=body)

    def read(self, key: str) -> bytes:
        """The whole object."""
        with self._reported(key):
            body: bytes = self._client.get_object(Bucket=self._name, Key=self._prefix + key)["Body"].read()
        return body

    def holds(self, key: str) -> bool:
        """Whether the object is there."""
        return key.rpartition("/")[2] in self.names(key.rpartition("/")[0] + "/")

    def names(self, folder: str) -> list[str]:
        """Names of the objects right below `folder`, which ends in a slash."""
        with self._reported(folder):
            return [key[len(self._prefix + folder) :] for key in self._keys(folder)]

    def remove(self, folder: str) -> None:
        """Remove every object below `folder`."""
        with self._reported(folder):
            for key in list(self._keys(folder)):
                self._client.delete_object(Bucket=self._name, Key=key)

    def _keys(self, folder: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=self._prefix + folder
        )
        return (item["Key"] for page in pages for item in page.get("Contents", []))

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as fault:
            raise TransformError(f"{self.uri(key)}: {fault}. Check the bucket and the credentials") from fault

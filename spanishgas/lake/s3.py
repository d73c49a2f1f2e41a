"""Files under an s3:// prefix. What is read is copied to this machine once, and again only when it changed.

<downloads>/objects/<etag>-<size>-<sha256>    an object's bytes, put there by a rename when they are whole
<downloads>/<digest of a listing>/            links to them under the names they have below the folder

S3 has no locks, so runs on one prefix do not take turns: they may do the same work twice. What keeps them from harm is
that a pointer or manifest is written on the condition (If-Match, If-None-Match) that nobody else wrote it meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from spanishgas.errors import DataError, UsageError
from spanishgas.lake.digests import file_digest, intact
from spanishgas.lake.store import SCHEME, ListedFile, Replaced, Text, make_folder, put_in_place, staged
from spanishgas.settings import settings

_DENIED = "the credentials need s3:ListBucket and s3:GetObject, a lake also s3:PutObject and s3:DeleteObject"
_WAYS_OUT = dict.fromkeys(("AccessDenied", "403"), f"access is denied: {_DENIED}")
_WAYS_OUT["NoSuchBucket"] = "there is no such bucket: check the name and the account"
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


class S3Store:
    """The objects below s3://bucket/prefix; region, credentials and endpoint are those of boto3's environment.

    Every failure of the store is a `DataError` that names the prefix and the way out.
    """

    grace = 86_400.0

    def __init__(self, uri: str, downloads: Path | None = None, attempts: int | None = None) -> None:
        path = uri.removeprefix(SCHEME).rstrip("/")
        self.root = SCHEME + path
        self.bucket, _, prefix = path.partition("/")
        if not self.bucket:
            raise UsageError(f"'{uri}' names no bucket: give s3://bucket/prefix")
        self.prefix = f"{prefix}/" if prefix else ""
        own = f"{self.bucket}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"
        self.downloads = downloads or settings().cache.expanduser() / own
        self._retries = {"mode": "standard"} | ({"total_max_attempts": attempts} if attempts else {})

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.Session().client("s3", config=Config(connect_timeout=10, retries=self._retries))

    def uri(self, key: str) -> str:
        """The s3:// URI of `key`."""
        return f"{self.root}/{key}"

    def listing(self, folder: str = "") -> list[ListedFile]:
        """Every object below `folder`."""
        start = f"{self.prefix}{folder}/" if folder else self.prefix
        with self._told("read"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start)
            return [
                ListedFile(
                    o["Key"].removeprefix(start),
                    o["Key"].removeprefix(self.prefix),
                    o["ETag"].strip('"'),
                    o["Size"],
                    o["LastModified"].timestamp(),
                )
                for page in pages
                for o in page.get("Contents", [])
                if not o["Key"].endswith("/")
            ]

    def read(self, key: str) -> Text | None:
        """Text and ETag of one answer."""
        with self._told("read"):
            try:
                got = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            except self._client.exceptions.NoSuchKey:
                return None
            return Text(got["Body"].read().decode(errors="replace"), got["ETag"])

    def version(self, key: str) -> str | None:
        """ETag of what is there."""
        content = self.read(key)
        return content.version if content else None

    def read_bytes(self, key: str) -> bytes:
        """A whole object, which must be there."""
        with self._told("read"):
            body: bytes = self._client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
        return body

    def write(self, key: str, body: bytes) -> None:
        """Put a whole object in one request, whatever stands there."""
        with self._told("written"):
            self._client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body)

    def swap(self, key: str, text: str, expected: str | None) -> str:
        """One conditional put. A put that is repeated because its answer was lost meets its own text: that is fine."""
        condition = {"IfMatch": expected} if expected else {"IfNoneMatch": "*"}
        with self._told("written"):
            try:
                done = self._client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=text.encode(), **condition
                )
                return str(done["ETag"])
            except self._client.exceptions.ClientError as fault:
                if fault.response["Error"]["Code"] not in _LOST:
                    raise
        now = self.read(key)
        if now and now.text == text:
            return now.version
        raise Replaced.meanwhile(self.uri(key))

    def put(self, source: Path, key: str) -> None:
        """One upload, in parts if it is large; S3 shows an object when it is whole."""
        with self._told("written"):
            self._client.upload_file(str(source), self.bucket, self.prefix + key)

    def remove(self, key: str) -> None:
        """Remove an object; in a versioned bucket its older versions stay."""
        with self._told("written"):
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def fetch(self, folder: str, objects: Sequence[ListedFile]) -> Path:
        """A folder that holds exactly these objects under these names."""
        listing = json.dumps(sorted((o.name, o.version, o.size) for o in objects))
        links_folder = self.downloads / hashlib.sha256(listing.encode()).hexdigest()[:32]
        copies = {listed.name: self._object(listed) for listed in objects}
        with self.staging(folder) as staging:
            for name, copy in copies.items():
                link = links_folder / name
                if not (link.exists() and copy.samefile(link)):
                    os.link(copy, staging / "link")
                    make_folder(link.parent)
                    os.replace(staging / "link", link)
        make_folder(links_folder)
        return links_folder

    @contextmanager
    def staging(self, folder: str) -> Iterator[Path]:
        """A hidden folder among the copies, which are for their owner alone."""
        self.downloads.mkdir(parents=True, exist_ok=True, mode=0o700)
        with staged(self.downloads) as staging:
            yield staging

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Nobody waits: see the head of the module."""
        yield

    def _object(self, listed: ListedFile) -> Path:
        """A copy of an object; one that was damaged since is fetched again."""
        kept, name = self.downloads / "objects", f"{listed.version}-{listed.size}"
        for copy in kept.glob(f"{name}-*"):
            if intact(copy):
                return copy
            copy.unlink()
        with self.staging(name) as staging:
            half = staging / name
            with self._told("read"):
                self._client.download_file(self.bucket, self.prefix + listed.key, str(half))
            if half.stat().st_size != listed.size:
                raise DataError(f"{self.uri(listed.key)} changed while it was read: run again")
            copy = kept / f"{name}-{file_digest(half)}"
            put_in_place(half, copy)
        return copy

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (Boto3Error, BotoCoreError, ClientError) as fault:
            raise DataError(f"{self.root} cannot be {verb}: {_words(fault)}") from fault


def _words(fault: BaseException) -> str:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError, NoCredentialsError

    if isinstance(fault, S3UploadFailedError) and fault.__context__:
        fault = fault.__context__
    if isinstance(fault, NoCredentialsError):
        return "no credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(fault, ClientError):
        return _WAYS_OUT.get(fault.response["Error"]["Code"], str(fault))
    return f"{str(fault).splitlines()[0]}. Check AWS_ENDPOINT_URL and AWS_REGION."

"""The objects of transform jobs: the lake's S3 store, in the words of a transform."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spanishgas.errors import DataError, UsageError
from spanishgas.lake import SCHEME, S3Store
from spanishgas.scoring.transform import TransformError

ATTEMPTS = 11
"""Of each request: a job's parts come by the thousand, and S3 asks for patience."""


class Bucket:
    """Reads and writes whole objects; every failure is a TransformError that names the object."""

    def __init__(self, uri: str) -> None:
        if not uri.startswith(SCHEME) or not uri.removeprefix(SCHEME).strip("/"):
            raise UsageError(f"SPANISHGAS_TRANSFORM_S3 '{uri}' is not an S3 prefix: give s3://bucket/prefix")
        self._store = S3Store(uri, attempts=ATTEMPTS)

    def uri(self, key: str) -> str:
        """The object's URI."""
        return self._store.uri(key)

    def write(self, key: str, body: bytes) -> None:
        """Put a whole object."""
        with self._reported(key):
            self._store.write(key, body)

    def read(self, key: str) -> bytes:
        """The whole object."""
        with self._reported(key):
            return self._store.read_bytes(key)

    def holds(self, key: str) -> bool:
        """Whether the object is there."""
        folder, _, name = key.rpartition("/")
        return name in self.names(f"{folder}/")

    def names(self, folder: str) -> list[str]:
        """Names of the objects below `folder`, which ends in a slash."""
        with self._reported(folder):
            return [listed.name for listed in self._store.listing(folder.rstrip("/"))]

    def remove(self, folder: str) -> None:
        """Remove every object below `folder`."""
        with self._reported(folder):
            for listed in self._store.listing(folder.rstrip("/")):
                self._store.remove(listed.key)

    @contextmanager
    def _reported(self, key: str) -> Iterator[None]:
        try:
            yield
        except DataError as fault:
            cause = fault.__cause__ or fault
            raise TransformError(f"{self.uri(key)}: {cause}. Check the bucket and the credentials") from cause

"""One Spark session for all tests here; without pyspark they are skipped where somebody asks for them by name."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

SOCKET = "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"


@pytest.fixture(scope="session")
def session() -> Iterator[Any]:
    """The session that `connect("spark")` finds and leaves open."""
    pytest.importorskip("pyspark")
    from spanishgas.etl import engine_spark

    started = engine_spark.start()
    yield started
    started.stop()


def pytest_itemcollected(item: pytest.Item) -> None:
    """PySpark leaves the sockets over which it sends rows to the garbage collector."""
    if item.get_closest_marker("spark"):
        for warning in ("ignore:unclosed <socket:ResourceWarning", SOCKET):
            item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Let no socket of a test here be found in a test elsewhere."""
    yield
    gc.collect()

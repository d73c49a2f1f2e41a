"""What a killed process leaves behind: no child, no port, and no folder once the next one has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spanishgas.config.search import LOGISTIC
from spanishgas.settings import PROJECT
from tests.churn_models import artefact_of

SERVES = """
import sys, time
from pathlib import Path
from spanishgas.lifetime import temporary_folder
from spanishgas.scoring.local import serving_process
workers = {"SPANISHGAS_SERVE_WORKERS": sys.argv[2]}
with temporary_folder() as folder, serving_process(Path(sys.argv[1]), environment=workers) as up:
    (folder / "customers").write_text("x")
    print(up.port, up.process.pid, folder.parent, flush=True)
    time.sleep(600)
"""
SEARCHES = """
import multiprocessing, time
from spanishgas.lifetime import end_with_parent
def work():
    end_with_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(600)
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""
RUNS_A_VERB = """
import sys
from pathlib import Path
from spanishgas.aws.job import main
verb = "import os, time; from spanishgas.lifetime import end_with_parent; end_with_parent()"
if __name__ == "__main__":
    verb += "; print(os.getpid(), flush=True); time.sleep(600)"
    main(["-c", verb], Path(sys.argv[0] + ".message"), (sys.executable,))
"""
ENTERS = "from spanishgas.lifetime import temporary_folder\nwith temporary_folder(): pass\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artefact_of(LOGISTIC, tmp_path_factory.mktemp("model"))


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(PROJECT)}


def descendants(pid: int) -> set[int]:
    """Of a process that lives, itself among them."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found, size = {pid}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents if parent in found}
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: set[int], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    ("how", "workers"),
    [
        (signal.SIGKILL, 1),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, 2, marks=pytest.mark.slow),
    ],
)
def test_a_scoring_process_that_is_killed_leaves_no_server_and_no_folder(
    how: signal.Signals, workers: int, model: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", SERVES, str(model), str(workers)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(tmp_path), text=True
    ) as parent:
        assert parent.stdout is not None
        port, _, folder = parent.stdout.readline().split()
        children = descendants(parent.pid) - {parent.pid}
        # The server, or a supervisor with its workers, and a decoder for each of these.
        assert len(children) >= 2 * workers + (workers > 1)
        parent.send_signal(how)
        parent.wait(30)
    assert gone(children)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)
    subprocess.run([sys.executable, "-c", ENTERS], env=environment(tmp_path), check=True)
    assert not Path(folder).exists()
    assert not list(tmp_path.glob("spanishgas-*"))


@pytest.mark.parametrize("source", [SEARCHES, RUNS_A_VERB], ids=["worker of a search", "verb of a job"])
def test_a_child_ends_with_the_process_that_started_it_in_the_midst_of_its_work(
    source: str, tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(source)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment(tmp_path), text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert alive(worker)
        parent.kill()
    assert gone({worker})


def test_a_folder_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    script = ENTERS.replace("pass", "print('in', flush=True); input()")
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(tmp_path),
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        subprocess.run([sys.executable, "-c", ENTERS], env=environment(tmp_path), check=True)
        assert len(list(tmp_path.glob("spanishgas-*"))) == 1
        other.communicate("\n", timeout=30)
    assert not list(tmp_path.glob("spanishgas-*"))


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "spanishgas-temporary-mine").mkdir()
    (tmp_path / "spanishgas-data").mkdir()
    subprocess.run([sys.executable, "-c", ENTERS], env=environment(tmp_path), check=True)
    assert len(list(tmp_path.iterdir())) == 2

"""A verb as a processing job: its last words, its exit code, and the tracking server's user."""

from __future__ import annotations

import hmac
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import boto3
import pytest

from spanishgas.aws import job
from spanishgas.lifecycle import seal

VERB = (sys.executable, "-c")


def test_the_last_line_that_a_verb_says_is_the_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('first'); print('version 3, gate passed'); print(); print('a warning', file=sys.stderr)"
    assert job.main([code], tmp_path / "out" / "message", VERB) == 0
    assert (tmp_path / "out" / "message").read_text() == "version 3, gate passed"


def test_of_a_verb_that_fails_the_error_is_the_message_and_the_exit_code_stays(tmp_path: Path) -> None:
    code = "import sys; print('step 1'); sys.stderr.write('error: the lake is empty\\n'); sys.exit(2)"
    assert job.main([code], tmp_path / "message", VERB) == 2
    assert (tmp_path / "message").read_text() == "error: the lake is empty"


def test_an_error_of_several_lines_is_told_from_its_beginning(tmp_path: Path) -> None:
    text = "step 1\\nerror: gold is there\\nerror: contracts.csv lacks columns\\n\\nRename them.\\n"
    job.main([f"import sys; sys.stderr.write('{text}'); sys.exit(1)"], tmp_path / "message", VERB)
    assert (tmp_path / "message").read_text() == "error: contracts.csv lacks columns Rename them."


def test_a_message_is_one_line_of_utf_8_that_sagemaker_keeps_whole(tmp_path: Path) -> None:
    job.main(["print('\\x1b[31m' + 'ñ' * 2000)"], tmp_path / "message", VERB)
    written = (tmp_path / "message").read_bytes()
    assert 1000 < len(written) <= 1024
    assert written.decode().isprintable()


def test_a_message_that_cannot_be_written_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        job.main(["print('version 3, gate passed')"], tmp_path / "file" / "message", VERB)


def test_the_user_comes_from_the_secret(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user = json.dumps({"username": "pipeline", "password": "p4ss"})
    secret = boto3.client("secretsmanager").create_secret(Name="user", SecretString=user)["ARN"]
    monkeypatch.setenv("SPANISHGAS_TRACKING_SECRET", secret)
    code = "import os; print(os.environ['MLFLOW_TRACKING_USERNAME'], len(os.environ['MLFLOW_TRACKING_PASSWORD']))"
    job.main([code], tmp_path / "message", VERB)
    assert (tmp_path / "message").read_text() == "pipeline 4"
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_the_sealing_key_comes_from_the_same_secret(
    aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = json.dumps({"username": "pipeline", "password": "p4ss", "sealing_key": "ab" * 32})
    secret = boto3.client("secretsmanager").create_secret(Name="sealed", SecretString=content)["ARN"]
    monkeypatch.setenv("SPANISHGAS_TRACKING_SECRET", secret)
    job.main(
        ["from spanishgas.lifecycle import seal; print(seal.signed({}, 'm')['signature'][:8])"],
        tmp_path / "message",
        VERB,
    )
    signature = hmac.new(bytes.fromhex("ab" * 32), f"m {seal.digest({})}".encode(), "sha256").hexdigest()
    assert (tmp_path / "message").read_text() == signature[:8]


def test_a_job_that_is_told_to_stop_stops_its_verb_as_by_ctrl_c(tmp_path: Path) -> None:
    verb = "import time\ntry:\n print('up', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n print('stopped')"
    code = (
        "import sys; from pathlib import Path; from spanishgas.aws import job; "
        f"job.main([{verb!r}], Path(sys.argv[1]), {VERB!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "message"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert time.monotonic() - began < 30
    assert (tmp_path / "message").read_text() == "stopped"


def shipped(folder: Path, **files: str) -> Path:
    """An archive of a job's code."""
    archive = folder / "code" / "code.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive


def test_a_job_runs_the_code_that_came_with_it(tmp_path: Path) -> None:
    code = shipped(tmp_path, **{"mine.py": "WORDS = 'of the job'"})
    assert job.main(["import mine; print(mine.WORDS)"], tmp_path / "message", VERB, code) == 0
    assert (tmp_path / "message").read_text() == "of the job"


@pytest.mark.parametrize("lock", ["the same", "another"])
def test_code_that_asks_for_other_packages_than_the_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lock: str
) -> None:
    monkeypatch.setattr(job, "LOCK", tmp_path / "uv.lock")
    job.LOCK.write_text("the same")
    code = shipped(tmp_path, **{"uv.lock": lock})
    assert job.main(["print('ran')"], tmp_path / "message", VERB, code) == (2 if lock == "another" else 0)
    said = (tmp_path / "message").read_text()
    assert said == "ran" if lock == "the same" else "the image holds other packages" in said


def test_the_run_in_mlflow_is_the_first_instances_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "HOSTS", tmp_path / "hosts")
    monkeypatch.setenv("MLFLOW_RUN_ID", "a-run")
    said = []
    for host in ("algo-1", "algo-2"):
        job.HOSTS.write_text(json.dumps({"current_host": host, "hosts": ["algo-2", "algo-1"]}))
        job.main(["import os; print(os.environ.get('MLFLOW_RUN_ID', 'its own'))"], tmp_path / "message", VERB)
        said.append((tmp_path / "message").read_text())
    assert said == ["a-run", "its own"]

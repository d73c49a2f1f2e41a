"""`python -m spanishgas.aws.job VERB ...`: one verb as a SageMaker processing job.

A job runs the code that came with it (`mlflow run -b sagemaker`), else the image's. The tracking server's user, and the
sealing key if there is one, are read from Secrets Manager (SPANISHGAS_TRACKING_SECRET), so that no definition holds a
secret. The last line that the verb says, or its error, becomes the job's ExitMessage, which the state machine reads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from spanishgas.errors import UsageError
from spanishgas.lifetime import LEASH

MESSAGE = Path("/opt/ml/output/message")
"""SageMaker gives the first 1,024 bytes of this file as ExitMessage, and fails a job whose file is not UTF-8."""
LONGEST = 1024
ERROR = "error: "
"""How the command line's errors begin, which may have several lines."""
VERB = (sys.executable, "-m", "spanishgas")
CODE = Path("/opt/ml/processing/code/code.tar.gz")
"""The project's code, where it came with the job."""
LOCK = Path("/app/uv.lock")
"""What the image's packages were installed from."""
HOSTS = Path("/opt/ml/config/resourceconfig.json")
"""SageMaker's list of the job's instances, and which of them this is."""
SECRET = "SPANISHGAS_TRACKING_SECRET"
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "SPANISHGAS_CACHE": "/tmp/spanishgas"}
"""The environment of every job, whoever starts it."""


def main(words: Sequence[str], message: Path = MESSAGE, verb: Sequence[str] = VERB, code: Path = CODE) -> int:
    """Exit code of the verb; its last words are in `message` by then. OSError where they cannot be written."""
    message.parent.mkdir(parents=True, exist_ok=True)
    try:
        environment = _environment(code)
    except UsageError as fault:
        message.write_bytes(_fitting(f"{ERROR}{fault}"))
        return fault.exit_code
    last, exit_code = _run([*verb, *words], environment)
    message.write_bytes(_fitting(last))
    return exit_code


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, int]:
    """Last words and exit code of a process, which SIGTERM interrupts."""
    # A process that ignores Ctrl-C, as one in the background does, would hand that down to the verb.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    # As by Ctrl-C: score stops its transform job then.
    terminate = signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    with process, ThreadPoolExecutor(2) as readers:
        said, failed = readers.map(_last_words, (process.stdout, process.stderr), (sys.stdout, sys.stderr))
        code = process.wait()
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)
    return failed or f"exit code {code}" if code else said, code


def _environment(archive: Path) -> dict[str, str]:
    """The verb's environment: where its code lies, and whose the run in MLflow is: the first instance's."""
    environment = {**os.environ, **secrets(), LEASH: "stdin"}
    if archive.exists():
        environment["PYTHONPATH"] = str(_unpacked(archive))
    if HOSTS.exists() and (hosts := json.loads(HOSTS.read_text()))["current_host"] != min(hosts["hosts"]):
        environment.pop("MLFLOW_RUN_ID", None)
    return environment


def _unpacked(archive: Path) -> Path:
    folder = archive.parent / "project"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    if LOCK.exists() and LOCK.read_bytes() != (folder / LOCK.name).read_bytes():
        raise UsageError(
            "the image holds other packages than the job's code asks for: push one of its commit (infra/push_images.sh)"
        )
    return folder


def secrets() -> Mapping[str, str]:
    """What the secret named by SPANISHGAS_TRACKING_SECRET holds, as environment variables; none where it is not set.

    KeyError if it lacks the username or the password; the sealing key may be missing.
    """
    name = os.environ.get(SECRET)
    if not name:
        return {}
    import boto3

    secret = json.loads(boto3.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])
    user = {"MLFLOW_TRACKING_USERNAME": secret["username"], "MLFLOW_TRACKING_PASSWORD": secret["password"]}
    key = secret.get("sealing_key")
    return user | {"SPANISHGAS_SEALING_KEY": key} if key else user


def _last_words(source: IO[str], log: IO[str]) -> str:
    """The last line of `source` that is not empty, or all lines of its error; everything goes to `log` as it comes."""
    last = ""
    for line in source:
        log.write(line)
        log.flush()
        said = line.strip()
        goes_on = last.startswith(ERROR) and not said.startswith(ERROR)
        last = f"{last} {said}"[:LONGEST].rstrip() if goes_on else said or last
    return last


def _fitting(line: str) -> bytes:
    """One line of printable UTF-8 that fits."""
    printable = "".join(c if c.isprintable() else " " for c in line)
    return printable.encode()[:LONGEST].decode(errors="ignore").encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

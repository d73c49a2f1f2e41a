"""`python -m spanishgas.aws.job VERB ...`: one verb as a SageMaker processing job.

The tracking server's user, and the sealing key if there is one, are read from Secrets Manager
(SPANISHGAS_TRACKING_SECRET), so that no definition holds a secret. The last line that the verb says, or its error, becomes the job's ExitMessage, which the state machine reads.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from spanishgas.lifetime import LEASH

MESSAGE = Path("/opt/ml/output/message")
"""SageMaker gives the first 1,024 bytes of this file as ExitMessage, and fails a job whose file is not UTF-8."""
LONGEST = 1024
ERROR = "error: "
"""How the command line's errors begin, which may have several lines."""
VERB = (sys.executable, "-m", "spanishgas")


def main(words: Sequence[str], message: Path = MESSAGE, verb: Sequence[str] = VERB) -> int:
    """Exit code of the verb; its last words are in `message` by then. OSError where they cannot be written."""
    # A process that ignores Ctrl-C, as one in the background does, would hand that down to the verb.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*verb, *words],
        env={**os.environ, **secrets(), LEASH: "stdin"},
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
    message.parent.mkdir(parents=True, exist_ok=True)
    message.write_bytes(_fitting(failed or f"exit code {code}" if code else said))
    return code


def secrets() -> Mapping[str, str]:
    """What the secret named by SPANISHGAS_TRACKING_SECRET holds, as environment variables; none where it is not set.

    KeyError if it lacks the username or the password; the sealing key may be missing.
    """
    name = os.environ.get("SPANISHGAS_TRACKING_SECRET")
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

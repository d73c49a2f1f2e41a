"""Run the commands that pages show, and write down what they say: `python docs/replay.py [--check] [PAGE ...]`.

A page shows commands in blocks marked `console`: a line that begins with `$ ` is run, the lines up to the next one are
its output. The pages are replayed one after the other in one clone of the last commit, so a later page goes on where an
earlier one ended. With `--check` nothing is written: what differs is printed, and the exit code is 1. What no two runs
share (times, run ids, digests) is not compared.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGES = ("tutorial.md", "lifecycle.md", "own-table.md", "backtest.md", "uplift.md", "own-data.md")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MASKS = (
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "<digest>"),
    (re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}(:\d{2})?"), "<time>"),
    (re.compile(r"\d+(\.\d+)? (s|seconds|min)\b"), "<duration>"),
    (re.compile(r"(artefact\.\S+ \| )\d+\.\d+"), r"\1<measured>"),
    (re.compile(r" +"), " "),
)


def clone(folder: Path) -> dict[str, str]:
    """The last commit in `folder`, its environment built; returns what its commands find in theirs."""
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder)], check=True)
    subprocess.run(["make", ".venv/.synced"], cwd=folder, check=True, stdout=sys.stderr)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPANISHGAS_", "MLFLOW_"))}
    return kept | {
        "PATH": f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}",
        "LOGNAME": "operator",
        "COLUMNS": "120",
    }


def replayed(text: str, folder: Path, environment: dict[str, str]) -> str:
    """The page with the output of its commands, run in `folder`."""

    def block(found: re.Match[str]) -> str:
        commands = [line for line in found[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "".join(_said(line, folder, environment) for line in commands) + "```"

    return BLOCK.sub(block, text)


def _said(line: str, folder: Path, environment: dict[str, str]) -> str:
    """The command's line, and what it says: of one that fails, its error too."""
    print(line, file=sys.stderr, flush=True)
    done = subprocess.run(
        ["bash", "-c", line.removeprefix("$ ")], cwd=folder, env=environment, capture_output=True, text=True
    )
    output = done.stdout + ("" if done.returncode == 0 else _error(done.stderr))
    return f"{line}\n{output.replace(str(folder), '...').rstrip()}\n".replace("\n\n```", "\n```")


def _error(text: str) -> str:
    return text[text.rfind("error: ") :]


def masked(text: str) -> list[str]:
    """The lines without what no two runs share."""
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return text.splitlines()


def differences(pages: Sequence[Path], folder: Path, *, write: bool) -> Iterator[str]:
    """Replay the pages; the lines in which they differ from what they show."""
    environment = clone(folder)
    for page in pages:
        shown = page.read_text()
        now = replayed(shown, folder, environment)
        if write:
            page.write_text(now)
        yield from difflib.unified_diff(masked(shown), masked(now), page.name, "replayed", lineterm="", n=1)


def main(words: Sequence[str]) -> int:
    """Exit code: 1 where `--check` found a difference."""
    check = "--check" in words
    pages = [Path(w) for w in words if w != "--check"] or [PROJECT / "docs" / name for name in PAGES]
    with tempfile.TemporaryDirectory(prefix="spanishgas-") as scratch:
        found = list(differences(pages, Path(scratch) / "spanishgas", write=not check))
    print("\n".join(found))
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The tutorial and the operator's story, followed to the letter in a fresh clone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs import replay
from spanishgas.settings import PROJECT


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_pages_commands_say_in_a_fresh_clone_what_the_pages_show() -> None:
    """Of the last commit; what the comparison leaves out stands in docs/replay.py."""
    done = subprocess.run(
        [sys.executable, "docs/replay.py", "--check"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


PAGE = """Words.

```console
$ echo "run $(printf 'a%.0s' {1..32}) took 3.1 s in $PWD"
run 0123456789abcdef0123456789abcdef took 2 s in ...
$ echo "average precision 0.7668"
average precision 0.7668
$ echo "error: no such page" >&2; false
error: no such page
```
"""


@pytest.fixture
def differing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The lines in which a page differs from what its commands say."""
    monkeypatch.setattr(replay, "clone", lambda folder: dict(os.environ))

    def of(text: str) -> list[str]:
        page = tmp_path / "page.md"
        page.write_text(text)
        found = replay.differences([page], tmp_path, write=False)
        return [line for line in found if line[0] in "+-" and not line.startswith(("+++", "---"))]

    return of


def test_ids_times_and_the_clones_folder_are_no_difference(differing: Callable[[str], list[str]]) -> None:
    assert differing(PAGE) == []


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\naverage precision 0.7668", "\naverage precision 0.7669"),
        ("\nerror: no such page", "\nerror: no such pages"),
        ("took 2 s in ...", "took 2 s there"),
    ],
)
def test_a_page_that_shows_other_words_than_its_command_says_is_found(
    differing: Callable[[str], list[str]], said: str, shown: str
) -> None:
    before, after = differing(PAGE.replace(said, shown))
    assert before.startswith("-")
    assert before.endswith(replay.masked(shown.strip())[0])
    assert after.startswith("+")
    assert after.endswith(replay.masked(said.strip())[0])

"""CONTRIBUTING.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from spanishgas.lake import Lake
from spanishgas.settings import PROJECT

BLOCK = re.compile(r"(?:At the end of|Below\s`(\w+)` in) `([^`]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
COMMANDS = re.compile(r"Then:\n\n```\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_a_feature_is_added_by_one_function_one_row_and_one_test(tmp_path: Path) -> None:
    copy = tmp_path / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split("\n")
    for name in filter(None, listed):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, copy / name)
    guide = (copy / "CONTRIBUTING.md").read_text()
    blocks = BLOCK.findall(guide)
    assert len(blocks) == 3
    for below, file, block in blocks:
        _insert(copy / file, block, below)
    environment = {**os.environ, "PATH": f"{copy / '.venv' / 'bin'}:{os.environ['PATH']}"}
    (commands,) = COMMANDS.findall(guide)
    for command in ("make .venv/.synced", *commands.strip().splitlines()):
        done = subprocess.run(command.split(), cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    gold = Lake(copy / "trial" / "lake").current("gold_master").pandas(["peak_share_of_elec"])
    share = gold["peak_share_of_elec"].dropna()
    assert len(share) > 400
    assert share.between(0, 1).all()
    assert share.std() > 0


def _insert(file: Path, block: str, below: str) -> None:
    """At the end, or right below the line that begins with `below`."""
    text = file.read_text()
    if not below:
        file.write_text(f"{text}\n\n{block}")
        return
    (line,) = re.findall(rf"^ *{re.escape(below)}:.*\n", text, re.MULTILINE)
    file.write_text(text.replace(line, line + block))

"""Write conda.yaml, which `mlflow run` builds from, out of uv.lock; with --check, say whether it is so.

uv.lock --(uv export: runtime dependencies, pinned, with their markers)--> conda.yaml
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONDA_YAML = PROJECT / "conda.yaml"
HEADER = """\
# Written from uv.lock by .ci/conda_yaml.py: do not edit.
# python names no patch release, so that uv, pyenv and conda take the 3.11 that the machine has.
name: spanishgas
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pinned() -> list[str]:
    """The runtime dependencies of uv.lock as pip reads them, without the project itself."""
    words = ["export", "--frozen", "--no-default-groups", "--no-emit-project"]
    plain = ["--no-hashes", "--no-header", "--no-annotate", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "uv", *words, *plain], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"uv cannot export uv.lock:\n{done.stderr}")
    return done.stdout.splitlines()


def rendered() -> str:
    """conda.yaml as the lock wants it."""
    # Double quotes: a marker holds single ones.
    return HEADER + "".join(f'      - "{requirement}"\n' for requirement in pinned())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail if conda.yaml is out of date"
    )
    wanted, found = rendered(), CONDA_YAML.read_text() if CONDA_YAML.exists() else ""
    if not parser.parse_args().check:
        CONDA_YAML.write_text(wanted)
    elif wanted != found:
        sys.stderr.writelines(
            difflib.unified_diff(
                found.splitlines(True), wanted.splitlines(True), "conda.yaml", "uv.lock", n=0
            )
        )
        print("conda.yaml differs from uv.lock: run `make conda.yaml`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

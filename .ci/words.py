"""Hold the package to its vocabulary: no two classes of one name, no name that says nothing, docstrings with a subject.

    python .ci/words.py

Ends with 1 and a line per breach. docs/glossary.md says which noun means what.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

EMPTY = {"found", "given", "held", "known"}
"""Names of variables and arguments that say nothing of what they hold."""
PACKAGE = Path(__file__).resolve().parents[1] / "spanishgas"
NO_SUBJECT = re.compile(r"(Of|By|What .* by what)\b")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Each module of the package, by its path from the project's root."""
    for file in sorted(PACKAGE.rglob("*.py")):
        yield file.relative_to(PACKAGE.parent), ast.parse(file.read_text("utf-8"))


def twice() -> Iterator[str]:
    """Classes of which another one has the name."""
    places = defaultdict(list)
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file}:{node.lineno}")
    yield from (f"{' and '.join(at)}: two classes {name}" for name, at in places.items() if len(at) > 1)


def without_subject() -> Iterator[str]:
    """Docstrings, those of attributes too, that begin in the middle of a sentence."""
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                words = node.value.value
                if isinstance(words, str) and NO_SUBJECT.match(words):
                    yield f"{file}:{node.lineno}: begins without a subject: {words.splitlines()[0]}"


def empty_names() -> Iterator[str]:
    """Variables and arguments of functions whose name says nothing."""
    for file, tree in trees():
        functions = [
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        inside = {node for function in functions for node in ast.walk(function)}
        named = [(n.id, n.lineno) for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        named += [(n.arg, n.lineno) for n in inside if isinstance(n, ast.arg)]
        yield from (
            f"{file}:{line}: '{name}' does not say what it holds" for name, line in named if name in EMPTY
        )


def main() -> int:
    """Print every breach."""
    breaches = [*twice(), *empty_names(), *without_subject()]
    print(*breaches, sep="\n", end="\n" if breaches else "")
    return int(bool(breaches))


if __name__ == "__main__":
    sys.exit(main())

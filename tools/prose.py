"""Checks how docstrings begin: with a noun or a verb, so that they say what a thing is or does.

    python tools/prose.py src tests bench examples

Checked are the docstrings of modules, classes, functions and constants, and the entries of their sections (Args,
Attributes, Returns, Raises). An opening such as "What is kept", "Those that wait", "Of a message" makes a reader
look for the subject. `EXCEPTIONS` lists openings that are right all the same.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

OPENINGS = (
    "That",
    "Those",
    "Of",
    "What",
    "Who",
    "Whose",
    "Whether",
    "With",
    "Where",
    "As",
    "How",
    "Which",
    "When",
    "Into",
    "Nothing",
    "Does as",
    "From now on",
)
RIDDLE = re.compile(rf"({'|'.join(OPENINGS)})\b", re.IGNORECASE)
ENTRY = re.compile(r"^ {4,8}(\*{0,2}\w[\w, *]*): (?P<text>.+)$")
EXCEPTIONS: set[str] = set()
"""Openings that are allowed, as they stand; ten at most."""

Place = tuple[int, str]


def docstrings(tree: ast.Module) -> Iterator[Place]:
    """The docstrings of a file, those of constants and fields included, with their lines."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                continue
            text = statement.value.value
            is_first = before is None and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if isinstance(text, str) and (is_first or isinstance(before, ast.Assign | ast.AnnAssign)):
                yield statement.lineno, text


def openings(line: int, text: str) -> Iterator[Place]:
    """The beginnings of a docstring and of the entries of its sections."""
    yield line, text.strip()
    for offset, entry in enumerate(text.splitlines()):
        match = ENTRY.match(entry)
        if match is not None:
            yield line + offset, match["text"]


def riddles(file: Path) -> Iterator[Place]:
    """The openings of a file that name no subject."""
    for line, text in docstrings(ast.parse(file.read_text(encoding="utf-8"))):
        for at, opening in openings(line, text):
            first = opening.splitlines()[0] if opening else ""
            if RIDDLE.match(first) and not any(first.startswith(allowed) for allowed in EXCEPTIONS):
                yield at, first


def main() -> int:
    assert len(EXCEPTIONS) <= 10
    found = 0
    for folder in sys.argv[1:]:
        for file in sorted(Path(folder).rglob("*.py")):
            for line, opening in riddles(file):
                found += 1
                print(f"{file}:{line}: begins as a riddle: {opening[:90]}")
    if found:
        print(f"{found} openings: begin with a noun or a verb (tools/prose.py)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

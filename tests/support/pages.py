"""The pages for people: their blocks of code, their commands, their links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCED = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
SHELLS = ("sh", "bash", "console", "shell")
ENDS = re.compile(r"[;&|<>()]+|fi|done|then")
"""Words that end a command."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        line: its first line's number.
        reason: words of `<!-- not run: ... -->` above it; None: it runs in a test.
    """

    language: str
    text: str
    line: int
    reason: str | None


def documents() -> list[Path]:
    """Every page for people: those at the root, in docs/ and bench/, and the folders' own in src/."""
    found = [*ROOT.glob("*.md"), *(ROOT / "bench").glob("*.md")]
    return sorted([*found, *DOCS.rglob("*.md"), *(ROOT / "src").rglob("*.md")])


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCED.finditer(text):
        inner = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["language"], inner, line, found["reason"])


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def command_lines(block: Block) -> Iterator[str]:
    """The lines of a shell's block that someone types, with those that a backslash continues."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    yield from lines


def commands(line: str) -> Iterator[list[str]]:
    """The words behind each `ppo2` of a line, whatever starts it (mpirun, srun, exec, a variable)."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, "#"
    words = list(reader)
    for start, word in enumerate(words):
        before = words[start - 1] if start else ";"
        if word == "ppo2" and not before.startswith("-") and before not in ("pip", "install", "cd"):
            behind = words[start + 1 :]
            end = next((i for i, other in enumerate(behind) if ENDS.fullmatch(other)), len(behind))
            yield behind[:end]

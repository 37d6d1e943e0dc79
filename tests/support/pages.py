"""The pages for people: their blocks of code, their commands, their links.

Marks above a block, which no reader sees, say how a test runs it:

    <!-- slow: REASON -->                  only in `make test-all`; `<!-- slow, with NAME: ... -->` needs a package, too
    <!-- shortened: learn(nsteps=64) -->   with these arguments in the block's calls of `learn`, whatever it says there
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCED = re.compile(
    r"(?P<marks>(?:^<!-- (?:slow|shortened)[^>]*-->\n+)*)"
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)
SLOW = re.compile(r"<!-- slow(?:, with (?P<package>\w+))?: [^>]+ -->")
SHORTENED = re.compile(r"<!-- shortened: (?P<calls>[^>]+) -->")
SHELLS = ("sh", "bash", "console", "shell")
ENDS = re.compile(r"[;&|<>()]+|fi|done|then")
"""Words that end a command."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        line: its first line's number.
        slow: True where only a slow test runs it.
        package: one that it needs beside those that it imports.
        shortened: the calls of a mark that makes it shorter.
    """

    language: str
    text: str
    line: int
    slow: bool = False
    package: str | None = None
    shortened: str = ""

    @property
    def program(self) -> str:
        """The block as tests run it: the same lines, with the arguments of its mark."""
        if not self.shortened:
            return self.text
        new = {ast.unparse(call.func): call.keywords for call in _calls(self.shortened)}
        edits = [edit for call in _calls(self.text) for edit in _edits(call, new.get(_name(call), []))]
        assert new.keys() <= {_name(call) for call in _calls(self.text)}, f"line {self.line}: {self.shortened}"
        lines = self.text.splitlines(keepends=True)
        for line, start, end, text in sorted(edits, reverse=True):
            lines[line] = lines[line][:start] + text + lines[line][end:]
        return "".join(lines)


def _calls(text: str) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _edits(call: ast.Call, keywords: list[ast.keyword]) -> Iterator[tuple[int, int, int, str]]:
    """Changes of a text that give a call these keywords: line, first and last column, and what comes there."""
    if not keywords:
        return
    there = {of.arg: of.value for of in call.keywords}
    for of in keywords:
        if of.arg in there:
            old = there[of.arg]
            yield old.lineno - 1, old.col_offset, int(old.end_col_offset or 0), ast.unparse(of.value)
    last = [*call.args, *there.values()][-1]
    more, end = "".join(f", {ast.unparse(of)}" for of in keywords if of.arg not in there), int(last.end_col_offset or 0)
    yield int(last.end_lineno or 0) - 1, end, end, more


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
        slow, shortened = SLOW.search(found["marks"]), SHORTENED.search(found["marks"])
        assert (slow is not None) + (shortened is not None) == found["marks"].count("<!--"), found["marks"]
        package, calls = slow["package"] if slow else None, shortened["calls"] if shortened else ""
        yield Block(found["language"], inner, line, slow is not None, package, calls)


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

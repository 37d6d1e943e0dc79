"""Screens on the pages: each is what its mark asks for; tools/screens.py writes them, and knows terminals."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from support.pages import DOCS, ROOT, named
from support.scripts import loaded

MARK = re.compile(r"<!-- screen(?: \(([^)]+)\))?: (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)
SCREENS = [
    pytest.param(*found.groups(), id=f"{named(page)}: {found[2]}"[:100])
    for page in sorted(DOCS.rglob("*.md"))
    for found in MARK.finditer(page.read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def screens() -> ModuleType:
    module: ModuleType = loaded(ROOT / "tools" / "screens.py")
    return module


@pytest.mark.core
@pytest.mark.parametrize(("how", "command", "block"), SCREENS)
def test_each_screen_is_of_its_command(how: str | None, command: str, block: str) -> None:
    """The output was written by tools/screens.py, and is a success."""
    lines = block.splitlines()
    assert lines[:2] == ["```console", f"$ {command}"], "run tools/screens.py"
    assert lines[-1] == "```"
    assert len(lines) > 3
    assert not any(line.startswith(("Traceback", "ppo2: ")) for line in lines)
    if how is not None and how.endswith(" lines"):
        assert len(lines) - 3 <= int(how.split()[0]) + 1


@pytest.mark.core
def test_every_command_is_on_the_page_of_commands() -> None:
    from ppo2 import cli

    headings = " ".join(re.findall(r"^## (.*)$", (DOCS / "commands.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(cli.COMMANDS) <= set(re.findall(r"`ppo2 (\w+)`", headings))


@pytest.mark.core
@pytest.mark.parametrize("name", sorted(path.name for path in (DOCS / "images").iterdir()))
def test_each_picture_has_one_maker(name: str) -> None:
    """A mark of a page, for tools/screens.py, or a script of bench/ that bench/document.py calls."""
    page = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md") if path.parent.name != "zh")
    marks = re.findall(rf"<!-- (?:(?:picture|frame) {name} |screen \({name} |run: .*\$IMAGES/{name} )", page)
    scripts = [path for path in (ROOT / "bench").glob("*.py") if f'"images" / "{name}"' in path.read_text("utf-8")]
    assert len(marks) + len(scripts) == 1, "which command makes it?"


def test_commands_are_run_in_order(screens: ModuleType, tmp_path: Path) -> None:
    page = "a\n<!-- run: echo one > file -->\n<!-- screen: cat file; pwd -->\nold\n<!-- end -->\nb\n"
    expected = (
        "a\n<!-- run: echo one > file -->\n<!-- screen: cat file; pwd -->\n```console\n$ cat file; pwd\none\n.\n```\n"
        "<!-- end -->\nb\n"
    )
    assert screens.written(page, tmp_path) == expected
    assert screens.written(expected, tmp_path) == expected


def test_a_mark_may_keep_the_first_lines(screens: ModuleType, tmp_path: Path) -> None:
    page = "<!-- screen (2 lines): seq 5 -->\n<!-- end -->\n"
    assert screens.written(page, tmp_path).splitlines()[3:6] == ["1", "2", "..."]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\ntwo\n", ["one", "two", ""]),
        ("\x1b[32mone\x1b[0m\n", ["one", ""]),
        ("0 %\r\x1b[2K50 %\r\x1b[2K100 %\n", ["100 %", ""]),
        ("a\nb\n\x1b[2A\x1b[2Kc\n\x1b[2Kd\n", ["c", "d", ""]),
    ],
)
def test_a_terminal_shows_what_is_drawn_last(screens: ModuleType, text: str, lines: list[str]) -> None:
    assert screens.shown(text) == lines

"""The README: short, and its first snippet learns."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import ROOT, blocks

SNIPPETS = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]


@pytest.mark.slow
def test_the_first_snippet_learns(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPETS[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) > 100


@pytest.mark.core
@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_two_screens_are_enough(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.core
def test_both_show_the_same() -> None:
    """Headings, code, pictures and figures."""
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
    assert re.findall(r"^#+ ", english, re.MULTILINE) == re.findall(r"^#+ ", chinese, re.MULTILINE)
    figures = re.compile(r"^\| [^|]* (\|.*bench/.*)$", re.MULTILINE)
    assert len(figures.findall(english)) == 5
    assert figures.findall(english) == figures.findall(chinese)
    assert re.findall(r"!\[.*\]\((.*)\)", english) == re.findall(r"!\[.*\]\((.*)\)", chinese)
    ours, theirs = (list(blocks(ROOT / name)) for name in ("README.zh-CN.md", "README.md"))
    assert [re.sub(r"\s+#.*", "", block.text) for block in ours] == [
        re.sub(r"\s+#.*", "", block.text) for block in theirs
    ]

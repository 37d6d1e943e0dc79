"""The README: short, and its first snippet learns."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ppo2
from support.pages import ROOT, blocks

SNIPPETS = [block.text for block in blocks(ROOT / "README.md") if block.language == "python"]


@pytest.mark.slow
def test_the_first_snippet_learns(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPETS[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) > 100


@pytest.mark.core
def test_the_chinese_readme_has_every_argument() -> None:
    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for name in inspect.signature(ppo2.learn).parameters:
        assert re.search(rf"`(\*\*)?{name}`", text), name

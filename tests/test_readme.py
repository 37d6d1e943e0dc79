"""The READMEs' Python snippets run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.children import STRICT_PYTHON

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[f"snippet-{i}" for i in range(len(SNIPPETS))])
def test_snippet(snippet: str, tmp_path: Path) -> None:
    done = subprocess.run([*STRICT_PYTHON, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_snippet_learns(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPETS[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) > 100


def test_the_chinese_readme_has_every_argument() -> None:
    import inspect

    import ppo2

    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for name in inspect.signature(ppo2.learn).parameters:
        assert f"`{name}`" in text or f"`**{name}`" in text, name


def test_links_lead_somewhere() -> None:
    for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{name} links to {target}"

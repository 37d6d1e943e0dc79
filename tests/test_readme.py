"""Python snippets of the README and of other pages run as they are; links and paths in the documents exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.children import STRICT_PYTHON

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PLACES = {path.name for root in (ROOT, ROOT / "src" / "ppo2") for path in root.iterdir() if path.is_dir()}
"""Folders whose files the pages name, from the root or from src/ppo2."""
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SNIPPETS = SNIPPET.findall(README)
PAGES = ["callbacks", "doctor", "logging", "output", "report", "settings", "sharing"]
"""Pages of docs/ whose snippets run."""
IN_PAGES = [
    pytest.param(snippet, id=f"{page}-{i}")
    for page in PAGES
    for i, snippet in enumerate(SNIPPET.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(
    "snippet", [*(pytest.param(one, id=f"snippet-{i}") for i, one in enumerate(SNIPPETS)), *IN_PAGES]
)
def test_snippet(snippet: str, tmp_path: Path) -> None:
    if "import optuna" in snippet:
        pytest.importorskip("optuna")
    done = subprocess.run([*STRICT_PYTHON, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_snippets_of_the_page_on_export(tmp_path: Path) -> None:
    """One after the other in one process, as their reader runs them."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    snippets = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    code = f"import sys; sys.path.insert(0, '')\n{snippets}"
    done = subprocess.run([*STRICT_PYTHON, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_snippet_learns(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SNIPPETS[0]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) > 100


@pytest.mark.core
def test_the_chinese_readme_has_every_argument() -> None:
    import inspect

    import ppo2

    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for name in inspect.signature(ppo2.learn).parameters:
        assert f"`{name}`" in text or f"`**{name}`" in text, name


def pages() -> list[Path]:
    """Every page for people: those at the root, in docs/ and bench/, and the folders' own in src/."""
    return sorted(page for where in (".", "docs", "bench") for page in (ROOT / where).glob("*.md")) + sorted(
        (ROOT / "src").rglob("*.md")
    )


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.core
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), f"{target}#{heading}"


@pytest.mark.core
@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`((?:[\w-]+/)+(?:[\w-]+\.(?:py|md))?|tests/[\w/.-]+)`", text):
        if name.split("/")[0] in PLACES:
            assert any((root / name).exists() for root in (ROOT, ROOT / "src" / "ppo2", page.parent)), name

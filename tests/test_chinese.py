"""Pages in Chinese say what the English ones say: the same headings, the same code, the same names."""

import inspect
import io
import re
import tokenize
from pathlib import Path

import pytest

import ppo2
from support.pages import DOCS, ROOT, Block, blocks, named, prose

ENGLISH = {
    "tutorial": "tutorial.md",
    "own-environment": "guides/own-environment.md",
    "distributed": "distributed.md",
    "baselines": "coming-from/baselines.md",
}
OTHERS = {"arguments", "misunderstandings"}
"""Checked below, and a page on what notes in Chinese say of Baselines."""
PAIRS = [pytest.param(DOCS / "zh" / f"{name}.md", DOCS / english, id=name) for name, english in ENGLISH.items()]
NAME = re.compile(r"`[^`]*[A-Za-z_]{2}[^`]*`")


def levels(page: Path) -> list[int]:
    return [len(found) for found in re.findall(r"^(#+) ", prose(page), re.MULTILINE)]


def bare(block: Block) -> list[str]:
    """The code without its comments and docstrings, which are translated."""
    if block.language != "python":
        return [
            re.sub(r"\s+#(?!!|SBATCH).*", "", line) for line in block.text.splitlines() if not line.startswith("# ")
        ]
    tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
    return [one.string for one in tokens if one.type != tokenize.COMMENT and not one.string.startswith('"""')]


def names(page: Path) -> set[str]:
    """The names and values that are written as code."""
    return {re.sub(r"\s+", " ", found) for found in NAME.findall(re.sub(r"<!--.*?-->", "", prose(page)))}


def test_every_page_in_chinese_has_its_english_one() -> None:
    assert {path.stem for path in (DOCS / "zh").glob("*.md")} == {*ENGLISH, *OTHERS}


@pytest.mark.parametrize(("chinese", "english"), PAIRS)
def test_the_same_headings(chinese: Path, english: Path) -> None:
    assert levels(chinese) == levels(english)


@pytest.mark.parametrize(("chinese", "english"), PAIRS)
def test_the_same_code(chinese: Path, english: Path) -> None:
    ours, theirs = list(blocks(chinese)), list(blocks(english))
    assert [block.language for block in ours] == [block.language for block in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert bare(one) == bare(other)


@pytest.mark.parametrize(("chinese", "english"), PAIRS)
def test_the_same_names(chinese: Path, english: Path) -> None:
    assert names(chinese) == names(english)


BEGINNING = re.compile(r"\s*(\||#|```|[-*] |<!--|!\[|>|\d+\. )")
"""Beginnings of lines that start something new in Markdown."""


@pytest.mark.parametrize("page", [*sorted((DOCS / "zh").glob("*.md")), ROOT / "README.zh-CN.md"], ids=named)
def test_a_paragraph_is_one_line(page: Path) -> None:
    """A line break becomes a blank, which Chinese has not between words or behind its commas."""
    lines = prose(page).splitlines()
    text = [line.strip() and not line.startswith(("|", "#", "<!--")) for line in lines]
    pairs = zip(text, lines[1:], strict=False)
    assert not [line for before, line in pairs if before and line.strip() and not BEGINNING.match(line)]


def test_the_same_tables(chinese_rows: dict[str, str]) -> None:
    """All arguments, in the order and under as many headings as in English, with the same defaults."""
    english = (DOCS / "arguments.md").read_text(encoding="utf-8")
    ours = re.findall(r"^\| `(\**\w+)` \| ([^|]*) \|", english, re.MULTILINE)
    mlp = {"num_layers", "num_hidden", "activation", "layer_norm"}
    assert [name for name in chinese_rows if name not in mlp] == [name for name, _ in ours]
    assert set(chinese_rows) - mlp == {f"**{name}" if name == "network_kwargs" else name for name in signature()}
    assert levels(DOCS / "zh" / "arguments.md") == levels(DOCS / "arguments.md")
    for name, default in ours:
        if default.strip("` ") not in ("", "1000000.0", "0.0003"):
            assert default.strip("` ").strip("'") in chinese_rows[name].replace('"', ""), name


@pytest.fixture
def chinese_rows() -> dict[str, str]:
    text = (DOCS / "zh" / "arguments.md").read_text(encoding="utf-8")
    return {found[1]: found[2] for found in re.finditer(r"^\| `(\**\w+)` \|(.*)$", text, re.MULTILINE)}


def signature() -> list[str]:
    return list(inspect.signature(ppo2.learn).parameters)

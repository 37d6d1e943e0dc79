"""Pages are true: their snippets run, their commands are understood, their links lead somewhere."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from ppo2 import cli
from support.children import STRICT_PYTHON
from support.compiling import quick_variables
from support.pages import DOCS, ROOT, SHELLS, Block, blocks, command_lines, commands, documents, named, prose

PLACES = {path.name for root in (ROOT, ROOT / "src" / "ppo2") for path in root.iterdir() if path.is_dir()}
"""Folders whose files the pages name, from the root or from src/ppo2."""
OPTIONAL = {
    *("ale_py", "brax", "flax", "gymnax", "jax", "keras", "mujoco", "onnx", "onnxruntime", "optuna", "pettingzoo"),
    *("ray", "supersuit", "torch"),
}
"""Packages that a page may need; where one isn't installed, its test is skipped and says so."""
OWN_MODULE = """
import gymnasium
from gymnasium.envs.classic_control import PendulumEnv

class Homing(PendulumEnv):
    def __init__(self, width=1.0):
        super().__init__()

gymnasium.register("Homing-v0", entry_point=Homing)
"""
"""A reader's module with an environment, `mygame`."""
WITH_SNIPPETS = [
    page
    for page in documents()
    if page.parent.name != "zh"
    and page.name != "README.zh-CN.md"
    and any(block.language == "python" for block in blocks(page))
]
"""Pages in Chinese have the code of the English ones (test_chinese.py, test_readme.py)."""
SHELL_LINES = [
    pytest.param(words, id=f"{named(page)}:{block.line}: {shlex.join(words)}"[:120])
    for page in documents()
    for block in blocks(page)
    if block.language in SHELLS
    for line in command_lines(block)
    for words in commands(line)
]
INLINE = [
    pytest.param(words, id=f"{named(page)}: {shlex.join(words)}"[:120])
    for page in documents()
    for text in dict.fromkeys(re.findall(r"`(ppo2 [^`]+)`", prose(page)))
    if "..." not in text and "|" not in text
    for words in commands(text)
]


def snippets(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def has(page: Path, *, slow: bool) -> bool:
    return any(block.slow is slow for block in snippets(page))


def whole(page: Path, of: list[Block]) -> str:
    """A program of snippets, one after the other in one namespace, as their reader runs them."""
    parts = []
    for block in of:
        source = "\n" * (block.line - 1) + block.program  # so that a traceback has the page's lines
        parts.append(f"exec(compile({source!r}, {named(page)!r}, 'exec'), globals())")
    return "\n".join(["import sys; sys.path.insert(0, '')", *parts])


def needed(of: list[Block]) -> Iterator[str]:
    """Packages that snippets need, by what they import and by their marks."""
    for block in of:
        if block.package is not None:
            yield block.package
        for node in ast.walk(ast.parse(block.text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            yield from (name.partition(".")[0] for name in names)


def ran(page: Path, of: list[Block], place: Path) -> None:
    """Runs snippets one after the other in one process."""
    missing = {name for name in needed(of) if name in OPTIONAL and importlib.util.find_spec(name) is None}
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    done = subprocess.run(
        [*STRICT_PYTHON, "-c", whole(page, of)],
        cwd=place,
        env={**os.environ, **quick_variables()},  # most of the time goes to compiling programs that run once
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "page", [page for page in WITH_SNIPPETS if not all(of.slow for of in snippets(page))], ids=named
)
def test_snippets(page: Path, tmp_path: Path) -> None:
    """All but the slow ones."""
    ran(page, [block for block in snippets(page) if not block.slow], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [page for page in WITH_SNIPPETS if has(page, slow=True)], ids=named)
def test_slow_snippets(page: Path, tmp_path: Path) -> None:
    """The whole page: slow ones use names of those before them."""
    ran(page, snippets(page), tmp_path)


@pytest.mark.core
def test_every_snippet_is_run_by_a_test() -> None:
    """A mark says that one is slow, or shorter in a test; none says that it isn't run."""
    assert not [named(page) for page in documents() if re.search(r"<!-- *not ", page.read_text(encoding="utf-8"))]
    languages = {block.language for page in documents() for block in blocks(page)}
    assert languages <= {"", "python", "c", "js", "text", "yaml", *SHELLS}, "only `python` is run"
    block = Block("python", "a = f(\n    x=1,  # why\n)\nm.f(a)\nh(1)\n", 7, shortened="f(x=[2], y=3)")
    assert block.program == "a = f(\n    x=[2], y=3,  # why\n)\nm.f(a, x=[2], y=3)\nh(1)\n"


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[list[str]], int]]:
    """The command line without what it calls: its exit status tells whether it was understood."""
    real = cli.tyro.cli

    def parsed(*arguments: Any, **keywords: Any) -> Callable[[], int]:
        real(*arguments, **keywords)
        return lambda: 0

    monkeypatch.setattr(cli, "tyro", types.SimpleNamespace(cli=parsed))  # of this module alone
    monkeypatch.syspath_prepend(".")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("env: CartPole-v1\nnsteps: 64\n", encoding="utf-8")
    (tmp_path / "mygame.py").write_text(OWN_MODULE, encoding="utf-8")
    tuned = tmp_path / "runs" / "tune-LunarLander-v3"
    tuned.mkdir(parents=True)
    (tuned / "best.yaml").write_text("env: LunarLander-v3\nnsteps: 64\n", encoding="utf-8")
    run = tmp_path / "runs" / "x"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"env": "CartPole-v1", "nsteps": 64}', encoding="utf-8")
    yield cli.main
    sys.modules.pop("mygame", None)
    gymnasium.registry.pop("Homing-v0", None)


@pytest.mark.parametrize("words", SHELL_LINES)
def test_commands_are_understood(
    words: list[str], understood: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [re.sub(r"\$\w+", "1", word) for word in words if word != "..."]  # a variable of a job's script
    status, said = understood(words), capsys.readouterr().err
    if status and "a package that isn't installed" in said:
        pytest.skip(said)
    assert status == 0, said


@pytest.mark.parametrize("words", INLINE)
def test_commands_in_sentences_are_understood(
    words: list[str], understood: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert words[0] in cli.COMMANDS or words[0].startswith("-") or words[0] == "COMMAND", words
    options = [word for word in words[1:] if word.startswith("--") and not word.startswith(("--env.", "--eval-env."))]
    if words[0] in cli.COMMANDS and options:
        status = understood([words[0], *(word.replace("ENV", "CartPole-v1") for word in words[1:])])
        assert status == 0 or "unknown" not in capsys.readouterr().err


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading, and the site's."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.core
@pytest.mark.parametrize("page", documents(), ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?://|mailto:)([^)#]*)#?([^)]*)\)", prose(page)):
        file = page.parent / target if target else page
        assert file.exists(), target
        if heading and not heading.startswith("ppo2."):  # of the reference, which the site's build checks
            headings = re.findall(r"^#+ (.*)$", prose(file), re.MULTILINE)
            assert heading in map(anchor, headings), f"{target}#{heading}"


@pytest.mark.core
@pytest.mark.parametrize("page", documents(), ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:[\w-]+/)+(?:[\w-]+\.(?:py|md))?|tests/[\w/.-]+)`", prose(page)):
        if name.split("/")[0] in PLACES:
            assert any((root / name).exists() for root in (ROOT, ROOT / "src" / "ppo2", page.parent)), name


@pytest.mark.core
def test_pictures_of_the_pages_are_shown() -> None:
    pictures = {path for path in DOCS.rglob("*") if path.suffix in (".png", ".svg", ".gif")}
    shown = {
        (page.parent / name).resolve()
        for page in documents()
        for name in re.findall(r"(?:!\[[^\]]*\]\(|src=\")(?!https?:)([^)\"]+)", page.read_text(encoding="utf-8"))
    }
    assert pictures <= shown


@pytest.mark.core
def test_every_answer_leads_to_a_page() -> None:
    answers = re.split(r"^### ", (DOCS / "faq.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert len(answers) >= 29
    assert not [answer.splitlines()[0] for answer in answers if "](" not in answer]

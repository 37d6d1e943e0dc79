"""Facts on the pages for readers: names of functions, arguments and their defaults, names of other libraries."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ppo2
from ppo2 import networks
from ppo2.config.foreign_names import counterpart

pytestmark = pytest.mark.core

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "ppo2"
FUNCTION = re.compile(r"`([\w/]+\.py):([\w.]+)`")
COMING_FROM = sorted((DOCS / "coming-from").glob("*.md"))
LEARN = inspect.signature(ppo2.learn).parameters
ARGUMENT = re.compile(r"`(\w+)(?:=[^`]*)?`(?: \(([^)]*)\))?")
"""An argument on a page, `name` or `name=value`, and its default in brackets behind it."""
OTHERWISE = {"seed": "drawn", "num_envs": "8"}
"""Defaults that `learn` makes of None."""
NOTHING = ("\N{EN DASH}", "always")
"""Words in the place of a counterpart."""


def functions_of_the_algorithm() -> list[tuple[str, str]]:
    return sorted(set(FUNCTION.findall((DOCS / "algorithm.md").read_text(encoding="utf-8"))))


def test_every_detail_of_the_algorithm_names_its_function() -> None:
    text = (DOCS / "algorithm.md").read_text(encoding="utf-8")
    assert len(functions_of_the_algorithm()) > 40
    rows = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    sections = re.findall(r"^### (\d+)\.", text, re.MULTILINE)
    assert sorted(map(int, [*rows, *sections, *re.findall(r"^\*\*(37)\.\*\*", text, re.MULTILINE)])) == [*range(1, 38)]
    for number, rest in re.findall(r"^### (\d+)\.(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL):
        assert FUNCTION.search(rest), number


@pytest.mark.parametrize(("file", "name"), functions_of_the_algorithm(), ids=lambda part: part)
def test_functions_on_the_page_of_the_algorithm_exist(file: str, name: str) -> None:
    node: Any = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        node = next((child for child in node.body if getattr(child, "name", None) == part), None)
        assert node is not None, f"{file} has no {name}"


def tables(page: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Header and cells of each row of the page's tables."""
    header: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if not cells or set(line) <= set("|-: "):
            header = header if cells else []
        elif not header:
            header = cells
        else:
            yield header, cells


def rows_of_arguments(page: Path) -> list[tuple[str, str, str]]:
    """The rows of the table of arguments: theirs, ours, how to convert."""
    rows = [(*cells, "")[:3] for header, cells in tables(page) if len(header) > 2 and header[1].startswith("here (")]
    if page.stem == "baselines":
        rows = [(*cells, "")[:3] for header, cells in tables(page) if header == ["Baselines", "here", "note"]]
    return rows  # type: ignore[return-value]


def known_names() -> set[str]:
    """Arguments of `learn`, and those of the networks."""
    return {*LEARN, *(name for builder in networks.known().values() for name in networks.options(builder))}


def is_default(name: str, words: str) -> bool:
    default = LEARN[name].default if name in LEARN else networks.options(networks.known()["lstm"])[name].default
    if words in (str(default), OTHERWISE.get(name)):
        return True
    return isinstance(default, int | float) and float(words) == default


@pytest.mark.parametrize("page", COMING_FROM, ids=lambda page: page.stem)
def test_arguments_on_the_pages_for_users_of_other_libraries(page: Path) -> None:
    rows = rows_of_arguments(page)
    assert len(rows) > 12
    for theirs, ours, _ in rows:
        found = ARGUMENT.findall(ours)
        assert found or ours in NOTHING, f"{theirs}: {ours}"
        for name, default in found:
            assert name in known_names() or name in {"cpu", "gpu", "wandb"}, f"{theirs}: {name}"
            if default:
                assert is_default(name, default.strip('"`')), f"{name} ({default})"


@pytest.mark.parametrize("page", COMING_FROM, ids=lambda page: page.stem)
def test_the_pages_agree_with_what_learn_says_of_other_names(page: Path) -> None:
    for theirs, ours, conversion in rows_of_arguments(page):
        for name in re.findall(r"`-{0,2}([a-z][\w-]*?)(?:=[^`]*)?`", theirs):
            told = counterpart(name.replace("-", "_"), 4, {"num_envs": 8, "nsteps": 8, "lr": 3e-4})
            if told is None or not told.settings or name == "policy_kwargs":  # several in one
                continue
            first = next(iter(told.settings))
            assert f"`{first}" in ours, f"{name}: {first}, not {ours}"
            assert ("twice" in conversion) == (told.settings[first] == 8.0), f"{name}: {conversion}"

"""Notebooks run, and are kept with the output that they have: short, readable, without a path of the author's."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
LARGEST = 150_000
"""Bytes of a notebook: two or three pictures."""
MOST_LINES = 50
"""Lines that a cell prints: a screen."""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """tools/notebooks.py, as a module."""
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import notebooks

    yield notebooks
    sys.modules.pop("notebooks")


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> set[tuple[str, ...]]:
    """Kinds of a cell's output, each once: a kernel may send what is printed in several parts."""
    return {(output.output_type, *sorted(output.get("data", {"text": 0}))) for output in cell.outputs}


def printed(cell: Any) -> str:
    """All text of a cell's output, as it is read."""
    return "".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "") + "\n"
        for output in cell.outputs
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")  # Jupyter's own
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_has_the_output_that_is_kept(notebook: Path, tool: Any, tmp_path: Path) -> None:
    import nbformat

    kept, now = nbformat.read(notebook, as_version=4), tool.executed(notebook, tmp_path)
    assert [kinds(cell) for cell in cells(kept)] == [kinds(cell) for cell in cells(now)]
    assert not any(output.get("name") == "stderr" for cell in cells(now) for output in cell.outputs)
    assert str(tmp_path) not in nbformat.writes(now)


@pytest.mark.core
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_short_and_readable(notebook: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    assert notebook.stat().st_size <= LARGEST
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert [cell.execution_count for cell in cells(content)] == list(range(1, len(cells(content)) + 1))
    for cell in cells(content):
        text = printed(cell)
        assert len(text.splitlines()) <= MOST_LINES
        assert max(map(len, text.splitlines()), default=0) <= 200
        assert not re.search(r"[\x1b\r\x08]|/tmp/|/home/|/root/", text), text
    outputs = [output for cell in cells(content) for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)


@pytest.mark.core
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_progress_that_is_kept_is_one_table_in_its_last_state(notebook: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    tables = [
        [output for output in cell.outputs if "<progress" in output.get("data", {}).get("text/html", "")]
        for cell in cells(nbformat.read(notebook, as_version=4))
        if re.search(r"ppo2\.(learn|sweep)\(", cell.source)
    ]
    assert tables
    for shown in tables:
        (table,) = shown
        assert "100%" in table.data["text/plain"]
        assert "compiling" not in table.data["text/plain"]

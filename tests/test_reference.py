"""The table of all arguments, which tools/arguments.py writes."""

import inspect

import ppo2
from support.pages import DOCS, ROOT
from support.scripts import loaded


def test_the_table_of_arguments_is_in_step() -> None:
    """Run tools/arguments.py after a change of `Config` or of the docstring of `learn`."""
    tool = loaded(ROOT / "tools" / "arguments.py")
    page = (DOCS / "arguments.md").read_text(encoding="utf-8")
    assert tool.written(page) == page
    for name in inspect.signature(ppo2.learn).parameters:
        assert f"| `{name}` |" in page or f"| `**{name}` |" in page, name

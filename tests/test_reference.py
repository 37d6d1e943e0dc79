"""The table of all arguments, which tools/arguments.py writes."""

import importlib.util
import inspect

import ppo2
from support.pages import DOCS, ROOT


def test_the_table_of_arguments_is_in_step() -> None:
    """Run tools/arguments.py after a change of `Config` or of the docstring of `learn`."""
    spec = importlib.util.spec_from_file_location("arguments", ROOT / "tools" / "arguments.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (DOCS / "arguments.md").read_text(encoding="utf-8")
    assert tool.written(page) == page
    for name in inspect.signature(ppo2.learn).parameters:
        assert f"| `{name}` |" in page or f"| `**{name}` |" in page, name

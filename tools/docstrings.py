"""An extension of Griffe: docstrings that are completed when a module is imported appear complete in the reference.

`learn`, `sweep` and `make` list the settings of `Config` (or other arguments) in their docstrings, by a field in braces
that the decorated function fills in. Griffe reads source files, so the text is taken from the imported function here.
mkdocs.yml names this file.
"""

import importlib
import inspect
import re
from typing import Any

import griffe

FIELD = re.compile(r"^ *\{\w+\}$", re.MULTILINE)
"""A line of a docstring that stands for others."""


class CompleteDocstrings(griffe.Extension):
    """Docstrings as Python has them, where the source's has a field."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        if func.docstring is not None and FIELD.search(func.docstring.value):
            found: Any = importlib.import_module(func.module.path)
            for name in func.path[len(func.module.path) + 1 :].split("."):
                found = getattr(found, name)
            func.docstring.value = inspect.getdoc(found) or ""

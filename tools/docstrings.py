"""An extension of Griffe: the reference shows docstrings and defaults as the imported functions have them.

`learn` lists the settings of `Config` in its docstring, by a field in braces that is filled in when the module is
imported, and takes its defaults from there. Griffe reads source files, so both are looked up here. mkdocs.yml names
this file.
"""

import importlib
import inspect
import re
from typing import Any

import griffe

FIELD = re.compile(r"^ *\{\w+\}$", re.MULTILINE)
"""A line of a docstring that stands for others."""
SETTING = re.compile(r"Config\.\w+")
"""A default that is named, not written."""


class AsImported(griffe.Extension):
    """Docstrings and defaults as Python has them, where the source has names for them."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        named = [one for one in func.parameters if SETTING.fullmatch(str(one.default))]
        fields = func.docstring is not None and FIELD.search(func.docstring.value)
        if not named and not fields:
            return
        found: Any = importlib.import_module(func.module.path)
        for name in func.path[len(func.module.path) + 1 :].split("."):
            found = getattr(found, name)
        parameters = inspect.signature(found).parameters
        for one in named:
            one.default = repr(parameters[one.name].default)
        if fields and func.docstring is not None:
            func.docstring.value = inspect.getdoc(found) or ""

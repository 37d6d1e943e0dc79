"""Writes the table of all arguments of `learn` into docs/arguments.md, from the signature and the docstring.

    python tools/arguments.py

tests/test_reference.py checks that the page is in step.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import docstring_parser

import ppo2
from ppo2.cli.help import GROUPS

PAGE = Path(__file__).parents[1] / "docs" / "arguments.md"
MARKED = re.compile(r"<!-- arguments -->\n.*?<!-- end -->", re.DOTALL)
PLACES = {
    "environment": ("env_kwargs", "eval_env_kwargs"),
    "learning": ("model_fn", "callbacks", "update_fn", "init_fn"),
    "saving": ("run_dir",),
}
"""Arguments that the command line has in another form, or not at all, beside its groups of options."""


def group_of(name: str) -> str:
    found = next((group for group, names in PLACES.items() if name in names), None)
    return found or next((group for group, names in GROUPS.items() if name in names), "processes")


def lines() -> Iterator[str]:
    signature = inspect.signature(ppo2.learn)
    texts = {
        param.arg_name.lstrip("*"): param.description or ""
        for param in docstring_parser.parse(ppo2.learn.__doc__ or "").params
    }
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, parameter in signature.parameters.items():
        text = " ".join(texts[name].split()).replace("|", "\\|")
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            default, name, group = "", f"**{name}", "network"
        else:
            default = "" if parameter.default is inspect.Parameter.empty else f"`{parameter.default!r}`"
            group = group_of(name)
        groups[group].append(f"| `{name}` | {default} | {text} |")
    for group, rows in groups.items():
        if rows:
            yield from ("", f"## {group.capitalize()}", "", "| argument | default | meaning |", "|---|---|---|", *rows)


def written(page: str) -> str:
    return MARKED.sub(lambda _: "\n".join(["<!-- arguments -->", *lines(), "", "<!-- end -->"]), page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

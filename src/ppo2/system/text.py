"""Text for people and of others: lines of a terminal's width, strict JSON, characters that can't steer a terminal."""

import contextlib
import json
import logging
import math
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from ppo2.system import verbosity

LEAST_WIDTH = 20
"""Characters below which a terminal's width isn't believed."""
GAP = 3
"""Blanks between the columns of a table, where there is room."""
DEEPEST = 64
LARGEST = 2**1000  # what is larger doesn't fit a float


def parse_json(text: str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: it is no JSON, or no object; has a key twice, NaN or infinities, which are no proper JSON; or is
            nested, or has numbers, beyond all that we write.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"its JSON is no object, but {type(found).__name__}")
    _check(found, 0)
    return found


def printable(text: object) -> str:
    """Text that only shows: characters that steer a terminal, or hide, become escapes. Lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in str(text))


def human_bytes(count: float) -> str:
    """A number of bytes, for a person."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def plural(noun: str, count: int) -> str:
    """A noun after its number."""
    return noun if count == 1 else f"{noun}{'es' if noun.endswith('tch') else 's'}"


def screen_width(stream: TextIO | None) -> int | None:
    """Characters in a line of the terminal that a stream writes to; None where it writes to none."""
    try:
        if stream is None or not stream.isatty():
            return None
        given = os.environ.get("COLUMNS", "")
        columns = int(given) if given.isdecimal() else os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # closed, or a stream without a file
        return None
    return columns if columns >= LEAST_WIDTH else None


def fitting_widths(columns: Sequence[Sequence[str]], width: int) -> tuple[list[int], int]:
    """The widths of a table's columns, whose headers are their first cells, and the gap between them.

    Where it is wider than a terminal, headers are cut before what is below them, and then the longest cells.
    """
    widths, gap = [max(map(len, column)) for column in columns], GAP
    if sum(widths) + gap * (len(columns) - 1) <= width:
        return widths, gap
    below, room = [max(map(len, column[1:]), default=1) for column in columns], width - (len(columns) - 1)
    while sum(widths) > room and max(widths) > 1:
        with_header = [i for i, least in enumerate(below) if widths[i] > max(1, least)]
        longest = max(with_header or range(len(widths)), key=widths.__getitem__)
        widths[longest] -= 1
    return widths, 1


def for_screen(text: object, stream: TextIO | None = None) -> str:
    """`printable` text whose lines break at blanks.

    Later parts of a line begin under its text, behind a label and two blanks or more, if it has one.

    Args:
        stream: the stream to print on, None for standard output. Lines stay whole where it is no terminal.
    """
    shown, width = printable(text), screen_width(sys.stdout if stream is None else stream)
    if width is None:
        return shown
    return "\n".join(_wrapped(line, width) for line in shown.split("\n"))


def _wrapped(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    start = re.match(r"\s*(\S+ {2,})?", line)
    indent = 0 if start is None or start.end() > width // 2 else start.end()
    wrapper = textwrap.TextWrapper(
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return wrapper.fill(line)


def install_command(extra: str) -> str:
    """The command that adds an extra of ours: pip keeps the package that is there, whatever it was installed from."""
    return f"pip install 'ppo2[{extra}]'"


def as_options(env_kwargs: Mapping[str, Any]) -> str:
    """Arguments of an environment as options of the command line, for a shell, with a blank before each."""
    return "".join(f" --env.{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in env_kwargs.items())


def say_error(words: object, *, prefix: str = "ppo2: ", level: int = logging.WARNING) -> None:
    """Prints a message on standard error, as `for_screen` has it, if it can be written there; in a call that is quiet
    (`verbose=0`) it goes to `logging` instead. A process that works for another hands it on (`verbosity.keeping`).

    Messages that belong to a run's log are its display's (`ppo2.reporting.display`).

    Args:
        level: the level that `logging` gives it.
    """
    if (kept := verbosity.kept()) is not None:
        kept.append(verbosity.Message(str(words), prefix, level))
        return
    if verbosity.is_quiet():
        verbosity.log(printable(f"{prefix}{words}".removeprefix("ppo2: ")), level)
        return
    with contextlib.suppress(OSError, ValueError):  # a full disk; a file that was closed
        print(for_screen(f"{prefix}{words}", sys.stderr), file=sys.stderr, flush=True)


def say_kept(messages: Iterable[verbosity.Message]) -> None:
    """Says what another process has kept: see `verbosity.keeping`."""
    for message in messages:
        say_error(message.words, prefix=message.prefix, level=message.level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its JSON has a key twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"its JSON has {name}, which is no number")


def _check(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("its JSON is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):  # written as 1e999
        raise ValueError("its JSON has a number beyond all floats")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError("its JSON has a whole number beyond all that we write")

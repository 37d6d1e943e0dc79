"""Printing, and the start of JAX, as all commands do them.

The modules of the command line import what is slow (JAX, Gymnasium, the environments) inside the functions that need
it, so that help is printed at once.
"""

import math
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ppo2.system.text import for_screen, printable, screen_width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

HEADING = "Traceback (most recent call last):"


def shown(value: Any) -> str:
    """A setting in few characters: 3e-4 stays 0.0003, 1000000.0 is 1,000,000."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return printable(value)
    return f"{int(value):,}" if value == int(value) and abs(value) >= 1000 else f"{value:g}"


def say(text: str) -> None:
    """Prints text that may hold names of others; of several processes that joined only the first does."""
    from ppo2.distributed import processes

    if processes.is_first():
        print(for_screen(text), flush=True)


def environment_traceback(error: BaseException) -> str | None:
    """The traceback of an error in the code of an environment, from there on; None if it came from elsewhere.

    That is where the last of our own frames is in `ppo2.envs`, which called it. A traceback of another process is in
    the error's notes, one of earlier failures in its text.
    """
    from ppo2.envs.host.constructors import ConstructorError

    if isinstance(error, ConstructorError) and error.__cause__ is not None:
        error = error.__cause__
    frames = []
    at = error.__traceback__
    while at is not None:
        frames.append(at)
        at = at.tb_next
    ours = [i for i, frame in enumerate(frames) if _is_ours(frame.tb_frame.f_code.co_filename)]
    if ours and ours[-1] < len(frames) - 1:
        if not _is_ours(frames[ours[-1]].tb_frame.f_code.co_filename, "envs"):
            return None
        return "".join(traceback.format_exception(type(error), error, frames[ours[-1] + 1], chain=False)).rstrip()
    for text in (*getattr(error, "__notes__", ()), str(error)):
        start, files = text.find(HEADING), re.findall(r'^  File "(.+?)", line', text, re.MULTILINE)
        if start >= 0 and files and not _is_ours(files[-1]):
            return str(text[start:]).rstrip()
    return None


def _is_ours(file: str, *folder: str) -> bool:
    """True for a file of this package, or of a folder in it."""
    import ppo2

    return file.startswith(os.path.join(os.path.dirname(ppo2.__file__), *folder, ""))


def console() -> "Console":
    """A console for tables, which takes text as it is; lines are of a fixed width where nobody watches."""
    from rich.console import Console

    width = None if screen_width(sys.stdout) else 100
    return Console(markup=False, highlight=False, emoji=False, width=width)


def write_line(screen: "Console", text: "str | Text", style: str = "") -> None:
    """Writes text, which breaks at blanks on a terminal and stays whole elsewhere."""
    screen.print(text, style=style, soft_wrap=not screen.is_terminal)


def table(names: Iterable[str], rows: Iterable[Sequence[str]]) -> "Table":
    """A table of text, aligned on the right; a column without a name is on the left. Long cells are broken."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in names:
        made.add_column(Text(name), justify="right" if name else "left")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def start_jax(device: str) -> None:
    """Makes JAX's settings for short programs on CPU, unless it has started already (`main` called from Python).

    Args:
        device: option of the command; "cpu" leaves other devices alone.
    """
    from ppo2.system import runtime

    runtime.leave_accelerators(device)
    runtime.begin()


def start_processes(*, device: str, heartbeat: float, debug: bool) -> None:
    """Starts JAX as `start_jax` does, and joins the other processes of a job, if there are any.

    Args:
        device: see `start_jax`.
        heartbeat: see `distributed.init`.
        debug: an error of this process that ends the job is shown with its traceback.
    """
    from ppo2 import distributed
    from ppo2.distributed.heartbeat import current

    start_jax(device)
    distributed.init(heartbeat=heartbeat)
    current().shows_tracebacks = debug

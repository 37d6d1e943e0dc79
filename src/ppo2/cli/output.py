"""What all commands share: numbers as people write them, tables, and the start of JAX."""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from ppo2 import distributed
from ppo2.distributed import processes
from ppo2.distributed.heartbeat import current
from ppo2.system.runtime import configure_runtime
from ppo2.system.text import printable

if TYPE_CHECKING:
    from rich.console import Console


def shown(value: Any) -> str:
    """A setting in few characters: 3e-4 stays 0.0003, 1000000.0 is 1,000,000."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return printable(value)
    return f"{int(value):,}" if value == int(value) and abs(value) >= 1000 else f"{value:g}"


def say(text: str, *, to_error: bool = False) -> None:
    """Prints what may hold names and texts of others; of several processes that joined only the first does."""
    if not to_error and not processes.is_first():
        return
    print(printable(text), file=sys.stderr if to_error else sys.stdout, flush=True)


def console() -> "Console":
    """For tables. Takes text as it is; where nobody watches, lines are of a fixed width."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 100
    return Console(markup=False, highlight=False, emoji=False, width=width)


def start_jax() -> None:
    """Settings for short programs on CPU, unless JAX has started already (as where `main` is called from Python)."""
    with contextlib.suppress(RuntimeError):
        configure_runtime()


def start_processes(*, heartbeat: float = processes.HEARTBEAT_SECONDS, debug: bool = False) -> None:
    """`start_jax`, and joins the other processes of a job, if there are any.

    Args:
        heartbeat: see `distributed.init`.
        debug: an error of this process that ends the job is shown with its traceback.
    """
    start_jax()
    distributed.init(heartbeat=heartbeat)
    current().shows_tracebacks = debug

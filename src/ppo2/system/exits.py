"""Ending this process where its job has failed, whatever its main thread does."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

FAILED = 75
"""The exit status of a process whose job failed: sysexits' EX_TEMPFAIL, "try again"."""

DIED = "died without a word: killed, or out of memory?"


def advised(words: str) -> str:
    """Words of why all end, and what to do."""
    stop = "" if words.endswith((".", "?")) else "."
    return f"{words}{stop} All processes of this job end; started again, it can go on from its last checkpoint."


EXIT_HOOKS: set[Callable[[], object]] = set()
"""What is done when this process is ended without Python's ways: the terminal put back, other processes killed."""

TRACEBACK: list[str] = []
"""What this process says before it is ended: the traceback of its own error."""

_ENDING = threading.Lock()


def end(words: str | None, status: int = FAILED) -> NoReturn:
    """Ends this process, whatever its main thread does."""
    if not _ENDING.acquire(blocking=False):  # another thread is at it
        time.sleep(60.0)
    said = "".join(TRACEBACK) + ("" if words is None else f"ppo2: {words}\n")
    for acts in ([lambda: os.write(2, said.encode())], [*EXIT_HOOKS, sys.stdout.flush]):
        acting = threading.Thread(target=_act, args=(acts,), daemon=True)  # whoever reads them may have stopped
        acting.start()
        acting.join(1.0)
    os._exit(status)


def _act(acts: Iterable[Callable[[], object]]) -> None:
    for act in acts:
        with contextlib.suppress(Exception):
            act()

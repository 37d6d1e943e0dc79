"""The end of this process where its main thread can't end it: its job has failed, or a signal wasn't obeyed."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

FAILED = 75
"""Exit status of a process whose job failed: EX_TEMPFAIL of sysexits.h, "try again"."""

ACTION_SECONDS = 0.5
"""Time that each last action may take: whoever reads the terminal may have stopped."""

Action = Callable[[], object]

EXIT_HOOKS: set[Action] = set()
"""Last actions of a process that ends without Python's own ways: put the terminal back, kill workers."""

_ENDING = threading.Lock()


def end(words: str | None, status: int = FAILED, *first: Action) -> NoReturn:
    """Ends this process, whatever its main thread does, after its last actions.

    Args:
        words: printed on standard error.
        first: actions that come before the others.
    """
    if not _ENDING.acquire(blocking=False):  # another thread ends it
        time.sleep(60.0)
    said = b"" if words is None else f"ppo2: {words}\n".encode()
    for action in (*first, *EXIT_HOOKS, sys.stdout.flush, lambda: os.write(2, said)):
        thread = threading.Thread(target=_try, args=(action,), daemon=True)
        thread.start()
        thread.join(ACTION_SECONDS)
    os._exit(status)


def _try(action: Action) -> None:
    with contextlib.suppress(Exception):
        action()

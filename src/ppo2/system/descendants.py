"""Processes that environments started: none is left behind where this process ends early. Linux tells of them."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ppo2.system.exits import EXIT_HOOKS

END_SECONDS = 1.0
"""Seconds that a process has to end by itself, after SIGTERM."""


def children() -> set[int]:
    """The processes that this one started and that run; none where the system doesn't tell."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):  # a thread that has just ended
            found.update(map(int, file.read_text().split()))
    return found


def terminate(pids: Iterable[int]) -> None:
    """Sends SIGTERM to processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def end(pids: set[int]) -> None:
    """Ends child processes: by SIGTERM, and by SIGKILL those that are there a second later."""
    terminate(pids)
    deadline = time.monotonic() + END_SECONDS
    while pids and time.monotonic() < deadline:
        pids = {pid for pid in pids if not _has_ended(pid)}
        time.sleep(0.01)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


@contextlib.contextmanager
def none_left_on_error() -> Iterator[set[int]]:
    """Context that makes environments: where a signal breaks it off, the processes that were started in it are ended.

    Yields:
        A set that has these processes in the end.
    """
    before, hooks, started = children(), set(EXIT_HOOKS), set[int]()
    try:
        yield started
    except Exception:
        raise
    except BaseException:  # an interrupt
        for let_go in EXIT_HOOKS - hooks:  # workers end the processes of their environments themselves
            let_go()
        end(children() - before)
        raise
    started |= children() - before

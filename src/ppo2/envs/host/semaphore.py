"""Semaphores between the processes that step environments; light, as a worker opens them before anything else.

`_multiprocessing.SemLock` is a private name. The public `multiprocessing.Semaphore`, which is made of it, can only be
handed to processes that `multiprocessing` starts, and those import the program's main module. Other public ways were
slower: a round trip between two processes that spin, with 20 microseconds of work between, took 22 microseconds with
these semaphores, 25 with an eventfd and 28 with pipes, where a step of 4 CartPoles takes 25.
"""

import _multiprocessing
import contextlib
import os
import time
import uuid
from collections.abc import Callable

SEMAPHORE = 1
"""The kind of a SemLock, as in multiprocessing.synchronize."""
MAX_VALUE = 2
"""Commands that may wait for a worker: one for each group."""
SPIN_SECONDS = 2e-4
"""Time to spin before sleeping: a process that sleeps wakes up late."""
CHECK_SECONDS = 0.2
"""Time between two calls of `check` while asleep."""
YIELD: Callable[[], None] = getattr(os, "sched_yield", lambda: None)
"""Lets others have this processor, if they wait for it: on a busy machine, the process whose release is waited for."""


class Semaphore:
    """A semaphore that one process releases and another acquires. It orders memory: earlier writes are seen.

    Args:
        name: name of a semaphore that another process made; None makes one.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"/ppo2-{uuid.uuid4().hex[:12]}"
        if name is None:
            self._lock = _multiprocessing.SemLock(SEMAPHORE, 0, MAX_VALUE, self.name, False)
        else:
            self._lock = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, MAX_VALUE, name)

    def unlink(self) -> None:
        """Removes the name once both processes hold the semaphore, so that nothing is left behind however they end."""
        with contextlib.suppress(FileNotFoundError):  # the other process was first
            _multiprocessing.sem_unlink(self.name)

    def release(self) -> None:
        self._lock.release()

    def acquire(self, *, spin: bool, check: Callable[[], None] = lambda: None) -> None:
        """Waits for a release: spins for a while, then sleeps.

        Args:
            spin: True if there is a processor to spin on.
            check: called every CHECK_SECONDS; raises to give up.
        """
        acquire = self._lock.acquire
        if spin:
            until = time.perf_counter() + SPIN_SECONDS
            while time.perf_counter() < until:
                for _ in range(32):
                    if acquire(False):
                        return
                YIELD()
        while not acquire(True, CHECK_SECONDS):
            check()

"""Signals between the processes that step environments; light, as a worker holds them before anything else."""

import _multiprocessing
import contextlib
import time
import uuid
from collections.abc import Callable

SEMAPHORE = 1  # the kind, as in multiprocessing.synchronize
SPIN_SECONDS = 2e-4
CHECK_SECONDS = 0.2
MAX_VALUE = 2  # commands that may wait for a worker: one for each group


class Semaphore:
    """A semaphore that one process raises and another waits for. It orders memory: what was written before is seen.

    Args:
        name: of one that another process made; None makes one.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or f"/ppo2-{uuid.uuid4().hex[:12]}"
        if name is None:
            self._lock = _multiprocessing.SemLock(SEMAPHORE, 0, MAX_VALUE, self.name, False)
        else:
            self._lock = _multiprocessing.SemLock._rebuild(0, SEMAPHORE, MAX_VALUE, name)

    def unlink(self) -> None:
        """Takes the name away, once both processes hold it: nothing is left behind then, however they end."""
        with contextlib.suppress(FileNotFoundError):  # the other one was first
            _multiprocessing.sem_unlink(self.name)

    def release(self) -> None:
        self._lock.release()

    def acquire(self, *, spin: bool, check: Callable[[], None]) -> None:
        """Returns when it was given: spins for a while (a process that sleeps wakes up late), then sleeps.

        Args:
            spin: whether there is a processor for it.
            check: called every CHECK_SECONDS; raises to give up.
        """
        acquire = self._lock.acquire
        if spin:
            until = time.perf_counter() + SPIN_SECONDS
            while time.perf_counter() < until:
                for _ in range(32):
                    if acquire(False):
                        return
        while not acquire(True, CHECK_SECONDS):
            check()

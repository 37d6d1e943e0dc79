"""Semaphores between processes."""

import itertools
import time

import pytest

from ppo2.envs.host.semaphore import SPIN_SECONDS, Semaphore


def test_a_semaphore_orders_and_waits() -> None:
    mine = Semaphore()
    theirs = Semaphore(mine.name)
    mine.unlink()
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        mine.release()

    theirs.acquire(spin=False, check=look)
    assert looks == [1]
    theirs.release()
    mine.acquire(spin=True, check=lambda: pytest.fail("it was given"))


def test_spinning_is_left_out_more_and_more_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures at waits 1, 2, 5 and 12 leave out 0, 2, 6 and 14 of those that follow; a success takes one back."""
    tries: list[bool] = []
    comes_in_time = False

    class Lock:
        def acquire(self, block: bool, _seconds: float = 0.0) -> bool:
            tries.append(block)
            return block or comes_in_time

    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * SPIN_SECONDS / 3)
    semaphore = Semaphore()
    semaphore.unlink()
    semaphore._lock = Lock()

    def spins(waits: int) -> list[int]:
        found = []
        for wait in range(1, waits + 1):
            tries.clear()
            semaphore.acquire(spin=True)
            found += [wait] if len(tries) > 2 else []
        return found

    assert spins(26) == [1, 2, 5, 12]
    comes_in_time = True
    assert spins(3) == [] and tries == [False]  # with the first look
    comes_in_time = False
    assert spins(9) == [1, 4]  # each of the three took one failure back, of four: now the second, which leaves out 2

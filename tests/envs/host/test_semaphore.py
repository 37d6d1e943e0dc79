"""Semaphores between processes."""

import pytest

from ppo2.envs.host.semaphore import Semaphore


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

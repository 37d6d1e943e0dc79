"""Room on Python's stack."""

import inspect
from collections.abc import Callable

import pytest

from ppo2.system.python_stack import with_room

TIMES = 100


def call_at_each_depth(leaf: Callable[[], None], depth: int = 300) -> None:
    for _ in range(TIMES):
        leaf()
    if depth:
        call_at_each_depth(leaf, depth - 1)


def test_no_call_at_whatever_depth_takes_a_page_of_memory_each_time() -> None:
    resource = pytest.importorskip("resource")

    def faults() -> int:
        found: int = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        return found

    before = faults()
    with_room(call_at_each_depth)(lambda: None)
    assert faults() - before < TIMES


def test_it_is_called_as_before() -> None:
    def divided(a: int, *, by: int = 2) -> int:
        """Halves."""
        return a // by

    roomy = with_room(divided)
    assert (roomy(6), roomy(6, by=3)) == (3, 2)
    assert (inspect.signature(roomy), roomy.__doc__) == (inspect.signature(divided), "Halves.")
    with pytest.raises(ZeroDivisionError):
        roomy(1, by=0)

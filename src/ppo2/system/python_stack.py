"""Room on Python's stack, so that no call within waits for memory."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

ROOM = 2**14
"""Values that Python makes room for at once: 128 kB, of which memory is only taken for those that are used."""


def with_room(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with the local variables of the calls within, and of those that they make, in one piece of memory.

    CPython up to 3.13 maps pieces of 16 kB for them, and gives each back as soon as it is left: a call that happens to
    lie at an edge takes 5.4 instead of 0.2 microseconds each time. A start came to 4,500 such calls, which were 4 % of
    it. A piece is larger where a single call needs more, so this one says that it does.
    """

    def roomy(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(*args, **kwargs)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=ROOM)
    return functools.wraps(function)(roomy)

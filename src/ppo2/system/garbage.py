"""Python's search for garbage, put off while programs are made: nearly all that they are made of stays."""

import contextlib
import gc
from collections.abc import Iterator

MANY = 10_000
"""New objects from which on the first search after a pause would take milliseconds."""


@contextlib.contextmanager
def collection_put_off() -> Iterator[None]:
    """Context, or decorator, in which Python doesn't search for garbage (objects that only hold one another).

    Importing JAX and tracing a program make objects by the hundred thousand that stay; to look through them again and
    again takes a tenth of a start. Where many were made they count as old afterwards, as if they had been looked
    through: the next search is that of a program that has run for a while. What the user has set stays: nothing is done
    where the search is switched off, and objects that were frozen remain so.
    """
    if not gc.isenabled():
        yield
        return
    before = gc.get_count()[0]
    gc.disable()
    try:
        yield
    finally:
        if gc.get_count()[0] - before > MANY and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        gc.enable()

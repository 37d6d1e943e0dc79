"""`update_fn`: the user's function that is called after each update."""

import inspect
from collections.abc import Callable
from typing import Any

from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import collectives, heartbeat
from ppo2.training.construction import check_callable
from ppo2.training.loop import Task
from ppo2.training.setup import Setup

UPDATE_ARGUMENTS = ("update", "model", "stats")
"""Arguments of `update_fn`, of which it gets as many as it takes."""


class UpdateFunction(Task):
    """Calls the user's `update_fn` after every update, last of all tasks; None in processes that have none.

    Raises:
        TypeError: it is no function, or can't be called with these arguments alone.
    """

    interval = 1

    def __init__(self, function: Callable[..., Any] | None) -> None:
        check_callable(update_fn=function)
        self._function, self._taken = function, _positional_count(function)
        # some may only be called in one process
        self.any = any(collectives.all_gather(function is not None))

    def begin(self, setup: Setup) -> None:
        """Takes note of the training that it is called in."""
        self._setup = setup

    def run(self, update: int, stats: UpdateStats) -> bool:
        """See `Task`. True where the function of any process wants no more.

        Raises:
            TypeError: it returned neither None nor a boolean.
        """
        enough = False
        if self._function is not None:
            self._setup.logger.settle()  # it may look into the file
            arguments = (update, self._setup.model, self._setup.filled(update, stats))
            with heartbeat.allow_pause():
                enough = not _goes_on(self._function(*arguments[: self._taken]))
        enough = any(collectives.all_gather(enough))
        if enough:
            self._setup.stop("stopped by update_fn", update)
        return enough


def _goes_on(answer: Any) -> bool:
    """The answer of an `update_fn`: None goes on; a boolean of Python, NumPy or JAX (one number) says it."""
    if answer is None or isinstance(answer, bool):
        return answer is not False
    if getattr(answer, "shape", None) == () and getattr(answer, "dtype", None) == "bool":
        return bool(answer)
    raise TypeError(
        f"`update_fn` returned {answer!r}, of type {type(answer).__name__}; it must return None or True to continue, "
        "or False to stop. End it with `return False` only where training should stop, and without a value elsewhere."
    )


def _positional_count(function: Callable[..., Any] | None) -> int:
    """The number of arguments that an `update_fn` gets, by position.

    Raises:
        TypeError: it can't be called with these alone.
    """
    most = len(UPDATE_ARGUMENTS)
    if function is None:
        return 0
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled code that tells nothing of its arguments
        return most
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    by_position = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    taken = most if inspect.Parameter.VAR_POSITIONAL in kinds else min(by_position, most)
    try:
        signature.bind(*UPDATE_ARGUMENTS[:taken])
    except TypeError as error:
        raise TypeError(
            f"`update_fn` (={function!r}) is called as update_fn(update[, model[, stats]]), with as many of them as it "
            f"takes, but its signature is {signature} ({error}): give what else it needs by functools.partial."
        ) from None
    return taken

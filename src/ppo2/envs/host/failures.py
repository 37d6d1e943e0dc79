"""Failures of environments: each one is reported, and too many within a short time end training."""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

from gymnasium.error import ClosedEnvironmentError

from ppo2.system.text import say_error

MAX_FAILURES = 3
"""Failures within WINDOW_SECONDS that training survives."""
WINDOW_SECONDS = 60.0
"""Length of the window in which failures are counted."""
FIRST_STEPS = 10
"""Steps of a vector environment in which an error isn't survived: it is a mistake, which making anew won't fix."""


class EnvFailure(NamedTuple):
    """Index of an environment that failed, and its traceback or the reason as text.

    `error` is what it raised; None if it hung, ended the program or was lost with its process.
    """

    env: int
    text: str
    error: Exception | None = None


class ContractError(ValueError):
    """An environment returned what its spaces or its masks rule out: an error that making it anew would not fix."""


class DifferentSpacesError(ContractError, RuntimeError):
    """Environments that should be alike have different spaces; a RuntimeError, as of Gymnasium's vectors."""


class ClosedError(ClosedEnvironmentError, RuntimeError):
    """Environments were used after they were closed."""


class EnvironmentFailureError(RuntimeError):
    """Environments failed too often; the message ends with the last traceback."""


class FailureWindow:
    """Counter of failures: `total` of all, `recent` of those in the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self.total = self.recent = 0
        self._times: list[float] = []

    def add(self) -> bool:
        """Counts one more failure; True if that makes more than MAX_FAILURES within WINDOW_SECONDS."""
        now = time.monotonic()
        self._times = [*(before for before in self._times if now - before <= WINDOW_SECONDS), now]
        self.total, self.recent = self.total + 1, len(self._times)
        return self.recent > MAX_FAILURES


class FailureLog:
    """Reports failures on standard error, the same text in full only once, and raises when there are too many.

    Args:
        first: index, for messages, of the environment that failures call number 0.
        first_steps: steps in which errors are raised instead.

    Attributes:
        changed: True if something was called or set in environments, which is lost where one is made anew.
    """

    def __init__(self, first: int = 0, first_steps: int = FIRST_STEPS) -> None:
        self._first, self._first_steps, self.changed = first, first_steps, False
        self._window = FailureWindow()
        self._reported: set[str] = set()

    @property
    def total(self) -> int:
        """Number of all failures."""
        return self._window.total

    def note(self, failures: Iterable[EnvFailure], steps: float = math.inf) -> None:
        """Counts and reports failures, `steps` after the environments were made.

        Raises:
            EnvironmentFailureError: more than MAX_FAILURES within WINDOW_SECONDS.
            Exception: what an environment raised, in the first steps.
        """
        for failure in failures:
            env = self._first + failure.env
            if failure.error is not None and steps < self._first_steps:
                failure.error.add_note(
                    f"ppo2: environment {env} raised it within the first {self._first_steps} steps, where it is taken "
                    "for a mistake; later, an environment that fails now and then is made anew."
                )
                raise failure.error
            if self._window.add():
                raise EnvironmentFailureError(
                    f"environment {env} failed, after {self._window.total - 1} failures before, {self._window.recent} "
                    f"of all in the last {WINDOW_SECONDS:.0f} seconds. Fix the environment; its last words:\n"
                    f"{failure.text}"
                ) from failure.error
            last_line = failure.text.strip().rpartition("\n")[2]
            again = last_line in self._reported
            self._reported.add(last_line)
            how = " (without what call() or set_attr() changed in it)" if self.changed else ""
            words = f" again and begins anew{how}: {last_line}" if again else f" and begins anew{how}:\n{failure.text}"
            say_error(f"environment {env} failed{words}")

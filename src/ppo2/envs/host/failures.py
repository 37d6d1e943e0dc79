"""What to do about environments that fail: tell it once, go on, and give up when it goes on and on."""

import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ppo2.system.text import printable

MAX_FAILURES, WINDOW_SECONDS = 3, 60.0
"""More failures than this in so many seconds end training."""


class EnvFailure(NamedTuple):
    """An environment that failed: its index, and what it said."""

    env: int
    text: str


class ContractError(ValueError):
    """An environment gives what it declared otherwise: no failure that beginning anew could mend."""


class EnvironmentFailureError(RuntimeError):
    """Environments failed too often; the message has the last one's traceback."""


class FailureWindow:
    """Counts what may go wrong now and then: `recent`, of the last WINDOW seconds; and `total`."""

    def __init__(self) -> None:
        self.total = 0
        self._times: deque[float] = deque()

    def add(self) -> bool:
        """Counts one more; whether that makes more than MOST within WINDOW seconds."""
        now = time.monotonic()
        self.total += 1
        self._times.append(now)
        while now - self._times[0] > WINDOW_SECONDS:
            self._times.popleft()
        return self.recent > MAX_FAILURES

    @property
    def recent(self) -> int:
        return len(self._times)


class FailureLog:
    """Counts failures.

    Args:
        first: the index, for messages, of the environment that failures call number 0.

    Raises (`note`, `fatal`):
        EnvironmentFailureError: there were more than MOST of them within WINDOW seconds.
    """

    def __init__(self, first: int = 0) -> None:
        self._first = first
        self._window = FailureWindow()
        self._told: set[str] = set()

    @property
    def total(self) -> int:
        return self._window.total

    def note(self, failures: Iterable[EnvFailure]) -> None:
        for failure in failures:
            if self._window.add():
                raise self.fatal(failure)
            env = self._first + failure.env
            last = failure.text.strip().rpartition("\n")[2]
            if last not in self._told:  # the whole of it once
                self._told.add(last)
                text = printable(failure.text)
                print(f"ppo2: environment {env} failed and begins anew:\n{text}", file=sys.stderr)
            else:
                again = f"failed again and begins anew: {printable(last)}"
                print(f"ppo2: environment {env} {again}", file=sys.stderr)

    def fatal(self, failure: EnvFailure) -> EnvironmentFailureError:
        return EnvironmentFailureError(
            f"environment {self._first + failure.env} failed, after {self.total - 1} failures before, "
            f"{self._window.recent} of all in the last {WINDOW_SECONDS:.0f} seconds. Mend the environment; its last "
            f"words:\n{failure.text}"
        )

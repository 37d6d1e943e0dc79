"""The interface of workers, each of which steps a slice of every group, and the worker that is this process."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from ppo2.envs.host.failures import EnvFailure
from ppo2.envs.host.serial_envs import SerialEnvs
from ppo2.envs.host.watchdog import WATCHDOG, StepWatch
from ppo2.envs.host.worker_loop import REQUESTS


class WorkerResult(NamedTuple):
    """Outcome of a worker's step of a group, beside what is in the buffers.

    Attributes:
        ended: True if an episode ended.
        failures: environments that failed.
    """

    ended: bool
    failures: list[EnvFailure]


class Worker(Protocol):
    """Steps a slice of each group's environments. Every step that is started must be finished."""

    def start(self, group: int, actions: Iterable[Any] | None = None) -> None:
        """Starts a step; `actions` one by one, or None: those in the buffers. Process workers know only the latter."""

    def finish(self, group: int) -> WorkerResult:
        """Waits for the step's end."""

    def ask(self, group: int, request: int, argument: Any, patience: float = 1.0) -> None:
        """Makes one of `REQUESTS`; each environment may take `patience` times as long as for a step."""

    def answer(self, group: int) -> Any:
        """Waits for the answer to the request."""

    def close(self) -> None:
        """Closes the environments."""


class LocalWorker:
    """A worker in this process, which steps its environments when it is asked to finish.

    Args:
        groups: its environments of each group.
        timeout: seconds that a step or reset of one environment may take; see `Watchdog`.
    """

    def __init__(self, groups: Sequence[SerialEnvs], timeout: float) -> None:
        self.groups = groups
        self._actions: list[Iterable[Any] | None] = [None] * len(groups)
        self._answers: list[Any] = [None] * len(groups)
        self._timeout = timeout
        self._watch = StepWatch(timeout)
        for envs in groups:
            envs.current = self._watch.current
        WATCHDOG.add(self._watch)

    def start(self, group: int, actions: Iterable[Any] | None = None) -> None:
        self._actions[group] = actions

    def finish(self, group: int) -> WorkerResult:
        envs = self.groups[group]
        with self._watch:
            return WorkerResult(envs.step(self._actions[group]), envs.failures)

    def ask(self, group: int, request: int, argument: Any, patience: float = 1.0) -> None:
        self._watch.timeout = self._timeout * patience
        try:
            with self._watch:
                self._answers[group] = REQUESTS[request](self.groups[group], argument)
        finally:
            self._watch.timeout = self._timeout

    def answer(self, group: int) -> Any:
        return self._answers[group]

    def close(self) -> None:
        WATCHDOG.remove(self._watch)
        for envs in self.groups:
            envs.close()

"""Requests to the environments of a vector environment between steps: Gymnasium's interface beside reset and step."""

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

from gymnasium.error import AlreadyPendingCallError
from gymnasium.vector import VectorEnv

from ppo2.envs.host.attributes import Assignment, Call, check_callable, values_for
from ppo2.envs.host.failures import ClosedError, FailureLog
from ppo2.envs.host.process_worker import WorkerLostError
from ppo2.envs.host.replay import State
from ppo2.envs.host.vector_arguments import refuse_observation_wrapper
from ppo2.envs.host.worker_pool import WorkerPool


class VectorRequests(VectorEnv[Any, Any, Any]):
    """Methods and attributes of environments wherever they are, and the end of them all.

    Attributes:
        failures: reports failures and raises when there are too many.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.failures = FailureLog()
        self._pool = pool
        self._can_step = False
        self._started: set[int] = set()  # groups that wait for `finish`

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every environment, or reads an attribute; wrappers are asked before what they wrap.

        An environment that fails later is made anew without what this changed, which its report says.

        Raises:
            ValueError: `reset`, `step` or `close`, which the vector environment has itself.
            Exception: the first that an environment raised; which has not failed by that.
        """
        check_callable(name)
        self.failures.changed |= name != "render"
        return self._ask("call", lambda _: Call(name, args, kwargs))

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every environment; of one in a worker a copy."""
        check_callable(name)
        return self._ask("call", lambda _: Call(name))

    def set_attr(self, name: str, values: Any) -> None:
        """Sets an attribute of every environment: a list or tuple has one value for each, else one is for all."""
        values = values_for(name, values, self.num_envs)
        self.failures.changed = True
        self._ask("set_attr", lambda rows: Assignment(name, values[rows]))

    def _ask(self, method: str, argument: Callable[[slice], Any]) -> tuple[Any, ...]:
        """Answers of all environments to a request between two steps."""
        self._check_open()
        if self._started:
            raise AlreadyPendingCallError("a step was started: call finish() first.", "step")
        could_step, self._can_step = self._can_step, False  # until all have answered
        if not could_step:
            self._pool.make_ready()
        try:
            answers = self._pool.ask(method, argument, patience=math.inf)
        except WorkerLostError:
            raise
        except Exception:
            self._can_step = could_step
            raise
        self._can_step = could_step
        return tuple(itertools.chain(*(answer or () for answer in answers.values())))

    def render(self) -> tuple[Any, ...] | None:
        """Frames of all environments."""
        return self.call("render")

    @property
    def np_random_seed(self) -> Any:
        """The seeds of the environments' random numbers; -1: unknown."""
        return self.get_attr("np_random_seed")

    @property  # type: ignore[misc]  # as in Gymnasium's own, nobody sets it
    def np_random(self) -> Any:
        """The environments' generators of random numbers; of one in a worker a copy."""
        return self.get_attr("np_random")

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of an environment, with the autoreset mode; wrappers that can't work with it are refused."""
        refuse_observation_wrapper(sys._getframe(1))
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any]) -> None:
        self._metadata = metadata

    def save_states(self) -> list[State | None]:
        """States of the environments that can save them (see `SavableEnv`); None for the others."""
        states: list[State | None] = [None] * self.num_envs
        for first, some in self._pool.ask("save_states", lambda _: None).items():
            states[first : first + len(some)] = some
        return states

    def _make_ready(self) -> None:
        self._check_open()
        self._can_step = False
        self._started.clear()
        self._pool.make_ready()

    def close_extras(self, **_: Any) -> None:
        self._can_step = False
        self._pool.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("these environments were closed; make new ones.")

"""An actor of Ray, which steps a part of the environments and returns their rollouts."""

import importlib
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.agent.copies import ActorWeights, set_weights
from ppo2.agent.pickling import unpacked
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.envs.host import registrations
from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.runners.episodes import Ended
from ppo2.runners.host import Runner
from ppo2.runners.protocol import Seconds
from ppo2.runners.snapshot import Snapshot
from ppo2.system import verbosity


class RolloutPart(NamedTuple):
    """An actor's answer: its environments' part of a rollout, as arrays of the host; and its messages for people."""

    rollout: Rollout
    ended: Ended
    seconds: Seconds
    told: list[verbosity.Message]


class ActorLocation(NamedTuple):
    """The node and host of an actor."""

    node: str
    host: str


class RolloutActor:
    """An actor: a `Runner` over some of the environments, with a copy of the policy.

    Everything that may fail is in its methods, as Ray wraps the error of a constructor beyond recognition.
    """

    def begin(self, envs: RemoteEnvs, pickled: bytes, number: int, settings: Mapping[str, Any]) -> ActorLocation:
        """Makes the environments and the policy.

        Args:
            pickled: what is registered where `learn` was called, and the policy as a `ModelTemplate`.
            settings: for `Runner`.

        Raises:
            ValueError: the environments have other spaces here.
        """
        registered, template = unpacked(pickled)
        registrations.take_up(registered)
        env, first = envs.part(), number * envs.each
        for name in ("single_observation_space", "single_action_space"):
            here, there = getattr(env, name), getattr(envs, name)
            if here != there:
                raise ValueError(
                    f"`env` has the {name} {here} on {socket.gethostname()}, but {there} where `learn` was called: "
                    "install the same versions on all hosts."
                )
        env.failures = FailureLog(first)
        self._env, self._runner = env, Runner(env=env, model=template.build(), first=first, **settings)
        ray: Any = importlib.import_module("ray")
        return ActorLocation(node=ray.get_runtime_context().get_node_id(), host=socket.gethostname())

    def run(
        self, weights: ActorWeights, steps: int | None, rollouts: int, learned: bool, elapsed: float
    ) -> RolloutPart:
        """The next rollout.

        Args:
            steps: see `Runner.run`.
            rollouts: number of rollouts before it.
            learned: the last one was learned from.
            elapsed: seconds of training by now, as clocks of two machines have nothing in common.
        """
        runner = self._runner
        set_weights(runner.model, weights)
        if learned:
            runner.mark_learned()
        runner.rollouts = rollouts
        runner.start_clock(time.perf_counter() - elapsed)
        with verbosity.keeping() as told:
            rollout = jax.tree.map(np.asarray, runner.run(steps))
        return RolloutPart(rollout, runner.ended(), runner.seconds, told)

    def snapshot(self, learned: bool) -> Snapshot:
        """See `Runner.snapshot`; `learned` as in `run`."""
        if learned:
            self._runner.mark_learned()
        return self._runner.snapshot()

    def resume(self, weights: ActorWeights, rollouts: int, saved: Checkpoint) -> list[str]:
        """See `Runner.resume`; `saved` is of this actor's environments."""
        set_weights(self._runner.model, weights)
        self._runner.rollouts = rollouts
        return self._runner.resume(saved)

    def close(self) -> None:
        """Closes the environments."""
        self._env.close()

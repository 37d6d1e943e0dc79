"""Environments that actors of Ray hold, on this machine or on others."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ppo2 import spaces
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.parallelism import worker_obstacle
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.envs.host.vector_arguments import check_info_keys
from ppo2.system.text import install_command
from ppo2.system.whole_numbers import is_whole

ENVS_PER_ACTOR = 8
"""Least number of environments of an actor, where the number of actors isn't given."""


@dataclass(frozen=True)
class RemoteEnvs:
    """Environments of actors, for `learn` to collect whole rollouts from; made by `ppo2.make(backend="ray")`.

    The actors begin with training and end with it.

    Attributes:
        factory: makes one environment, wherever it is.
        num_envs, actors: environments of all actors; each holds an equal number of consecutive ones.
        workers: processes beside each actor that step its environments.
        options: other arguments of each actor's `HostVectorEnv`.
    """

    ppo2_runner = "ppo2.runners.remote:RemoteRunner"
    """Name of the class that collects rollouts from these environments (`ppo2.runners.protocol`)."""

    factory: Factory
    num_envs: int
    actors: int
    workers: int
    options: Mapping[str, Any]
    single_observation_space: spaces.AnySpace
    single_action_space: spaces.AnySpace

    def __repr__(self) -> str:
        return f"RemoteEnvs({self.num_envs} environments, {self.actors} actors)"

    @property
    def each(self) -> int:
        """Number of environments of an actor."""
        return self.num_envs // self.actors

    @property
    def stepped_by(self) -> str:
        """Words that say which processes step the environments."""
        beside = f", each with {self.workers} worker{'s' if self.workers > 1 else ''}" if self.workers else ""
        return f"{self.actors} Ray actor{'s' if self.actors > 1 else ''}{beside}"

    def check_learner(self, num_envs: int | None, processes: int, info_keys: Sequence[str]) -> None:
        """Raises ValueError where `learn` can't train on these environments as it was asked to."""
        if processes > 1:
            raise ValueError(
                f"`env` (={self!r}): Ray's actors have one learner, and this is one of {processes} processes. Start "
                "one process, or let each step environments of its own: ppo2.make without `backend`."
            )
        if num_envs not in (None, self.num_envs):
            raise ValueError(
                f"`num_envs` (={num_envs}) applies where `env` is an id or a factory; this one has {self.num_envs}: "
                "leave it out, or say it to ppo2.make."
            )
        check_info_keys(info_keys, self.options.get("info_keys", ()), "env")

    def part(self) -> HostVectorEnv:
        """Makes the environments of one actor, in whose process this is called."""
        # in one group, whatever the machine: the policy's last bits depend on it
        return HostVectorEnv([self.factory] * self.each, workers=self.workers, copy=False, **self.options)


def remote(factory: Factory, first: Any, num_envs: int, actors: Any, workers: Any, **options: Any) -> RemoteEnvs:
    """Describes environments of actors.

    Args:
        first: one environment that the factory made, which is closed.
        num_envs, actors, workers, options: see `ppo2.make`.

    Raises:
        ValueError: an argument is out of range; the factory can't be sent; or Ray isn't installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"`backend` (='ray') needs a package that isn't installed: {install_command('ray')}.")
    count = _actor_count(num_envs, actors)
    workers = 0 if workers == "auto" else workers
    most = num_envs // count - 1
    if not is_whole(workers) or not 0 <= workers <= most:
        raise ValueError(
            f"`workers` (={workers!r}) must be 'auto', which is none, or a whole number from 0 to {most}: beside each "
            f"of {count} actors, which has {most + 1} environments, and steps one at least itself."
        )
    vector = HostVectorEnv([lambda: first], **options)  # checks these
    vector.close()
    if obstacle := worker_obstacle(factory):
        raise ValueError(f"{obstacle}: let this process step it, without `backend`.")
    return RemoteEnvs(
        factory=factory,
        num_envs=num_envs,
        actors=count,
        workers=int(workers),
        options=options,
        single_observation_space=vector.single_observation_space,
        single_action_space=vector.single_action_space,
    )


def _actor_count(num_envs: int, actors: Any) -> int:
    """The number of actors that was asked for, or one for every ENVS_PER_ACTOR environments."""
    fitting = [count for count in range(1, num_envs + 1) if num_envs % count == 0]
    if actors is None:
        return max(count for count in fitting if count <= max(1, num_envs // ENVS_PER_ACTOR))
    if not is_whole(actors) or actors < 1:
        raise ValueError(f"`actors` (={actors!r}) must be a whole number of at least 1, or None.")
    if actors not in fitting:
        near = sorted(sorted(fitting, key=lambda count: abs(count - actors))[:2])
        raise ValueError(
            f"`actors` (={actors}) must divide `num_envs` (={num_envs}), as each holds as many environments; "
            f"{' and '.join(map(str, near))} do."
        )
    return int(actors)

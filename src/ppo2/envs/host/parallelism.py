"""Choice of how many processes step environments, and in how many groups; processes make no difference to the bits."""

import copy
import dataclasses
import math
import statistics
import sys
import time
from typing import Any, Literal, TypeAlias

import cloudpickle
from gymnasium.envs.registration import EnvSpec

from ppo2 import spaces
from ppo2.envs.host.env_types import AnyEnv, EnvTraits, Factory, traits_of
from ppo2.envs.host.identity import check_distinct
from ppo2.envs.host.serial_envs import ENV_ERRORS
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.system.processors import own_processors, quota, running_now, usable_processors
from ppo2.system.text import say_error
from ppo2.system.whole_numbers import is_whole

Workers: TypeAlias = int | Literal["auto"]

WORTH_SECONDS = 5e-5
"""Seconds of a vector step that workers take over from this process, above which they pay however short the run."""
EXCHANGE_SECONDS = 8e-6
"""Seconds of a vector step that it takes to command a worker and to wait for it."""
START_WORTH_SECONDS = 1.0
"""Seconds that workers must save in all where they save less in a step: some times the cost of starting and ending."""
OVERLAP_PROCESSORS = 4
"""Processors from which on the policy acts for one group of environments while the other is stepped."""
TRIAL_SECONDS, TRIAL_STEPS = 0.02, 32
"""Most seconds and steps of a trial."""


class _ReusedFirst(EnvTraits):
    """A factory that first returns an environment which exists already."""

    def __init__(self, first: AnyEnv, factory: Factory) -> None:
        self._made, self._factory = [first], factory
        self.copy_traits(factory)

    def __call__(self) -> AnyEnv:
        return self._made.pop() if self._made else self._factory()


def vectorize(
    first: AnyEnv,
    factory: Factory,
    count: int,
    *,
    may_try: bool,
    workers: Workers = "auto",
    groups: int | None = None,
    timesteps: int | None = None,
    **options: Any,
) -> HostVectorEnv:
    """Makes a vector environment of `count` environments.

    Args:
        first: made by `factory`; it becomes the first of them.
        may_try: True if `first` may be stepped on trial, which whoever counts its steps would notice.
        workers: processes beside this one; "auto": see `choose_workers`, by a trial. None, with a notice, where the
            factory can't travel to them.
        groups: see `HostVectorEnv`; None: see `choose_groups`.
        timesteps: steps to come of all of them, where that is known.
        options: other arguments of `HostVectorEnv`.

    Raises:
        ValueError: `workers` is neither, or too many.
    """
    if groups is None:
        groups = choose_groups(first.observation_space, count)
    if workers != "auto" and not is_whole(workers):
        raise ValueError(f"`workers` (={workers!r}) must be 'auto' or a whole number.")
    if workers == "auto":
        most = min(own_processors(), quota() or sys.maxsize) - 1
        most = min(most, count - 1 if groups == 1 else count // 2)
        steps = None if timesteps is None else timesteps // count
        workers = _tried(first, count, most, steps) if may_try and most else 0
    if workers and (obstacle := worker_obstacle(factory)):
        say_error(f"{obstacle}, so that this process steps all environments itself.")
        workers = 0
    workers = int(workers)
    if 0 < workers == count - 1:  # one for each process, none of which could tell that they are all the same object
        second = factory()
        check_distinct([first, second])
        second.close()
    factories: list[Factory] = [_ReusedFirst(first, factory), *[factory] * (count - 1)]
    vector = HostVectorEnv(factories, workers=workers, groups=groups, **options)
    vector.factory = factory
    spec = first.unwrapped.spec
    if isinstance(spec, EnvSpec):
        limit = traits_of(factory).max_episode_steps or spec.max_episode_steps
        vector.spec = dataclasses.replace(spec, max_episode_steps=limit, order_enforce=True)
    return vector


def choose_groups(space: spaces.AnySpace, count: int) -> int:
    """Number of groups of `count` environments, by a fixed rule, as the policy's last bits depend on it.

    2 where observations are images, so that acting takes as long as stepping, and the machine has the processors to do
    both (OVERLAP_PROCESSORS). Elsewhere acting is a small part, and acting twice costs more than is gained:
    docs/benchmarks.md.
    """
    has_images = any(map(spaces.is_image, spaces.leaves(space, spaces.tree(space))))
    return 2 if has_images and count >= 2 and usable_processors() >= OVERLAP_PROCESSORS else 1


def worker_obstacle(factory: Factory) -> str | None:
    """Reason why no other process can step the factory's environments; None if one can."""
    if sys.platform == "win32":
        return "workers need what Windows doesn't have (semaphores with names)"
    try:
        cloudpickle.dumps(factory)
    except Exception as error:  # of whatever is asked to travel
        return f"`env` can't travel to other processes ({type(error).__name__}: {error})"
    return None


def choose_workers(step_seconds: float, count: int, most: int, steps: int | None = None) -> int:
    """Number of processes that step `count` environments beside this one; their number doesn't change the bits.

    All that there may be where a step is slow. Where it is fast, as many as make a vector step shortest, if the whole
    run becomes faster by more than it takes to start them.

    Args:
        step_seconds: time of a step of one environment.
        most: number of workers that there may be.
        steps: steps to come of each environment; None: unknown.
    """
    if most < 1:
        return 0
    if step_seconds * count * most / (most + 1) > WORTH_SECONDS:
        return most

    def seconds(workers: int) -> float:
        return step_seconds * math.ceil(count / (workers + 1)) + EXCHANGE_SECONDS * workers

    best = min(range(most + 1), key=seconds)
    return best if (seconds(0) - seconds(best)) * (steps or 0) > START_WORTH_SECONDS else 0


def _tried(env: AnyEnv, count: int, most: int, steps: int | None) -> int:
    """`choose_workers` by a short trial, after which `env` must be reset."""
    seconds = _step_seconds(env)
    workers = choose_workers(seconds, count, most, steps)
    if not workers or choose_workers(seconds, count, most):
        return workers
    # what they save is less than what is lost where processes wait for processors
    return choose_workers(seconds, count, min(most, own_processors() - running_now()), steps)


def _step_seconds(env: AnyEnv) -> float:
    """Seconds of a step, by some steps; 0 where they can't be made. `env` must be reset then."""
    if env.render_mode == "human":
        return 0.0
    action_space = copy.deepcopy(env.action_space)  # the random state of its own is the environment's affair
    action_space.seed(0)
    masked = spaces.is_masked(env.observation_space)
    seconds: list[float] = []
    try:
        obs, _ = env.reset(seed=0)
        while sum(seconds) < TRIAL_SECONDS and len(seconds) < TRIAL_STEPS:
            action = action_space.sample(obs["action_mask"]) if masked else action_space.sample()
            began = time.perf_counter()
            obs, _, terminated, truncated, _ = env.step(action)
            seconds.append(time.perf_counter() - began)
            if terminated or truncated:
                obs, _ = env.reset()
    except ENV_ERRORS:  # training will report it, if it happens again
        return 0.0
    return statistics.median(seconds)

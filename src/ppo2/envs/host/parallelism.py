"""Which engine steps environments: this process alone, or workers beside it. Both give the same bits."""

import copy
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Literal, TypeAlias

import cloudpickle
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.env_types import AnyEnv, EnvTraits, Factory
from ppo2.envs.host.replay import REPLAY_LIMIT
from ppo2.envs.host.serial_envs import ENV_ERRORS
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.system.processors import usable_processors
from ppo2.system.text import printable

Workers: TypeAlias = int | Literal["auto"]

WORTH_SECONDS = 5e-5
"""That workers must save in a step of all environments: what it costs to wake them and to wait for them."""
OVERLAP_PROCESSORS = 4
TRIAL_SECONDS = 0.02
TRIAL_STEPS = 32


class _ReusedFirst(EnvTraits):
    """A factory whose first environment is there already."""

    def __init__(self, first: AnyEnv, factory: Factory) -> None:
        self._first: AnyEnv | None = first
        self._factory = factory
        self.copy_traits(factory)

    def __call__(self) -> AnyEnv:
        first, self._first = self._first, None
        return self._factory() if first is None else first


def vectorize(
    first: AnyEnv,
    factory: Factory,
    count: int,
    *,
    may_try: bool,
    copy: bool,
    workers: Workers = "auto",
    groups: int | None = None,
    env_timeout: float = 60.0,
    info_keys: Sequence[str] = (),
    replay_limit: int = REPLAY_LIMIT,
) -> HostVectorEnv:
    """A vector environment of `count` environments.

    Args:
        first: made by `factory`; it is used up.
        may_try: whether `first` may be stepped on trial, which whoever counts steps would notice.
        workers: processes beside this one; 0: none; "auto": as many as there are other processors, if a trial says that
            they would save time. None, and a notice, where the factory can't travel to them.
        copy, env_timeout, info_keys, replay_limit: see `HostVectorEnv`.

    Raises:
        ValueError: `workers` is neither, or more than there are environments but one.
    """
    if groups is None:
        groups = choose_groups(first.observation_space, count)
    factories: list[Factory] = [_ReusedFirst(first, factory), *[factory] * (count - 1)]
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int)):
        raise ValueError(f"`workers` (={workers!r}) must be 'auto' or a whole number.")
    if workers == "auto":
        most = min(usable_processors() - 1, count - 1 if groups == 1 else count // 2)
        workers = most if may_try and most and _worth_it(first, count, most) else 0
    why = worker_obstacle(factory) if workers else None
    if why is not None:
        print(f"ppo2: {printable(why)}, so that this process steps all environments itself.", file=sys.stderr)
        workers = 0
    return HostVectorEnv(
        factories,
        workers=workers,
        groups=groups,
        copy=copy,
        env_timeout=env_timeout,
        info_keys=info_keys,
        replay_limit=replay_limit,
    )


def choose_groups(space: spaces.AnySpace, count: int) -> int:
    """Into how many groups `count` environments are parted, by a fixed rule, as the policy's figures depend on it.

    2 where observations are images, so that acting takes as long as stepping, and the machine has the processors to do
    both (OVERLAP_PROCESSORS). Elsewhere acting is a small part, and acting twice costs more than is gained:
    docs/benchmarks.md.
    """
    leaves = spaces.leaves(space, spaces.tree(space))
    images = any(np.dtype(leaf.dtype).itemsize == 1 and len(leaf.shape or ()) == 3 for leaf in leaves)
    return 2 if images and count >= 2 and usable_processors() >= OVERLAP_PROCESSORS else 1


def worker_obstacle(factory: Factory) -> str | None:
    """Why no other process can step the factory's environments; None if it can."""
    if sys.platform == "win32":
        return "workers need what Windows doesn't have (semaphores with names)"
    try:
        cloudpickle.dumps(factory)
    except Exception as error:  # of whatever is asked to travel
        return f"`env` can't travel to other processes ({type(error).__name__}: {error})"
    return None


def _worth_it(first: AnyEnv, count: int, workers: int) -> bool:
    """Whether workers save more than they cost, by a trial."""
    if first.render_mode == "human":
        return False
    return measure_step_seconds(first) * count * workers / (workers + 1) > WORTH_SECONDS


def measure_step_seconds(env: AnyEnv) -> float:
    """Seconds that a step takes with random actions; 0.0 if that can't be found out. Whoever is next must reset it.

    A few steps tell a fast environment.
    """
    action_space = copy.deepcopy(env.action_space)  # whose random state is the environment's own affair
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
    except ENV_ERRORS:  # not now: training will tell, if it happens again
        return 0.0
    return statistics.median(seconds)

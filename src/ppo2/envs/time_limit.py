"""The time limit of an environment, in whatever form it is."""

from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.envs.device.env import DeviceVector
from ppo2.envs.host.env_types import time_limit_of, traits_of
from ppo2.envs.host.remote import RemoteEnvs


def time_limit(env: Any) -> int | None:
    """Steps after which an environment truncates every episode; None if there is no such limit, or none that shows."""
    steps: Any
    match env:
        case gym.Env():
            steps = time_limit_of(env)
        case DeviceVector():
            steps = time_limit(env.env)
        case RemoteEnvs():
            steps = traits_of(env.factory).max_episode_steps
        case gym.vector.VectorEnv():
            inside = getattr(env.unwrapped, "envs", None)
            config = getattr(env.spec, "config", env.spec)  # EnvPool's spec has one
            named = [getattr(one, "max_episode_steps", None) for one in (env, env.unwrapped, config)]
            steps = next((one for one in named if one is not None), None)
            if steps is None and isinstance(inside, list | tuple) and inside and isinstance(inside[0], gym.Env):
                steps = time_limit_of(inside[0])
        case _:
            steps = getattr(env, "max_episode_steps", None)  # `ppo2.envs.TimeLimit`, adapters
    return int(steps) if isinstance(steps, int | np.integer) and steps > 0 else None

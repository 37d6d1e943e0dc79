"""The runs of a sweep before they are trained, and their learning curves."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo2.agent.model import Model
from ppo2.config import Config, separate_settings
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.training.setup import build_model, check_traceable, default_shards

NDArray = np.ndarray[Any, Any]


class Curve(NamedTuple):
    """A learning curve: at each row of the log, the timesteps so far and the mean return of the last 100 episodes."""

    timesteps: NDArray
    returns: NDArray

    @classmethod
    def of(cls, points: Sequence[tuple[int, float]]) -> "Curve":
        """The curve through some points."""
        return cls(np.array([t for t, _ in points], np.int64), np.array([r for _, r in points], np.float64))


class Plan(NamedTuple):
    """One run before it is trained."""

    config: Config
    model: Model


class Trained(NamedTuple):
    """One run after it was trained."""

    model: Model
    curve: Curve


def planned(env: AnyEnvs, given_env: Any, settings: Mapping[str, Any]) -> Plan:
    """The plan of one run.

    Args:
        env: the environments of all runs.
        given_env: `env` as `sweep` was given it.
        settings: arguments of `learn`.

    Raises:
        ValueError, TypeError: a setting that can't be.
    """
    mine, network_kwargs = separate_settings({"total_timesteps": 1e6, **settings})
    on_device = isinstance(env, DeviceVector)
    num_envs, shards = mine.pop("num_envs", None), mine.pop("shards", None)
    if num_envs is None:
        num_envs = env.num_envs
    elif not (on_device or isinstance(given_env, str) or callable(given_env) or num_envs == env.num_envs):
        raise ValueError(f"`num_envs` (={num_envs}) contradicts `env`, which has {env.num_envs}: leave it out.")
    counts = {"num_envs": num_envs, "shards": 1 if shards is None else shards}
    config = Config(**{**mine, **counts, "env": given_env, "network_kwargs": network_kwargs})
    if shards is None:
        config = dataclasses.replace(config, shards=default_shards(env, config))
    model = build_model(config, env, settings.get("model_fn"))
    if on_device:
        check_traceable(model)
    return Plan(config, model)

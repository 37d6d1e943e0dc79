"""The runs of a sweep, planned and then trained."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ppo2.agent.model import Model
from ppo2.config import Config, separate_settings
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.training.construction import build_config, build_model
from ppo2.training.start import Start
from ppo2.training.trainers import Numbers, scheduled_numbers

NDArray = np.ndarray[Any, Any]


class Curve(NamedTuple):
    """A learning curve: at each row of the log, the timesteps so far and the mean return of the last 100 episodes."""

    timesteps: NDArray
    returns: NDArray


@dataclass
class SweepRun:
    """One run of a sweep.

    Attributes:
        settings: arguments of `learn`.
        model: untrained at first.
        numbers: see `trainers.Numbers`.
        points: timesteps and mean returns of the learning curve so far.
    """

    settings: Mapping[str, Any]
    config: Config
    model: Model
    numbers: Numbers
    points: list[tuple[int, float]] = field(default_factory=list)

    @property
    def curve(self) -> Curve:
        return Curve(np.array([t for t, _ in self.points], np.int64), np.array([r for _, r in self.points], np.float64))

    def record(self, update: int, mean_return: float) -> bool:
        """Adds the point of an update to the learning curve, if a log has a row of it or it is the last: then True."""
        config = self.config
        has_row = update in (1, config.nupdates) or update % config.log_interval == 0
        if has_row:
            self.points.append((update * config.nbatch, mean_return))
        return has_row


def plan_run(env: AnyEnvs, given_env: Any, settings: Mapping[str, Any]) -> SweepRun:
    """One run, before it is trained.

    Args:
        env: the environments of all runs.
        given_env: `env` as `sweep` was given it.
        settings: arguments of `learn`.
    """
    mine, network_kwargs = separate_settings({"total_timesteps": 1e6, **settings, "env": given_env})
    seed, num_envs, shards = (mine.pop(name, None) for name in ("seed", "num_envs", "shards"))
    made_here = isinstance(env, DeviceVector) or isinstance(given_env, str) or callable(given_env)
    if not (made_here or num_envs in (None, env.num_envs)):
        raise ValueError(f"`num_envs` (={num_envs}) contradicts `env`, which has {env.num_envs}: leave it out.")
    config = build_config(
        functools.partial(Config, **mine, network_kwargs=network_kwargs),
        env,
        Start(),
        seed=seed,
        num_envs=env.num_envs if num_envs is None else num_envs,
        shards=shards,
    )
    model = build_model(config, env, settings.get("model_fn"))
    return SweepRun(settings, config, model, scheduled_numbers(config))

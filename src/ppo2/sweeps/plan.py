"""The runs of a sweep, planned and then trained."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ppo2.agent.files import restore
from ppo2.agent.model import Model
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.config import Config, separate_settings
from ppo2.envs import DEFAULT_NUM_ENVS, AnyEnvs
from ppo2.envs.host.vec_env import is_made
from ppo2.training.construction import build_config, build_model, check_names
from ppo2.training.start import Start
from ppo2.training.trainers import Numbers, scheduled_numbers

NDArray = np.ndarray[Any, Any]
Status = Literal["waiting", "running", "finished", "stopped", "failed"]


class Curve(NamedTuple):
    """A learning curve: at each row of the log, the timesteps so far and the mean return of the last 100 episodes."""

    timesteps: NDArray
    returns: NDArray


class SweepFailure(NamedTuple):
    """A run that failed.

    Attributes:
        run: its number.
        settings: its seed, and the settings that were swept.
        error: the exception that ended it.
        traceback: the error as Python prints it.
    """

    run: int
    settings: Mapping[str, Any]
    error: Exception
    traceback: str

    @property
    def words(self) -> str:
        """A sentence about it."""
        named = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"run {self.run} ({named}) failed: {type(self.error).__name__}: {self.error}"


@dataclass
class SweepRun:
    """One run of a sweep.

    Attributes:
        index: its number, from 0.
        settings: arguments of `learn`.
        named: its seed, and the settings that are swept: what tells it from the others.
        model: untrained at first.
        numbers: see `trainers.Numbers`.
        run_dir: its directory; None where nothing is written, or it has none of its own.
        points: timesteps and mean returns of the learning curve so far.
        infos: means of numbers of `info` at the ends of the last 100 episodes, by name.
        update: the last update that was made.
        status: "stopped": a signal came while it was trained.
        failure: set where it failed.
    """

    index: int
    settings: Mapping[str, Any]
    named: Mapping[str, Any]
    config: Config
    model: Model
    numbers: Numbers
    run_dir: Path | None = None
    points: list[tuple[int, float]] = field(default_factory=list)
    infos: Mapping[str, float] = field(default_factory=dict)
    update: int = 0
    status: Status = "waiting"
    failure: SweepFailure | None = None

    @property
    def curve(self) -> Curve:
        return Curve(np.array([t for t, _ in self.points], np.int64), np.array([r for _, r in self.points], np.float64))

    def record(self, update: int, mean_return: float, infos: Mapping[str, float]) -> bool:
        """Takes note of an update that was made; True if it has a row, which is a point of the learning curve."""
        self.update = update
        if has_row(self.config, update):
            self.points.append((update * self.config.nbatch, mean_return))
            self.infos = dict(infos)
            return True
        return False

    def take_over(self, saved: Checkpoint) -> None:
        """Gives the run the model that was trained somewhere else."""
        restore(self.model, saved)

    def fail(self, error: Exception, traceback: str) -> None:
        """Takes note of the error that ended the run."""
        self.failure, self.status = SweepFailure(self.index, self.named, error, traceback), "failed"


def has_row(config: Config, update: int) -> bool:
    """True if the log has a row of an update, or it is the last."""
    return update in (1, config.nupdates) or update % config.log_interval == 0


def plan_run(
    env: AnyEnvs, given_env: Any, settings: Mapping[str, Any], index: int = 0, swept: Sequence[str] = ()
) -> SweepRun:
    """One run, before it is trained.

    Args:
        env: environments with the spaces of all runs.
        given_env: `env` as `sweep` was given it.
        settings: arguments of `learn`.
        swept: names of the settings that are swept.
    """
    mine, network_kwargs = separate_settings({"total_timesteps": 1e6, **settings, "env": given_env})
    check_names(settings.get("network", Config.network), network_kwargs, settings)
    seed, num_envs, shards = (mine.pop(name, None) for name in ("seed", "num_envs", "shards"))
    if is_made(given_env):
        if num_envs not in (None, env.num_envs):
            raise ValueError(f"`num_envs` (={num_envs}) contradicts `env`, which has {env.num_envs}: leave it out.")
        num_envs = env.num_envs
    config = build_config(
        functools.partial(Config, **mine, network_kwargs=network_kwargs),
        env,
        Start(),
        seed=seed,
        num_envs=DEFAULT_NUM_ENVS if num_envs is None else num_envs,
        shards=shards,
    )
    model = build_model(config, env, settings.get("model_fn"))
    named = {"seed": config.seed, **{name: settings[name] for name in swept}}
    return SweepRun(index, settings, named, config, model, scheduled_numbers(config))

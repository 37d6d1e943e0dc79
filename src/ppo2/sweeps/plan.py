"""The runs of a sweep, planned and then trained."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from ppo2.agent.files import restore
from ppo2.agent.model import Model
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.config import Config, separate_settings
from ppo2.envs import DEFAULT_NUM_ENVS, AnyEnvs
from ppo2.envs.host.vec_env import is_made
from ppo2.plot.series import MOST_POINTS
from ppo2.reporting.episode_file import RECENT_SHARE
from ppo2.training.construction import build_config, build_model, check_names
from ppo2.training.start import Start
from ppo2.training.trainers import Numbers, scheduled_numbers

NDArray = np.ndarray[Any, Any]
Status = Literal["waiting", "running", "finished", "stopped", "failed"]


class Curve(NamedTuple):
    """A learning curve, with a point after each update; of more than `MOST_POINTS`, after every k-th and where the log
    has a row.

    Attributes:
        timesteps: timesteps so far.
        returns: mean return of the last 100 episodes; NaN before the first.
        recent: mean return of the episodes within the last 5 % of the run's timesteps, or else of the last update in
            which one ended (of the last 100 of each update): it doesn't lag where 100 episodes are long.
    """

    timesteps: NDArray
    returns: NDArray
    recent: NDArray


class Returns(NamedTuple):
    """Known figures of the returns after an update.

    Attributes:
        mean: mean return of the last 100 episodes; NaN before the first.
        episodes, total: number and sum of the finite ones of those that ended in it, the last 100 at most.
        infos: means of numbers of `info` at the ends of the last 100 episodes, by name.
        evaluation: mean return of the evaluation that was made after it; NaN where there was none.
    """

    mean: float
    episodes: int = 0
    total: float = 0.0
    infos: Mapping[str, float] = MappingProxyType({})
    evaluation: float = math.nan

    @classmethod
    def of(cls, mean: float, ended: Any, infos: Mapping[str, float] = MappingProxyType({})) -> "Returns":
        """The figures, from the mean, the returns of the episodes that ended in the update, and means of `info`."""
        returns = np.asarray(ended, np.float64)
        returns = returns[np.isfinite(returns)]
        return cls(float(mean), len(returns), float(returns.sum()), dict(infos))


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
        points: timesteps and returns at each point of the learning curve so far.
        infos: means of numbers of `info` at the ends of the last 100 episodes, by name.
        update: the last update that was made.
        episodes: number of those that ended before it goes on, of a run that does.
        status: "stopped": a signal came while it was trained.
        failure: set where it failed.
        given_up: set by whoever looks at its figures, to have it end after its update, as if that were its last.
    """

    index: int
    settings: Mapping[str, Any]
    named: Mapping[str, Any]
    config: Config
    model: Model
    numbers: Numbers
    run_dir: Path | None = None
    points: list[tuple[int, Returns]] = field(default_factory=list)
    infos: Mapping[str, float] = field(default_factory=dict)
    update: int = 0
    episodes: int = 0
    status: Status = "waiting"
    failure: SweepFailure | None = None
    given_up: bool = False
    _left_out: Returns = field(default_factory=lambda: Returns(math.nan))  # since the last point

    @property
    def curve(self) -> Curve:
        """All points, from which pictures are made."""
        timesteps = np.array([t for t, _ in self.points], np.int64)
        returns = np.array([returns.mean for _, returns in self.points], np.float64)
        count, total = (np.cumsum([0, *(getattr(r, name) for _, r in self.points)]) for name in ("episodes", "total"))
        window = RECENT_SHARE * self.config.nupdates * self.config.nbatch
        start = np.searchsorted(timesteps, timesteps - window, "right")
        # where none ended within, the window of the last point at which one did
        start = np.minimum(start, np.maximum(np.searchsorted(count, count[1:], "left") - 1, 0))
        number = count[1:] - count[start]
        recent = np.divide(total[1:] - total[start], number, where=number > 0, out=np.full(len(number), np.nan))
        return Curve(timesteps, returns, recent)

    @property
    def logged(self) -> Curve:
        """The points at rows of the log, from which the figures of the table are made."""
        curve = self.curve
        rows = np.array([has_row(self.config, int(t) // self.config.nbatch) for t in curve.timesteps], bool)
        return Curve(*(column[rows] for column in curve))

    def record(self, update: int, returns: Returns) -> bool:
        """Takes note of an update that was made, which is a point of the learning curve; True if the log has a row of
        it.
        """
        self.update = update
        is_row = has_row(self.config, update)
        self.infos = dict(returns.infos) if is_row else self.infos
        at, before = update * self.config.nbatch, self._left_out
        together = Returns(returns.mean, before.episodes + returns.episodes, before.total + returns.total)
        is_point = is_row or update % -(-self.config.nupdates // MOST_POINTS) == 0
        self.points += [(at, together)] if is_point else []
        self._left_out = Returns(math.nan) if is_point else together
        return is_row

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

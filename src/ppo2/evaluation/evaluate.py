"""Evaluation of a model on whole episodes, with everything about it frozen."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo2 import envs, spaces
from ppo2.agent.model import Model
from ppo2.agent.placement import UNPLACED, Placement, asked_place, choose
from ppo2.config import Config, Device, check_settings
from ppo2.config.info_keys import entries
from ppo2.distributed import World, heartbeat, processes
from ppo2.envs.device.env import DeviceVector
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.device_episodes import run_on_device
from ppo2.evaluation.host_episodes import run_on_host
from ppo2.evaluation.limits import EpisodeEnd, EpisodeLimit, PartialEpisodes
from ppo2.numerics.compilation import transfers_allowed
from ppo2.system.calls import told_plainly
from ppo2.system.python_stack import with_room
from ppo2.system.verbosity import spoken
from ppo2.system.whole_numbers import is_whole

NDArray = np.ndarray[Any, Any]

DEVICE_NUM_ENVS = 64
"""Device environments to evaluate on, unless the caller says how many."""


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths (timesteps) of episodes, (episodes,) each, in the order in which they ended.

    Environments that count their episodes themselves (`info["episode"]`, as of RecordEpisodeStatistics) are believed.
    `infos` are the numbers of `info` at the episodes' ends, by name, (episodes,) each: those of
    `info_keys`, and `is_success` where there is one; NaN where an episode had none.
    """

    returns: NDArray
    lengths: NDArray
    infos: Mapping[str, NDArray] = {}

    @property
    def mean(self) -> float:
        """Mean return; NaN of no episode."""
        return float(self.returns.mean()) if len(self.returns) else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes; NaN of no episode."""
        return float(self.returns.std()) if len(self.returns) else math.nan


@with_room
@told_plainly("ppo2.evaluate(model, 'CartPole-v1', episodes=100)")
@spoken
@transfers_allowed
def evaluate(
    model: Model,
    env: Any,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int = 0,
    num_envs: int | None = None,
    info_keys: Sequence[str] | None = None,
    max_steps: int | None = None,
    partial_episodes: PartialEpisodes = "count",
    device: Device = Config.device,
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    verbose: int = 1,  # noqa: ARG001 (of `spoken`)
) -> Evaluation:
    """Runs whole episodes. The normaliser is frozen and the model's random streams are left alone.

    Every environment plays the same number of episodes, which is fixed beforehand: to count the episodes that end
    first would favour short ones.

    Args:
        model: from `learn` or `load`.
        env: in any form that `learn` takes. One that you pass in is reset, and not closed.
        episodes: number of episodes.
        deterministic: the most probable action; False samples.
        seed: seed of the environments and of sampling.
        num_envs: number of environments to make for an id, a factory or a device environment; None: 8 (on the device,
            64), or fewer for few episodes.
        info_keys: entries of `info` to record at episodes' ends; None: those that the model was trained with.
            `is_success` is recorded in any case.
        max_steps: steps of one episode after which it is cut, and its environment reset, so that an evaluation ends
            even if its episodes don't; None: 10,000, or the environment's own time limit where that is longer. A line
            on standard error says that an episode comes near to it, and how many were cut.
        partial_episodes: "count" counts an episode that was cut with its return so far (the sum of the rewards that
            the policy's environment gave); "drop" leaves it out, so that there are fewer episodes; "raise" is an error.
        device: processor to compute on: "cpu", "gpu", or "auto": where the model does.
        env_kwargs: keyword arguments of `ppo2.make` and of the environment's constructor, where `env` is an id, or a
            function or class. None: those that the model was trained with, where `env` is an id, or the same
            function as then.
        verbose: 0 prints no warning: see `learn`.

    Raises:
        ValueError: `episodes` or `max_steps` below 1, `env` can't be made, has other spaces than the model, is being
            trained on, or gives an observation or a reward that is NaN or infinite; or no such `device`.
    """
    check_request(model, episodes, device)
    keys = model.config.info_keys if info_keys is None else entries("info_keys", info_keys)
    if info_keys is None and isinstance(env, HostVectorEnv):
        keys = env.info_keys
    count = num_envs if num_envs is not None else side_by_side(env, episodes)
    kwargs = kwargs_for(model, env, env_kwargs)
    made = envs.resolve(env, count, info_keys=keys, env_kwargs=kwargs)
    try:
        check_spaces(model, made.env)
        model = placed_for(model, made.env, device)
        limit = EpisodeLimit(made.env, max_steps, partial_episodes)
        how: dict[str, Any] = {"episodes": episodes, "deterministic": deterministic, "seed": seed}
        return run_episodes(model, made.env, **how, info_keys=keys, limit=limit)
    finally:
        if made.owned:
            made.env.close()


def kwargs_for(model: Model, env: Any, env_kwargs: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The arguments for an environment to evaluate on: see `evaluate`."""
    if env_kwargs is None:
        return envs.inherited(env, model.config.env, model.config.env_kwargs)
    checked: dict[str, Any] = check_settings({"env_kwargs": env_kwargs})["env_kwargs"]
    return checked


def placed_for(model: Model, env: envs.AnyEnvs, device: Device) -> Model:
    """The model, or one of the same state that acts where `device` says; a model without a placement gets one."""
    asked, on_device = asked_place(device), isinstance(env, DeviceVector)
    if asked is not None:
        return model.placed(Placement(asked.kind, asked.kind))
    if on_device or model.placement != UNPLACED or model.config.device == "gpu":
        return model
    return model.placed(UNPLACED._replace(act=choose(model, device, num_envs=env.num_envs).act))


def check_request(model: Any, episodes: Any, device: str) -> None:
    """Raises TypeError for what is no model, such as the path of one, and ValueError for no number of episodes or no
    device.
    """
    asked_place(device)
    if not is_whole(episodes) or episodes < 1:
        raise ValueError(f"`episodes` (={episodes!r}) must be a whole number of at least 1.")
    if not isinstance(model, Model):
        path = model if isinstance(model, str) else "PATH"
        raise TypeError(f"`model` (={model!r}) must be a model, of ppo2.learn or ppo2.load({path!r}).")


def side_by_side(env: Any, episodes: int) -> int | None:
    """The number of environments to evaluate on, for `env` in any form that `learn` takes; None if it has its own."""
    on_device = envs.is_on_device(env)
    is_factory = callable(env) and not hasattr(env, "step")
    if not (on_device or isinstance(env, str) or is_factory):
        return None
    return min(DEVICE_NUM_ENVS if on_device else envs.DEFAULT_NUM_ENVS, episodes)


def _never() -> bool:
    return False


def run_episodes(
    model: Model,
    env: envs.AnyEnvs,
    *,
    episodes: int,
    deterministic: bool,
    seed: int,
    info_keys: Sequence[str] = (),
    limit: EpisodeLimit | None = None,
    until: Callable[[], bool] = _never,
    on_episode: Callable[[EpisodeEnd], object] | None = None,
    share: World = processes.ALONE,
) -> Evaluation:
    """Evaluates as `evaluate` does, on environments that are known to fit.

    Args:
        info_keys: see `evaluate`.
        limit: cuts episodes; None: after the default of `evaluate`.
        until: called again and again; where it returns True, there are no more episodes.
        on_episode: called with each episode of the result.
        share: this process's part: of P processes with as many environments each, all of which evaluate.
    """
    limit = EpisodeLimit(env) if limit is None else limit
    total = env.num_envs * share.size
    quota = np.full(total, episodes // total) + (np.arange(total) < episodes % total)
    mine = share.part(total)
    left, first = quota[mine].copy(), mine.start
    if isinstance(env, DeviceVector):
        run = run_on_device(model, env, first, deterministic, seed, left, limit, info_keys)
    else:
        run = run_on_host(model, env, first, deterministic, seed, left, limit, info_keys)
    done: list[EpisodeEnd] = []
    if left.any() and not until():
        for ended in heartbeat.track_steps(run):
            for episode in ended:
                if left[episode.env]:
                    left[episode.env] -= 1
                    if limit.counts(episode):
                        done.append(episode)
                        if on_episode is not None:
                            on_episode(episode)
            if not left.any() or until():
                break
    limit.report()
    keys = dict.fromkeys([*info_keys, *(key for episode in done for key in episode.infos)])
    return Evaluation(
        np.array([episode.r for episode in done]),
        np.array([episode.length for episode in done]),
        {key: np.array([episode.infos.get(key, np.nan) for episode in done]) for key in keys},
    )


def check_spaces(model: Model, env: envs.AnyEnvs, name: str = "env") -> None:
    """Raises ValueError if the model was made for other spaces than the environment's."""
    pairs = (
        ("observation", model.observation_space, env.single_observation_space),
        ("action", model.action_space, env.single_action_space),
    )
    for kind, expected, found in pairs:
        if not spaces.same_space(expected, found, model.encoding if kind == "observation" else spaces.ENCODING):
            raise ValueError(
                f"`{name}` has another {kind} space than the model was made for: expected {expected}, found {found}."
            )

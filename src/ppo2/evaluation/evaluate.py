"""Evaluation of a model on whole episodes, with everything about it frozen."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ppo2 import envs, spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import Normaliser
from ppo2.config.info_keys import end_keys, entries
from ppo2.distributed import World, heartbeat, processes
from ppo2.envs.device.env import DeviceEnv, DeviceVector, EnvCarry, initial_carry, is_device_env, unroll
from ppo2.envs.device.info import recorded_keys
from ppo2.envs.host.env_types import AnyVectorEnv
from ppo2.envs.host.stepper import Stepper
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.numerics.randomness import Purpose, environment_keys, root_key

NDArray = np.ndarray[Any, Any]

DEVICE_NUM_ENVS = 64
"""Device environments to evaluate on, unless the caller says how many."""
LOOK_EVERY = 128
"""Steps on the device between two looks at which episodes are over."""

Steps: TypeAlias = tuple[
    EnvCarry, Float[Array, "T N"], Int[Array, "T N"], Float[Array, "T N k"], Bool[Array, "T N"] | None
]
"""The environments after some steps; returns, lengths and numbers of `info` of the episodes that ended in each; states
without a legal action, where there are masks."""


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
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())


class EpisodeEnd(NamedTuple):
    """An episode that ended: its environment's index here, return, length, and numbers of its last `info`."""

    env: int
    r: float
    length: int
    infos: Mapping[str, float]


def evaluate(
    model: Model,
    env: Any,
    episodes: int = 100,
    deterministic: bool = True,
    seed: int = 0,
    num_envs: int | None = None,
    info_keys: Sequence[str] | None = None,
) -> Evaluation:
    """Runs whole episodes. The normaliser is frozen and the model's random streams are left alone.

    Every environment gets an equal quota of episodes, fixed beforehand: counting the first to finish would favour
    short ones.

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

    Raises:
        ValueError: `episodes` below 1, `env` can't be made, or has other spaces than the model.
    """
    if episodes < 1:
        raise ValueError(f"`episodes` (={episodes}) must be at least 1.")
    keys = model.config.info_keys if info_keys is None else entries("info_keys", info_keys)
    if info_keys is None and isinstance(env, HostVectorEnv):
        keys = env.info_keys
    count = num_envs if num_envs is not None else side_by_side(env, episodes)
    made = envs.resolve(env, count, info_keys=keys)
    try:
        check_spaces(model, made.env)
        return run_episodes(model, made.env, episodes=episodes, deterministic=deterministic, seed=seed, info_keys=keys)
    finally:
        if made.owned:
            made.env.close()


def side_by_side(env: Any, episodes: int) -> int | None:
    """The number of environments to evaluate on, for `env` in any form that `learn` takes; None if it has its own."""
    on_device = is_device_env(env) or (isinstance(env, str) and envs.adapter_of(env) is not None)
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
    until: Callable[[], bool] = _never,
    share: World = processes.ALONE,
) -> Evaluation:
    """Evaluates as `evaluate` does, on environments that are known to fit.

    Args:
        info_keys: see `evaluate`.
        until: called again and again; where it returns True, there are no more episodes.
        share: this process's part: of P processes with as many environments each, all of which evaluate.
    """
    total = env.num_envs * share.size
    quota = np.full(total, episodes // total) + (np.arange(total) < episodes % total)
    mine = share.part(total)
    left, first = quota[mine].copy(), mine.start
    if isinstance(env, DeviceVector):
        run = _run_on_device(model, env, first, deterministic, seed, left, info_keys)
    else:
        run = _run_on_host(model, env, first, deterministic, seed, info_keys)
    done: list[EpisodeEnd] = []
    if left.any() and not until():
        for ended in heartbeat.track_steps(run):
            for episode in ended:
                if left[episode.env]:
                    left[episode.env] -= 1
                    done.append(episode)
            if not left.any() or until():
                break
    keys = dict.fromkeys([*info_keys, *(key for episode in done for key in episode.infos)])
    return Evaluation(
        np.array([episode.r for episode in done]),
        np.array([episode.length for episode in done]),
        {key: np.array([episode.infos.get(key, np.nan) for episode in done]) for key in keys},
    )


def _run_on_host(
    model: Model, env: AnyVectorEnv, first: int, deterministic: bool, seed: int, info_keys: Sequence[str]
) -> Iterator[Sequence[EpisodeEnd]]:
    """The episodes that end in each step; global index `first` is that of the first environment."""
    stepper = Stepper(env, model.distribution, info_keys=info_keys)
    keys = end_keys(stepper.info_keys)
    key = root_key(seed, Purpose.EVALUATE)
    nenvs = env.num_envs
    returns, lengths = np.zeros(nenvs), np.zeros(nenvs, int)
    obs = stepper.reset(seed, Purpose.EVALUATE, first=first)
    recurrent_state = model.initial_state(nenvs)
    episode_starts = np.ones(nenvs, bool) if model.is_recurrent else None
    for count in itertools.count():
        result = model.act_on(obs, key, count, recurrent_state, episode_starts)
        if result.no_legal_action is not None:
            spaces.check_legal(np.asarray(result.no_legal_action) & ~stepper.resetting, "`env`", f", at step {count}")
        step = stepper.step(jax.device_get(result.mode if deterministic else result.sampled))
        obs, recurrent_state = step.obs, result.recurrent_state
        if episode_starts is not None:
            episode_starts = step.episode_starts
        returns += np.where(step.valid, step.rewards, 0.0)
        lengths += step.valid
        ends = step.terminated | step.truncated
        # an episode in which its environment failed doesn't count
        counts, r, length, infos = ends & step.valid, returns, lengths, np.zeros((nenvs, 0))
        if step.ends is not None:
            own, infos = step.ends.counts, step.ends.infos
            counts = np.where(own, step.ends.lengths > 0, counts)
            r, length = np.where(own, step.ends.returns, r), np.where(own, step.ends.lengths, length)
        yield [
            EpisodeEnd(i, float(r[i]), int(length[i]), _known(keys, infos[i])) for i in np.flatnonzero(counts).tolist()
        ]
        returns[ends], lengths[ends] = 0.0, 0


def _known(keys: Sequence[str], numbers: NDArray) -> dict[str, float]:
    """The numbers that are some, by key."""
    return {key: value for key, value in zip(keys, numbers.tolist(), strict=False) if not math.isnan(value)}


def _run_on_device(
    model: Model,
    env: DeviceVector,
    first: int,
    deterministic: bool,
    seed: int,
    left: NDArray,
    info_keys: Sequence[str],
) -> Iterator[Sequence[EpisodeEnd]]:
    """The episodes that end between two looks of the host; `left` says which environments have any to play."""
    key = root_key(seed, Purpose.EVALUATE)
    running = jax.device_put(initial_carry(env.env, env.num_envs, model.initial_state(env.num_envs)))
    keys = program(model, recorded_keys, env.env, tuple(info_keys), False)
    steps = program(model, _steps_program, env.env, deterministic, keys)
    indices = np.arange(first, first + env.num_envs, dtype=np.int32)
    for count in itertools.count():
        running, *ends, no_legal_action = steps(
            model.state.params, model.state.normaliser, running, key, np.uint32(count), indices
        )
        if no_legal_action is not None:
            when = np.argmax(np.asarray(no_legal_action), axis=0)
            here = np.asarray(no_legal_action).any(axis=0) & (left > 0)
            spaces.check_legal(here, "`env`", f", at step {count * LOOK_EVERY + when[np.argmax(here)]}")
        returns, lengths, infos = map(np.asarray, ends)
        yield [
            EpisodeEnd(int(i), float(returns[t, i]), int(lengths[t, i]), _known(keys, infos[t, i]))
            for t, i in np.argwhere(lengths)
        ]


def _steps_program(
    model: Model, env: DeviceEnv, deterministic: bool, info_keys: tuple[str, ...]
) -> Callable[..., Steps]:
    masked = spaces.is_masked(model.observation_space)

    def steps(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        running: EnvCarry,
        key: PRNGKeyArray,
        count: Int[Array, ""],
        indices: Int[Array, " N"],
    ) -> Steps:
        policy = model.policy_of(params)
        act_keys, env_keys = environment_keys(key, (Purpose.ACT, Purpose.ENV), count, indices)
        noise = model.acting_noise(act_keys, LOOK_EVERY)

        def act(obs: Array, now: Array, recurrent_state: Any, episode_starts: Array) -> tuple[PyTree[Array], Any]:
            obs = normaliser.on_device(obs)
            if not deterministic:
                drawn = model.step_noise(act_keys, now)
                return policy.act(normaliser, obs, drawn, recurrent_state, episode_starts)
            output = policy(normaliser, obs, recurrent_state, episode_starts)
            return output.distribution.mode(), output.recurrent_state

        running, step = unroll(env, act, running, noise, env_keys, model.distribution, info_keys)
        no_legal_action = model.distribution.none_legal(step.obs["action_mask"]) if masked else None
        return running, step.returns, step.lengths, step.infos, no_legal_action

    return jax.jit(steps, donate_argnums=2)


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

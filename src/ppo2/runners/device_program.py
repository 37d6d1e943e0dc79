"""The compiled programs of the device's runner: collecting a rollout, and several updates with their rollouts."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ppo2.agent.model import Model
from ppo2.algorithm.faults import FaultKind, only_finite
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.envs.device.env import DeviceEnv
from ppo2.envs.device.unroll import EnvCarry, initial_carry, unroll
from ppo2.numerics import sharding
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, environment_keys
from ppo2.numerics.sharding import BY_ENV, ONE_DEVICE, REPLICATED, Compiled, DataAxis
from ppo2.runners.chunk import CHUNK_SPECS, Chunk
from ppo2.runners.ends import Ends, UpdateEpisodes, handed_over
from ppo2.runners.experience import Experience, complete
from ppo2.runners.rollout_ends import carried_returns, final_values


class EnvState(NamedTuple):
    """The state of environments between two rollouts.

    | field | shape | meaning |
    |---|---|---|
    | running | (N, ...) | what the next steps go on from |
    | running_returns | (N,) | discounted sum of the running episodes' rewards |
    | rollouts | (1,) | number of rollouts so far, for each device |
    """

    running: EnvCarry
    running_returns: Float[Array, " N"]
    rollouts: Int[Array, "1"]


def start(env: DeviceEnv, model: Model, nenvs: int, rollouts: int, devices: int = 1) -> EnvState:
    """Environments before their first episodes, which differ by the number of rollouts so far; arrays of the host."""
    numbers: Any = (np.zeros(nenvs, np.float32), np.full(devices, rollouts, np.uint32))
    return EnvState(initial_carry(env, nenvs, model.initial_state(nenvs)), *numbers)


def collect(
    model: Model,
    env: DeviceEnv,
    state: TrainState,
    envs: EnvState,
    gamma: Float[Array, ""],
    lam: Float[Array, ""],
    *,
    steps: int,
    info_keys: tuple[str, ...] = (),
    axis: DataAxis = ONE_DEVICE,
) -> tuple[EnvState, Rollout, Ends]:
    """The next `steps` steps of this device's N environments; pure. For `info_keys` see `unroll`."""
    nenvs = envs.running_returns.shape[0]
    indices = axis.index * nenvs + jnp.arange(nenvs, dtype=jnp.int32)  # global
    length = steps // model.sequences_per_env(steps, nenvs * axis.devices)
    count = envs.rollouts[0]
    act_keys, env_keys = environment_keys(state.key, (Purpose.ACT, Purpose.ENV), count, indices)
    noise = model.acting_noise(act_keys, steps)
    policy, normaliser = model.policy_of(state.params), state.normaliser
    running, step = unroll(
        env,
        lambda obs, now, *more: policy.act(
            normaliser, normaliser.on_device(obs), model.step_noise(act_keys, now), *more
        ),
        envs.running,
        noise,
        env_keys,
        model.distribution,
        info_keys,
    )
    step = step._replace(obs=normaliser.on_device(step.obs), next_obs=normaliser.on_device(step.next_obs))
    before = envs.running.recurrent_state
    experience = Experience(
        obs=step.obs,
        actions=step.actions,
        rewards=step.rewards,
        terminated=step.terminated,
        truncated=step.truncated,
        valid=jnp.ones(step.rewards.shape, bool),
        episode_starts=None if before is None else step.episode_starts,
        recurrent_state=jax.tree.map(
            lambda first, after: jnp.concatenate([first[None], after[length - 1 : -1 : length]]),
            before,
            step.recurrent_state,
        ),
        running_returns=envs.running_returns,
        gamma=gamma,
        lam=lam,
    )
    rollout = complete(model, state.params, normaliser, experience, *final_values(model, state, step))
    after = EnvState(running, carried_returns(envs.running_returns, step, gamma), envs.rollouts + 1)
    return after, rollout, Ends(step.returns, step.lengths, step.infos)


Iteration = tuple[TrainState, EnvState, Chunk]
"""The model, the environments and what came of the updates of a chunk so far."""


def iterate(
    model: Model,
    env: DeviceEnv,
    state: TrainState,
    envs: EnvState,
    hypers: Hyperparameters,
    count: Int[Array, ""],
    discount: tuple[Float[Array, ""], Float[Array, ""]],
    *,
    steps: int,
    halt_on: frozenset[FaultKind],
    stops: bool = True,
    info_keys: tuple[str, ...] = (),
    monitor_limit: int | None,
    axis: DataAxis = ONE_DEVICE,
) -> Iteration:
    """`count` times a rollout and `Model.update`; pure.

    Args:
        hypers: for each of at most K updates, (K,), of which `count` are made.
        count: traced, so that any number up to K takes the one program, and the bits don't depend on how updates are
            divided into chunks.
        discount: gamma and lambda.
        info_keys: see `unroll`.
        monitor_limit: see `handed_over`.
        halt_on: faults that end training: the first of them is reported rather than one before it.
        stops: no further update is made after such a fault; False suits many runs in one program, which end together.
    """

    def one_update(so_far: Iteration) -> Iteration:
        state, envs, chunk = so_far
        envs, rollout, ends = collect(model, env, state, envs, *discount, steps=steps, info_keys=info_keys, axis=axis)
        hyper = jax.tree.map(lambda x: x[chunk.done], hypers)
        state, stats = only_finite(state, *model.update(state, rollout, hyper, axis))
        # A subclass may return other types, but a loop's must stay the same.
        stats = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), stats, UpdateStats.blank())
        return state, envs, chunk.with_update(stats, handed_over(ends, monitor_limit, axis), halt_on)

    def goes_on(so_far: Iteration) -> Bool[Array, ""]:
        chunk = so_far[2]
        unfinished = chunk.done < count
        return unfinished & ~chunk.halted if stops else unfinished

    nenvs = len(envs.running_returns)
    ended = UpdateEpisodes.empty(len(hypers.lr), steps, nenvs, len(info_keys), monitor_limit, axis)
    made: Iteration = jax.lax.while_loop(goes_on, one_update, (state, envs, Chunk.empty(ended)))
    return made


def rollout_program(
    model: Model, env: DeviceEnv, axis: DataAxis, steps: int, info_keys: tuple[str, ...], monitor_limit: int | None
) -> Compiled:
    """`collect`, compiled, which gives the episodes as `handed_over` does."""

    def collected(state: TrainState, envs: EnvState, *discount: Any) -> tuple[EnvState, Rollout, UpdateEpisodes]:
        after, rollout, ends = collect(model, env, state, envs, *discount, steps=steps, info_keys=info_keys, axis=axis)
        return after, rollout, handed_over(ends, monitor_limit, axis)

    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED), (BY_ENV, ROLLOUT_SPECS, BY_ENV)
    return compiled(sharding.over_blocks(collected, axis, into, out), donate_argnums=1)


def iterate_program(
    model: Model,
    env: DeviceEnv,
    axis: DataAxis,
    steps: int,
    halt_on: frozenset[FaultKind],
    info_keys: tuple[str, ...],
    monitor_limit: int | None,
) -> Compiled:
    """`iterate`, compiled."""
    iterated = functools.partial(
        iterate,
        model,
        env,
        steps=steps,
        halt_on=halt_on,
        info_keys=info_keys,
        monitor_limit=monitor_limit,
        axis=axis,
    )
    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED, REPLICATED), (REPLICATED, BY_ENV, CHUNK_SPECS)
    return compiled(sharding.over_blocks(iterated, axis, into, out), donate_argnums=(0, 1))

"""The compiled programs of the device's runner: collecting a rollout, and several updates with their rollouts."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ppo2.agent.model import Model
from ppo2.algorithm.faults import FATAL, Fault, FaultKind, only_finite
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.envs.device.env import DeviceEnv, EnvCarry, initial_carry, unroll
from ppo2.numerics import sharding
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, environment_keys
from ppo2.numerics.sharding import BY_ENV, BY_STEP, BY_UPDATE, ONE_DEVICE, REPLICATED, Compiled, DataAxis
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


class Ends(NamedTuple):
    """Returns and lengths (steps) of the episodes that ended at each step, (T, N); the length is 0 where none did.
    `infos` are numbers of `info` at all steps.
    """

    returns: Float[Array, "T N"]
    lengths: Int[Array, "T N"]
    infos: Float[Array, "T N k"]


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


class Chunk(NamedTuple):
    """The outcome of several updates in one program.

    | field | shape | meaning |
    |---|---|---|
    | done | () | updates that were made: fewer than asked for where a fault stopped them |
    | stats | | of the last of them |
    | halted | () | True if one met a fault that ends training |
    | fault, faulty | | that fault, else the first of all, and at which of the updates, counted from 0 |
    | ends | (K, T, N) | of the episodes, by update |
    """

    done: Int[Array, ""]
    stats: UpdateStats
    halted: Bool[Array, ""]
    fault: Fault
    faulty: Int[Array, ""]
    ends: Ends

    def with_update(self, stats: UpdateStats, ends: Ends, halt_on: frozenset[FaultKind]) -> "Chunk":
        """The chunk after one more update."""
        halts = jnp.isin(stats.fault, np.array(sorted(halt_on), np.int32))
        is_first = (self.fault.kind == FaultKind.NONE) & (stats.fault != FaultKind.NONE)
        reported = ~self.halted & (halts | is_first)
        fault, faulty = jax.tree.map(
            lambda now, before: jnp.where(reported, now, before),
            (Fault(stats.fault, stats.fault_index), self.done),
            (self.fault, self.faulty),
        )
        return Chunk(
            done=self.done + 1,
            stats=stats,
            halted=self.halted | halts,
            fault=fault,
            faulty=faulty,
            ends=jax.tree.map(lambda all_, now: all_.at[self.done].set(now), self.ends, ends),
        )


CHUNK_SPECS = Chunk(**dict.fromkeys(Chunk._fields, REPLICATED) | {"ends": BY_UPDATE})  # type: ignore[arg-type]
"""Partition of a chunk's fields over devices."""

HALTING = {"raise": frozenset(FaultKind) - {FaultKind.NONE}, "skip": FATAL}
"""The faults that end a chunk, by `on_nonfinite`."""


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
    axis: DataAxis = ONE_DEVICE,
) -> Iteration:
    """`count` times a rollout and `Model.update`; pure.

    Args:
        hypers: for each of at most K updates, (K,), of which `count` are made.
        count: traced, so that any number up to K takes the one program, and the bits don't depend on how updates are
            divided into chunks.
        discount: gamma and lambda.
        info_keys: see `unroll`.
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
        return state, envs, chunk.with_update(stats, ends, halt_on)

    def goes_on(so_far: Iteration) -> Bool[Array, ""]:
        chunk = so_far[2]
        unfinished = chunk.done < count
        return unfinished & ~chunk.halted if stops else unfinished

    shape, zero, blank = (len(hypers.lr), steps, len(envs.running_returns)), jnp.int32(0), UpdateStats.blank()
    ends = Ends(
        jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32), jnp.zeros((*shape, len(info_keys)), jnp.float32)
    )
    empty = Chunk(done=zero, stats=blank, halted=jnp.bool_(False), fault=Fault(zero, zero), faulty=zero, ends=ends)
    made: Iteration = jax.lax.while_loop(goes_on, one_update, (state, envs, empty))
    return made


CHUNK_SECONDS = 1.0
"""Seconds of a chunk, about: how often the host can log, save or stop."""
CHUNK_BYTES = 2**24
"""Largest size of a chunk's ends, which are cleared and copied for every chunk."""
MOST_UPDATES = 512


class ChunkSize:
    """The number of updates in a chunk: as many as take about a second, and have room.

    Args:
        steps: timesteps of an update.
        log_interval: no chunk goes beyond a row of the log.
        numbers: numbers of a step that are handed on: an episode's return and length, and those of `info`.

    Attributes:
        capacity: most updates of a chunk.
        seconds: time of the last update; infinite before the first.
    """

    def __init__(self, steps: int, log_interval: int, numbers: int = 2) -> None:
        self.capacity = max(1, min(MOST_UPDATES, log_interval, CHUNK_BYTES // (4 * numbers * steps)))
        self.seconds = np.inf

    @property
    def updates(self) -> int:
        """The number of updates to ask for next."""
        return max(1, min(self.capacity, int(CHUNK_SECONDS / self.seconds)))

    def stack(self, hypers: Sequence[Hyperparameters]) -> Hyperparameters:
        """Numbers of several updates, (capacity,), filled up with the last of them."""
        padding = (0, self.capacity - len(hypers))
        stacked: Hyperparameters = jax.tree.map(
            lambda *x: np.pad(np.array(x, np.float32), padding, mode="edge"), *hypers
        )
        return stacked


def rollout_program(model: Model, env: DeviceEnv, axis: DataAxis, steps: int, info_keys: tuple[str, ...]) -> Compiled:
    """`collect`, compiled."""
    collected = functools.partial(collect, model, env, steps=steps, info_keys=info_keys, axis=axis)
    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED), (BY_ENV, ROLLOUT_SPECS, BY_STEP)
    return compiled(sharding.over_blocks(collected, axis, into, out), donate_argnums=1)


def iterate_program(
    model: Model,
    env: DeviceEnv,
    axis: DataAxis,
    steps: int,
    halt_on: frozenset[FaultKind],
    info_keys: tuple[str, ...],
) -> Compiled:
    """`iterate`, compiled."""
    iterated = functools.partial(iterate, model, env, steps=steps, halt_on=halt_on, info_keys=info_keys, axis=axis)
    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED, REPLICATED), (REPLICATED, BY_ENV, CHUNK_SPECS)
    return compiled(sharding.over_blocks(iterated, axis, into, out), donate_argnums=(0, 1))

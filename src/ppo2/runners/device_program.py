"""The compiled programs of the device's runner: collecting a rollout, and several updates with their rollouts."""

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
from ppo2.envs.device.env import DeviceEnv, DeviceTransition, EnvCarry, initial_carry, unroll
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose, environment_keys
from ppo2.numerics.sharding import BY_ENV, BY_STEP, BY_UPDATE, ONE_DEVICE, REPLICATED, Compiled, DataAxis
from ppo2.runners.experience import Discounting, Experience, complete


class EnvState(NamedTuple):
    """All that a runner carries from one rollout to the next.

    | field | shape | meaning |
    |---|---|---|
    | running | (N, ...) | the environments |
    | running_returns | (N,) | discounted sum of the running episodes' rewards |
    | rollouts | (1,) | how many were collected; one number for each block of environments |
    """

    running: EnvCarry
    running_returns: Float[Array, " N"]
    rollouts: Int[Array, "1"]


class Ends(NamedTuple):
    """Where episodes ended, (T, N): their returns and lengths in steps. The length is 0 where none did."""

    returns: Float[Array, "T N"]
    lengths: Int[Array, "T N"]


def start(env: DeviceEnv, model: Model, nenvs: int, rollouts: int, blocks: int = 1) -> EnvState:
    """Environments about to begin their first episodes, other ones after each number of rollouts; on the host."""
    numbers: Any = (np.zeros(nenvs, np.float32), np.full(blocks, rollouts, np.uint32))
    return EnvState(initial_carry(env, nenvs, model.initial_state(nenvs)), *numbers)


def collect(
    model: Model,
    env: DeviceEnv,
    state: TrainState,
    envs: EnvState,
    indices: Int[Array, " N"],
    *,
    steps: int,
    slices: int,
    gamma: Float[Array, ""],
    lam: Float[Array, ""],
) -> tuple[EnvState, Rollout, Ends]:
    """The next `steps` steps of N environments; pure.

    Args:
        indices: (N,), the environments' global indices.
        slices: see `Model.slices`; nothing without a recurrent policy.
    """
    count = envs.rollouts[0]
    act_keys, env_keys = environment_keys(state.key, (Purpose.ACT, Purpose.ENV), count, indices)
    noise = model.acting_noise(act_keys, steps)
    policy = model.policy_of(state.params)
    running, step = unroll(
        env,
        lambda *of: policy.act(state.normaliser, *of),
        envs.running,
        noise,
        env_keys,
        squash=model.distribution.squashes,
    )
    before, length = envs.running.recurrent_state, steps // slices
    cuts = jax.tree.map(
        lambda first, after: jnp.concatenate([first[None], after[length - 1 : -1 : length]]),
        before,
        step.recurrent_state,
    )
    rollout = complete(
        model,
        state.params,
        state.normaliser,
        Experience(
            obs=step.obs,
            actions=step.actions,
            rewards=step.rewards,
            terminated=step.terminated,
            truncated=step.truncated,
            valid=jnp.ones(step.rewards.shape, bool),
            episode_starts=None if before is None else step.episode_starts,
            recurrent_state=cuts,
        ),
        *final_values(model, state, step),
        Discounting(envs.running_returns, gamma, lam),
    )
    after = EnvState(running, _carried(envs.running_returns, step, gamma), envs.rollouts + 1)
    return after, rollout, Ends(step.returns, step.lengths)


def _carried(returns: Float[Array, " N"], step: DeviceTransition, gamma: Float[Array, ""]) -> Float[Array, " N"]:
    """The discounted sum of the running episodes' rewards after the steps, given it before."""

    def forwards(running: Float[Array, " N"], now: tuple[Array, Array]) -> tuple[Array, None]:
        reward, ended = now
        return jnp.where(ended, 0.0, gamma * running + reward), None

    carried: Float[Array, " N"] = jax.lax.scan(
        forwards, returns, (jnp.where(jnp.isfinite(step.rewards), step.rewards, 0.0), step.terminated | step.truncated)
    )[0]
    return carried


FINAL_BATCH = 256
"""Observations that are looked at together: the policy's cost for a batch hardly falls below."""


def final_values(
    model: Model, state: TrainState, step: DeviceTransition
) -> tuple[Float[Array, "T N"], Bool[Array, "T N"]]:
    """V of what came next where no later step shows it: where episodes were cut short, and after the last step; and
    where that is. In batches, as many as it takes.
    """
    wanted = step.truncated.at[-1].set(True)
    total, nenvs = wanted.size, wanted.shape[1]
    size = min(FINAL_BATCH, nenvs)
    # where that is, in order; beyond the last of them an index that no array has
    where = jnp.nonzero(wanted.ravel(), size=total + size, fill_value=total)[0].astype(jnp.int32)
    # those that follow, and what is remembered at them
    shown = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), (step.next_obs, step.recurrent_state))
    policy, count = model.policy_of(state.params), jnp.sum(wanted)

    def one_batch(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        done, values = carry
        rows = jax.lax.dynamic_slice_in_dim(where, done, size)
        found = policy(state.normaliser, *jax.tree.map(lambda x: x.at[rows].get(mode="clip"), shown)).values
        return done + size, values.at[rows].set(found, mode="drop")

    _, values = jax.lax.while_loop(lambda carry: carry[0] < count, one_batch, (jnp.int32(0), jnp.zeros(total)))
    return values.reshape(wanted.shape), wanted


class Chunk(NamedTuple):
    """What several updates in one program leave behind.

    | field | shape | meaning |
    |---|---|---|
    | done | () | updates that were made: fewer than asked for where a fault stopped them |
    | stats | | of the last of them |
    | halted | () | whether one met a fault that ends training |
    | fault, faulty | | that fault, else the first of all, and at which of the updates, counted from 0 |
    | ends | (K, T, N) | of the episodes, by update |
    """

    done: Int[Array, ""]
    stats: UpdateStats
    halted: Bool[Array, ""]
    fault: Fault
    faulty: Int[Array, ""]
    ends: Ends


CHUNK = Chunk(**dict.fromkeys(Chunk._fields, REPLICATED) | {"ends": BY_UPDATE})  # type: ignore[arg-type]
"""How it lies over devices."""

HALTING = {
    "raise": frozenset(FaultKind) - {FaultKind.NONE},
    "skip": FATAL,
}
"""By `on_nonfinite`: the faults that end a chunk."""


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
    slices: int,
    halt_on: frozenset[FaultKind],
    stops: bool = True,
    axis: DataAxis = ONE_DEVICE,
) -> tuple[TrainState, EnvState, Chunk]:
    """`count` times a rollout and `Model.update`; pure.

    Args:
        hypers: for each update, (K,): room for K updates, of which `count` are made.
        count: traced, so that any number up to K takes the one program, and the bits don't depend on how updates are
            cut into chunks.
        discount: gamma and lambda.
        halt_on: faults that end training: the first of them is told rather than one before it.
        stops: no further update is made after such a fault; False suits many runs in one program, which end together.
    """
    gamma, lam = discount
    capacity = hypers.lr.shape[0]
    nenvs = envs.running_returns.shape[0]
    indices = axis.index * nenvs + jnp.arange(nenvs)

    def update(state: TrainState, envs: EnvState, hyper: Hyperparameters) -> tuple[Any, Ends]:
        envs, rollout, ends = collect(
            model, env, state, envs, indices, steps=steps, slices=slices, gamma=gamma, lam=lam
        )
        state, stats = only_finite(state, *model.update(state, rollout, hyper, axis))
        # whatever a subclass makes of them, they keep their types from update to update
        stats = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), stats, UpdateStats.blank())
        return (state, envs, stats), ends

    class Carry(NamedTuple):
        state: TrainState
        envs: EnvState
        chunk: Chunk

    def body(carry: Carry) -> Carry:
        chunk, i = carry.chunk, carry.chunk.done
        (state, envs, stats), ends = update(carry.state, carry.envs, jax.tree.map(lambda x: x[i], hypers))
        grave = jnp.zeros((), bool)
        for kind in halt_on:
            grave |= stats.fault == kind
        first = (chunk.fault.kind == FaultKind.NONE) & (stats.fault != FaultKind.NONE)
        told = ~chunk.halted & (grave | first)
        fault = Fault(
            jnp.where(told, stats.fault, chunk.fault.kind), jnp.where(told, stats.fault_index, chunk.fault.step)
        )
        written = jax.tree.map(lambda all_, now: all_.at[i].set(now), chunk.ends, ends)
        chunk = Chunk(i + 1, stats, chunk.halted | grave, fault, jnp.where(told, i, chunk.faulty), written)
        return Carry(state, envs, chunk)

    shape = (capacity, steps, nenvs)
    zero = jnp.int32(0)
    nothing = Chunk(
        done=zero,
        stats=jax.tree.map(jnp.asarray, UpdateStats.blank()),
        halted=jnp.zeros((), bool),
        fault=Fault(zero, zero),
        faulty=zero,
        ends=Ends(jnp.zeros(shape), jnp.zeros(shape, jnp.int32)),
    )

    def goes_on(carry: Carry) -> Bool[Array, ""]:
        unfinished = carry.chunk.done < count
        return unfinished & ~carry.chunk.halted if stops else unfinished

    last = jax.lax.while_loop(goes_on, body, Carry(state, envs, nothing))
    return last.state, last.envs, last.chunk


CHUNK_SECONDS = 1.0  # a look from the host at least so often
CHUNK_BYTES = 2**24  # what telling of episodes may take, cleared and copied at every look
MOST_UPDATES = 512


def chunk_capacity(steps: int, log_interval: int) -> int:
    """For how many updates, each of so many timesteps, a chunk has room."""
    return max(1, min(MOST_UPDATES, log_interval, CHUNK_BYTES // (8 * steps)))


def stack_hyperparameters(hypers: Sequence[Hyperparameters], capacity: int) -> Hyperparameters:
    """(K,), the last of them again and again to fill up."""

    def filled(*numbers: Any) -> np.ndarray[Any, Any]:
        return np.pad(np.array(numbers, np.float32), (0, capacity - len(numbers)), mode="edge")

    stacked: Hyperparameters = jax.tree.map(filled, *hypers)
    return stacked


def rollout_program(model: Model, env: DeviceEnv, axis: DataAxis, steps: int, slices: int) -> Compiled:
    def rollout(
        state: TrainState, envs: EnvState, gamma: Float[Array, ""], lam: Float[Array, ""]
    ) -> tuple[EnvState, Rollout, Ends]:
        nenvs = envs.running_returns.shape[0]
        indices = axis.index * nenvs + jnp.arange(nenvs)
        return collect(model, env, state, envs, indices, steps=steps, slices=slices, gamma=gamma, lam=lam)

    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED), (BY_ENV, ROLLOUT_SPECS, BY_STEP)
    return jax.jit(sharding.over_blocks(rollout, axis, into, out), donate_argnums=1)


def iterate_program(
    model: Model, env: DeviceEnv, axis: DataAxis, steps: int, slices: int, halt_on: frozenset[FaultKind]
) -> Compiled:
    def iterated(*arguments: Any) -> tuple[TrainState, EnvState, Chunk]:
        return iterate(model, env, *arguments, steps=steps, slices=slices, halt_on=halt_on, axis=axis)

    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED, REPLICATED), (REPLICATED, BY_ENV, CHUNK)
    return jax.jit(sharding.over_blocks(iterated, axis, into, out), donate_argnums=(0, 1))

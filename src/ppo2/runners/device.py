"""Collecting experience from device environments, and training on them, without leaving the device."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.faults import FATAL, Fault, FaultKind, only_finite
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.tensors import RUNNER
from ppo2.distributed import heartbeat
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import DeviceEnv, DeviceTransition, EnvCarry, initial_carry, is_device_env, unroll
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose, environment_keys
from ppo2.numerics.sharding import BY_ENV, BY_STEP, BY_UPDATE, ONE_DEVICE, REPLICATED, Compiled, DataAxis
from ppo2.runners.episodes import Ended, Episode
from ppo2.runners.experience import Discounting, Experience, complete
from ppo2.runners.snapshot import Snapshot, facts_of, named, taken


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


class DeviceRunner:
    """Steps device environments with a model's policy, in compiled programs.

    The environments are split over the devices as `model.config.shards` allows.

    Args:
        env: the environment.
        num_envs: how many of it.
        model: acts; its key seeds the environments.
        nsteps: steps of each environment in a rollout.
        gamma, lam: discount per step and GAE's lambda, passed on in the rollout.
        checked: `env` is known to keep its contract; else it is traced to see whether it does.

    Raises:
        ValueError: `env` breaks its contract: see `ppo2.envs.device.check`.
    """

    def __init__(
        self,
        *,
        env: DeviceEnv,
        num_envs: int,
        model: Model,
        nsteps: int,
        gamma: float,
        lam: float,
        checked: bool = False,
    ) -> None:
        if not is_device_env(env):
            raise TypeError(
                f"`env` (={env!r}) must be a device environment (observation_space, action_space, reset(key), "
                "step(state, action, key)), such as ppo2.make('gymnax:CartPole-v1') gives."
            )
        if not checked:
            check_device_env(env)
        if num_envs < 1:
            raise ValueError(f"`num_envs` (={num_envs}) must be at least 1.")
        if num_envs % model.config.shards:
            raise ValueError(
                f"`num_envs` (={num_envs}) must be a multiple of the model's shards ({model.config.shards})."
            )
        self.env = env
        self.model = model
        self.nsteps = nsteps
        self.nenvs = num_envs
        self.gamma, self.lam = np.float32(gamma), np.float32(lam)
        self.rollouts = 0
        self.axis = sharding.split_for(model.config.shards, devices=model.config.devices)
        if num_envs % self.axis.processes:
            raise ValueError(
                f"`num_envs` (={num_envs}) must be a multiple of the number of processes ({self.axis.processes})."
            )
        self._mine = num_envs // self.axis.processes
        # No chunk goes beyond a row of the log.
        self._capacity = chunk_capacity(nsteps * num_envs, model.config.log_interval)
        self._envs: EnvState | None = None
        self._epoch = time.perf_counter()
        self._seconds_per_update = np.inf
        self._ended: list[Ended] = []
        self._steps = 0  # of each environment, since these were last told of

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: another number of steps; compiles a program for it.
        """
        steps = self.nsteps if steps is None else steps
        collected = program(self.model, _rollout_program, self.env, self.axis, steps, self.model.slices(steps))
        began = time.perf_counter()
        rollout: Rollout
        discount = sharding.to_global((self.gamma, self.lam), self.axis, REPLICATED)
        self._envs, rollout, ends = collected(*self._placed(), *discount)
        rollout, ends = sharding.to_local((rollout, ends), self.axis, (ROLLOUT_SPECS, BY_STEP))
        self._count(jax.tree.map(lambda x: np.asarray(x)[None], ends), began)
        self.rollouts += 1
        return rollout

    def look_after_every_update(self) -> None:
        """From now on, a look from the host after every update."""
        self._capacity = 1

    def most_updates(self) -> int:
        """How many updates to ask `iterate` for at most: as many as take about a second."""
        return max(1, min(self._capacity, int(CHUNK_SECONDS / self._seconds_per_update)))

    def iterate(self, hypers: Sequence[Hyperparameters]) -> Chunk:
        """An update of the model for each of `hypers`, in one program; waits for it.

        Fewer are made where one meets a fault that `on_nonfinite` doesn't skip.
        """
        count = len(hypers)
        assert 0 < count <= self._capacity, (count, self._capacity)
        stacked = stack_hyperparameters(hypers, self._capacity)
        sizes = (self.nsteps, self.model.slices(self.nsteps))
        iterated = program(
            self.model, _iterate_program, self.env, self.axis, *sizes, HALTING[self.model.config.on_nonfinite]
        )
        told = sharding.to_global((stacked, np.int32(count), (self.gamma, self.lam)), self.axis, REPLICATED)
        began = time.perf_counter()
        heartbeat.at_collective(self.axis)
        chunk: Chunk
        state, self._envs, chunk = iterated(*self._placed(), *told)
        self.model.state, chunk = sharding.to_local((state, chunk), self.axis, (REPLICATED, CHUNK))
        done = int(chunk.done)
        self._count(jax.tree.map(lambda x: x[:done], jax.device_get(chunk.ends)), began)
        self._seconds_per_update = (time.perf_counter() - began) / done
        self.rollouts += done
        return chunk

    def mark_learned(self) -> None:
        """Rollouts and what is learned from them are one program here: there is nothing to tell apart."""

    @property
    def layout(self) -> dict[str, int]:
        """What the last bits of its figures depend on, beside the settings."""
        return {"devices": self.axis.devices}  # of all processes, which compute as those of one do

    def snapshot(self) -> Snapshot:
        """The environments, for `resume`."""
        envs = None if self._envs is None else sharding.to_local(self._envs, self.axis, BY_ENV)
        tensors = {} if envs is None else named("envs", (envs.running, envs.running_returns))
        return Snapshot(tensors, {"kind": "device", **self.layout}, self.rollouts)

    def resume(self, saved: Checkpoint) -> list[str]:
        """Takes up environments where a snapshot left them; what can't be as it was, in words.

        Raises:
            ValueError: they are of another environment.
        """
        facts = facts_of(saved)
        if not self.rollouts:
            return []  # nothing had begun
        if facts.get("kind") != "device":
            return [f"{saved.path} doesn't hold the environments: they begin new episodes"]
        first = start(self.env, self.model, self._mine, self.rollouts, self.axis.local_devices)
        if any(name.startswith(RUNNER) for name in saved.tensors):
            running, returns = taken(saved, "envs", (first.running, first.running_returns))
            self._place(EnvState(running, returns, first.rollouts))
        devices = facts.get("devices")
        if devices != self.axis.devices:
            return [
                f"this run shared its work among {devices} devices, and now among {self.axis.devices}: it goes on to "
                "float tolerance, not bit for bit"
            ]
        return []

    def start_clock(self, seconds: float) -> None:
        """Sets the instant (of `time.perf_counter`) from which episodes' times count; else it is the runner's birth."""
        self._epoch = seconds

    def ended(self) -> list[Ended]:
        """The episodes that ended since the last call, in the order in which they ended. Their times are estimates,
        as nobody looks while a program runs.
        """
        taken, self._ended, self._steps = self._ended, [], 0
        return taken

    def _placed(self) -> tuple[TrainState, EnvState]:
        """The states of model and environments, where the programs expect them."""
        if self._envs is None:
            self._place(start(self.env, self.model, self._mine, self.rollouts, self.axis.local_devices))
        assert self._envs is not None
        return sharding.to_global(self.model.state, self.axis, REPLICATED), self._envs

    def _place(self, envs: EnvState) -> None:
        self._envs = jax.device_put(envs) if self.axis.devices == 1 else sharding.to_global(envs, self.axis, BY_ENV)

    def _count(self, ends: Ends, began: float) -> None:
        """Takes note of the episodes of some updates, (K, T, N), that ran from `began` until now."""
        returns, lengths = (np.asarray(x) for x in ends)
        update, t, env = np.nonzero(lengths)
        updates, steps, _ = lengths.shape
        passed = (update * steps + t + 1) / (updates * steps)
        now = time.perf_counter()
        seconds = began - self._epoch + passed * (now - began)
        index = env + sharding.first_environment(self._mine)
        rows = (returns[update, t, env], lengths[update, t, env], seconds.round(6), index)
        episodes = map(Episode, *(column.tolist() for column in rows))
        self._ended += map(Ended, (self._steps + update * steps + t).tolist(), episodes)
        self._steps += updates * steps


def _rollout_program(model: Model, env: DeviceEnv, axis: DataAxis, steps: int, slices: int) -> Compiled:
    def rollout(
        state: TrainState, envs: EnvState, gamma: Float[Array, ""], lam: Float[Array, ""]
    ) -> tuple[EnvState, Rollout, Ends]:
        nenvs = envs.running_returns.shape[0]
        indices = axis.index * nenvs + jnp.arange(nenvs)
        return collect(model, env, state, envs, indices, steps=steps, slices=slices, gamma=gamma, lam=lam)

    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED), (BY_ENV, ROLLOUT_SPECS, BY_STEP)
    return jax.jit(sharding.over_blocks(rollout, axis, into, out), donate_argnums=1)


def _iterate_program(
    model: Model, env: DeviceEnv, axis: DataAxis, steps: int, slices: int, halt_on: frozenset[FaultKind]
) -> Compiled:
    def iterated(*arguments: Any) -> tuple[TrainState, EnvState, Chunk]:
        return iterate(model, env, *arguments, steps=steps, slices=slices, halt_on=halt_on, axis=axis)

    into, out = (REPLICATED, BY_ENV, REPLICATED, REPLICATED, REPLICATED), (REPLICATED, BY_ENV, CHUNK)
    return jax.jit(sharding.over_blocks(iterated, axis, into, out), donate_argnums=(0, 1))

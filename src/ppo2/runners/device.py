"""Collecting rollouts from device environments, and training on them, without leaving the device."""

import time
from collections.abc import Sequence

import jax
import numpy as np

from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.tensors import RUNNER
from ppo2.distributed import heartbeat
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import DeviceEnv, is_device_env
from ppo2.numerics import sharding
from ppo2.numerics.sharding import BY_ENV, BY_STEP, REPLICATED
from ppo2.runners.device_program import (
    CHUNK_SECONDS,
    CHUNK_SPECS,
    HALTING,
    Chunk,
    Ends,
    EnvState,
    chunk_capacity,
    iterate_program,
    rollout_program,
    stack_hyperparameters,
    start,
)
from ppo2.runners.episodes import Ended, Episode
from ppo2.runners.snapshot import Snapshot, facts_of, named, taken


class DeviceRunner:
    """Steps device environments with a model's policy, in compiled programs.

    The environments are split over the devices as `model.config.shards` allows.

    Args:
        env: the environment.
        num_envs: number of environments.
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
        self._steps = 0  # of each environment since the last call of `ended`

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: another number of steps; compiles a program for it.
        """
        steps = self.nsteps if steps is None else steps
        collected = program(self.model, rollout_program, self.env, self.axis, steps)
        began = time.perf_counter()
        rollout: Rollout
        discount = sharding.to_global((self.gamma, self.lam), self.axis, REPLICATED)
        self._envs, rollout, ends = collected(*self._placed(), *discount)
        rollout, ends = sharding.to_local((rollout, ends), self.axis, (ROLLOUT_SPECS, BY_STEP))
        self._count(jax.tree.map(lambda x: np.asarray(x)[None], ends), began)
        self.rollouts += 1
        return rollout

    def look_after_every_update(self) -> None:
        """Has `most_updates` give 1 from now on."""
        self._capacity = 1

    def most_updates(self) -> int:
        """The most updates to ask `iterate` for: as many as take about a second."""
        return max(1, min(self._capacity, int(CHUNK_SECONDS / self._seconds_per_update)))

    def iterate(self, hypers: Sequence[Hyperparameters]) -> Chunk:
        """An update of the model for each of `hypers`, in one program; waits for it.

        Fewer are made where one meets a fault that `on_nonfinite` doesn't skip.
        """
        count = len(hypers)
        assert 0 < count <= self._capacity, (count, self._capacity)
        stacked = stack_hyperparameters(hypers, self._capacity)
        iterated = program(
            self.model, iterate_program, self.env, self.axis, self.nsteps, HALTING[self.model.config.on_nonfinite]
        )
        told = sharding.to_global((stacked, np.int32(count), (self.gamma, self.lam)), self.axis, REPLICATED)
        began = time.perf_counter()
        heartbeat.at_collective(self.axis)
        chunk: Chunk
        state, self._envs, chunk = iterated(*self._placed(), *told)
        self.model.state, chunk = sharding.to_local((state, chunk), self.axis, (REPLICATED, CHUNK_SPECS))
        done = int(chunk.done)
        self._count(jax.tree.map(lambda x: x[:done], jax.device_get(chunk.ends)), began)
        self._seconds_per_update = (time.perf_counter() - began) / done
        self.rollouts += done
        return chunk

    def mark_learned(self) -> None:
        """See `RolloutRunner`; nothing to do, as a rollout and learning from it are one program."""

    @property
    def layout(self) -> dict[str, int]:
        return {"devices": self.axis.devices}  # of all processes, which compute as those of one do

    def snapshot(self) -> Snapshot:
        envs = None if self._envs is None else sharding.to_local(self._envs, self.axis, BY_ENV)
        tensors = {} if envs is None else named("envs", (envs.running, envs.running_returns))
        return Snapshot(tensors, {"kind": "device", **self.layout}, self.rollouts)

    def resume(self, saved: Checkpoint) -> list[str]:
        """See `RolloutRunner`.

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
        self._epoch = seconds

    def ended(self) -> list[Ended]:
        """See `RolloutRunner`. Their times are estimates, as nobody looks while a program runs."""
        taken, self._ended, self._steps = self._ended, [], 0
        return taken

    def _placed(self) -> tuple[TrainState, EnvState]:
        """The states of model and environments, on the devices of the programs."""
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

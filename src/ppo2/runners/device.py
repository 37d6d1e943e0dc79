"""Collecting rollouts from device environments, and training on them, without leaving the device."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import jax
import numpy as np

from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.distributed import heartbeat
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import DeviceEnv, is_device_env
from ppo2.envs.device.info import recorded_keys
from ppo2.numerics import sharding
from ppo2.numerics.compilation import transfers_allowed
from ppo2.numerics.sharding import BY_ENV, REPLICATED
from ppo2.runners.chunk import CHUNK_SPECS, HALTING, Chunk, ChunkSize
from ppo2.runners.device_program import EnvState, iterate_program, rollout_program, start
from ppo2.runners.ends import UpdateEpisodes, slot_bytes, to_ended
from ppo2.runners.episodes import Ended, EpisodeQueue
from ppo2.runners.snapshot import Snapshot, facts_of, layout_changes, named, snapshot_tensors, taken
from ppo2.system import runtime
from ppo2.system.garbage import collection_put_off

P = ParamSpec("P")
R = TypeVar("R")


def where_it_learns(method: "Callable[Concatenate[DeviceRunner, P], R]") -> "Callable[Concatenate[DeviceRunner, P], R]":
    """A method that computes where the model learns."""

    @functools.wraps(method)
    def placed(self: "DeviceRunner", *args: P.args, **kwargs: P.kwargs) -> R:
        with self.model.learning():
            return method(self, *args, **kwargs)

    return placed  # type: ignore[return-value]


class DeviceRunner:
    """Steps device environments with a model's policy, in compiled programs.

    The environments are split over the devices as `model.config.shards` allows.

    Args:
        env: the environment.
        num_envs: number of its copies.
        model: acts; its key seeds the environments.
        nsteps: see `Runner`.
        gamma: see `Runner`.
        lam: see `Runner`.
        checked: `env` is known to keep its contract; else it is traced to see whether it does.

    Attributes:
        chunk_size: the number of updates to ask `iterate` for.

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
        shards = model.config.shards
        if num_envs < 1 or num_envs % shards:
            raise ValueError(f"`num_envs` (={num_envs}) must be a multiple of the model's shards ({shards}), above 0.")
        self.env = env
        self.model = model
        self.nsteps = nsteps
        self.nenvs = num_envs
        self.gamma, self.lam = np.float32(gamma), np.float32(lam)
        self.rollouts = 0
        with model.learning():
            self.axis = sharding.split_for(shards, devices=model.config.devices)
        self._mine = num_envs // self.axis.processes
        self.info_keys = tuple(model.config.info_keys)
        self._recorded = program(model, recorded_keys, env, self.info_keys, True)
        self._limit = model.config.monitor_limit
        room = slot_bytes(nsteps * num_envs, len(self._recorded), self._limit, self.axis)
        self.chunk_size = ChunkSize(room, model.config.log_interval)
        self._envs: EnvState | None = None
        self._epoch = time.perf_counter()
        self._episodes = EpisodeQueue()

    @transfers_allowed
    @where_it_learns
    @collection_put_off()  # the first call makes a program
    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: another number of steps; compiles a program for it.
        """
        steps = self.nsteps if steps is None else steps
        collected = program(self.model, rollout_program, self.env, self.axis, steps, self._recorded, self._limit)
        began = time.perf_counter()
        rollout: Rollout
        discount = sharding.to_global((self.gamma, self.lam), self.axis, REPLICATED)
        self._envs, rollout, ended = collected(*self._placed(), *discount)
        rollout, ended = sharding.to_local((rollout, ended), self.axis, (ROLLOUT_SPECS, BY_ENV))
        self._count(jax.tree.map(lambda x: x[None], jax.device_get(ended)), steps, began)
        self.rollouts += 1
        return rollout

    @transfers_allowed
    @where_it_learns
    @collection_put_off()
    def iterate(self, hypers: Sequence[Hyperparameters]) -> Chunk:
        """An update of the model for each of `hypers`, at most `chunk_size.capacity`, in one program; waits for it.

        Fewer are made where one meets a fault that `on_nonfinite` doesn't skip.
        """
        iterated = program(
            self.model,
            iterate_program,
            self.env,
            self.axis,
            self.nsteps,
            HALTING[self.model.config.on_nonfinite],
            self._recorded,
            self._limit,
        )
        numbers = (self.chunk_size.stack(hypers), np.int32(len(hypers)), (self.gamma, self.lam))
        numbers = sharding.to_global(numbers, self.axis, REPLICATED)
        began = time.perf_counter()
        heartbeat.at_collective(self.axis)
        chunk: Chunk
        state, self._envs, chunk = iterated(*self._placed(), *numbers)
        self.model.state, chunk = sharding.to_local((state, chunk), self.axis, (REPLICATED, CHUNK_SPECS))
        chunk = jax.device_get(chunk)  # in one go: the only wait for the device
        runtime.updated()
        done = int(chunk.done)
        self.chunk_size.seconds = (time.perf_counter() - began) / done
        self._count(jax.tree.map(lambda x: x[:done], chunk.ended), self.nsteps, began)
        self.rollouts += done
        return chunk._replace(stats=chunk.stats.on_host())

    def mark_learned(self) -> None:
        """See `RolloutRunner`; nothing to do, as a rollout and learning from it are one program."""

    @property
    def layout(self) -> dict[str, int]:
        return {"devices": self.axis.devices}  # of all processes, which compute as those of one do

    @where_it_learns
    def snapshot(self) -> Snapshot:
        envs = None if self._envs is None else sharding.to_local(self._envs, self.axis, BY_ENV)
        tensors = {} if envs is None else named("envs", (envs.running, envs.running_returns))
        return Snapshot(tensors, {"kind": "device", **self.layout}, self.rollouts)

    @where_it_learns
    def resume(self, saved: Checkpoint) -> list[str]:
        """See `RolloutRunner`.

        Raises:
            ValueError: the snapshot is of another environment.
        """
        facts = facts_of(saved)
        if not self.rollouts:
            return []  # the run hadn't begun
        if facts.get("kind") != "device":
            return [f"{saved.path} doesn't hold where the environments were: they begin new episodes"]
        first = start(self.env, self.model, self._mine, self.rollouts, self.axis.local_devices)
        if snapshot_tensors(saved):
            running, returns = taken(saved, "envs", (first.running, first.running_returns))
            self._place(EnvState(running, returns, first.rollouts))
        return layout_changes(facts, self.layout)

    def start_clock(self, seconds: float) -> None:
        self._epoch = seconds

    def ended(self) -> Ended:
        """See `RolloutRunner`. Their times are estimates, as nobody looks while a program runs."""
        return self._episodes.take()

    def _placed(self) -> tuple[TrainState, EnvState]:
        """The states of model and environments, on the devices of the programs."""
        if self._envs is None:
            self._place(start(self.env, self.model, self._mine, self.rollouts, self.axis.local_devices))
        assert self._envs is not None
        return sharding.to_global(self.model.state, self.axis, REPLICATED), self._envs

    def _place(self, envs: EnvState) -> None:
        self._envs = jax.device_put(envs) if self.axis.devices == 1 else sharding.to_global(envs, self.axis, BY_ENV)

    def _count(self, ended: UpdateEpisodes, steps: int, began: float) -> None:
        """Takes note of the episodes of some updates, (U, ...) in arrays of the host, of so many steps each, that ran
        from `began` until now.
        """
        now, total = time.perf_counter(), len(ended.counts) * steps
        passed = np.arange(1, total + 1) / total
        found = to_ended(
            ended,
            self._limit,
            steps=steps,
            nenvs=self.nenvs,
            seconds=began - self._epoch + passed * (now - began),
            info_keys=self._recorded,
            devices=self.axis.local_devices,
        )
        self._episodes.extend(found, total)

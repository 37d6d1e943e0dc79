"""The runs of a sweep on device environments: together, in as few compiled programs as possible."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from ppo2.agent.compiled import program
from ppo2.agent.microbatched import MicrobatchedModel
from ppo2.agent.model import Model
from ppo2.algorithm.faults import Fault, FaultKind, fault_words
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.algorithm.update import fill_normaliser
from ppo2.config import names
from ppo2.envs.device.env import DeviceEnv
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.runners.device_program import HALTING, Chunk, ChunkSize, Ends, EnvState, collect, iterate, start
from ppo2.system.signals import StopSignals
from ppo2.training.loop import is_due, run_updates
from ppo2.training.plan import rollout_bytes
from ppo2.training.setup import warm_up_steps
from ppo2.training.sweep_plan import Curve, NDArray, Plan, Trained
from ppo2.training.trainers import Advance, Schedules

RUNS = "runs"  # the mesh axis that runs are spread over
MEMORY_SHARE = 0.4
"""The share of the free memory that runs which train together may take."""
COPIES = 6
"""Copies of a rollout while it is learned from: itself, next observations, its batch, that shuffled, XLA's own."""


def train_together(
    env: DeviceEnv, plans: Sequence[Plan], say: Callable[[str], None], stop: StopSignals
) -> list[Trained]:
    """Trains runs in as few compiled programs as their settings and the memory allow; those that a stop forestalls are
    as their plans are.
    """
    curves: dict[int, Curve] = {}
    for group in _groups(plans):
        parts = math.ceil(len(group) / _runs_at_once(plans[group[0]]))
        size = math.ceil(len(group) / parts)  # of equal parts, which share a program
        for first in range(0, len(group), size):
            some = group[first : first + size]
            if stop.received is None:
                found = VmappedRuns(env, [plans[i] for i in some]).train(say, stop)
                curves |= dict(zip(some, found, strict=True))
    return [Trained(plan.model, curves.get(i, Curve.of([]))) for i, plan in enumerate(plans)]


def _groups(plans: Sequence[Plan]) -> list[list[int]]:
    """The runs of each program: those that differ only in numbers that reach it as such."""
    groups: dict[Any, list[int]] = {}
    for i, (config, model) in enumerate(plans):
        # A subclass may look at any of its settings, and a program has those of one run.
        numbers = names(together=True) if type(model) in (Model, MicrobatchedModel) else ()
        others = [field.name for field in dataclasses.fields(config) if field.name not in (*numbers, "seed")]
        # Objects by what they are: JSON would only show their names.
        same = json.dumps({name: getattr(config, name) for name in others}, default=id)
        groups.setdefault((same, config.max_grad_norm is None), []).append(i)
    return list(groups.values())


def _runs_at_once(plan: Plan) -> int:
    """The number of runs that fit in memory."""
    each = COPIES * rollout_bytes(plan.config, plan.model) + 8 * 4 * plan.model.state.params.size
    each += 8 * plan.config.nbatch
    return max(1, int(MEMORY_SHARE * _free_memory() / each))


def _free_memory() -> int:
    """Bytes, on the devices or, where they don't tell, of this machine."""
    devices = jax.local_devices()
    stats = [device.memory_stats() or {} for device in devices]
    if all("bytes_limit" in one for one in stats):
        return sum(one["bytes_limit"] - one.get("bytes_in_use", 0) for one in stats)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on every system
        return 2**31


class VmappedRuns:
    """Runs of one shape, trained in one program: a leading axis R of runs on everything. A `Trainer`.

    Args:
        env: the environment.
        plans: plans of the runs; their models learn.
    """

    def __init__(self, env: DeviceEnv, plans: Sequence[Plan]) -> None:
        self.env, self.plans = env, plans
        self.config = plans[0].config
        self.model = plans[0].model  # stands for all where a program is made
        self.devices = min(jax.local_device_count(), len(plans))
        # Every device gets as many: the last run is trained again where that doesn't work out.
        padding = -len(plans) % self.devices
        self.padded = [*plans, *[plans[-1]] * padding]
        self.numbers = [Schedules(plan.config).at for plan in self.padded]
        self.discount = tuple(
            np.array([getattr(plan.config, name) for plan in self.padded], np.float32) for name in ("gamma", "lam")
        )
        self.chunk_size = ChunkSize(self.config.nbatch * len(self.padded), self.config.log_interval)
        self.recent: list[NDArray] = [np.zeros(0)] * len(plans)
        self._states, self._runs = self._begin()

    def train(self, say: Callable[[str], None], stop: StopSignals) -> list[Curve]:
        """Trains all to the end, or until a stop, and leaves what was learned in their models."""
        curves = RecordCurves(self, say)
        run_updates(
            self,
            [curves],
            first=1,
            last=self.config.nupdates,
            stop=stop,
            record=self.check_faults,
            is_stopped=lambda: stop.received is not None,
        )
        device = jax.local_devices()[0]
        for i, plan in enumerate(self.plans):
            plan.model.state = jax.device_put(jax.tree.map(lambda x, i=i: x[i], self._states), device)
        return [Curve.of(points) for points in curves.points]

    def collect(self) -> None:
        """See `Trainer`; part of the program."""

    def make_updates(self, first: int, most: int) -> Advance:
        count = min(most, self.chunk_size.updates)
        began = time.perf_counter()
        halt_on = HALTING[self.config.on_nonfinite]
        iterated = program(self.model, _iterate_runs, self.env, self.devices, self.config.nsteps, halt_on)
        self._states, self._runs, chunk = iterated(
            self._states, self._runs, self._hyperparameters(first, count), self.discount, np.int32(count)
        )
        advance = Advance(count, chunk.stats, chunk.fault, first + np.asarray(chunk.faulty))
        self._count(jax.tree.map(lambda x: np.asarray(x)[:, :count], chunk.ends))
        self.chunk_size.seconds = (time.perf_counter() - began) / count
        return advance

    def check_faults(self, update: int, advance: Advance) -> None:
        """Raises ValueError for the first run that met a fault which ends training, as `learn` would."""
        kinds, steps = np.asarray(advance.fault.kind), np.asarray(advance.fault.step)
        for plan, at, kind, step in zip(self.plans, advance.fault_update, kinds, steps, strict=False):
            if FaultKind(int(kind)) in HALTING[self.config.on_nonfinite]:
                space = plan.model.observation_space
                words = fault_words(FaultKind(int(kind)), int(step), plan.config.num_envs, space)
                raise ValueError(f"the run of seed {plan.config.seed}, update {at}: {words}.")

    def _begin(self) -> tuple[TrainState, EnvState]:
        """The states of all runs, their normalisers filled as `learn` would."""
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[plan.model.state for plan in self.padded])
        nruns = len(self.padded)
        one = start(self.env, self.model, self.config.num_envs, 0)
        first = jax.tree.map(lambda x: jnp.broadcast_to(x, (nruns, *x.shape)), one)
        states, runs = jax.device_put((states, first), NamedSharding(_mesh(self.devices), PartitionSpec(RUNS)))
        steps = warm_up_steps(self.config, self.model)
        if steps:
            warmed = program(self.model, _warm_up_runs, self.env, self.devices, steps)
            states, runs, fault, ends = warmed(states, runs, self.discount)
            self.check_faults(0, Advance(0, UpdateStats.blank(), fault, np.zeros(nruns, int)))
            self._count(ends)
        return states, runs

    def _count(self, ends: Ends) -> None:
        """Takes note of episodes, (R, ..., T, N)."""
        for i in range(len(self.plans)):
            ended = np.asarray(ends.returns[i])[np.asarray(ends.lengths[i]) > 0]
            self.recent[i] = np.concatenate([self.recent[i], ended])[-EPISODE_WINDOW:]

    def _hyperparameters(self, first: int, count: int) -> Hyperparameters:
        """(R, K), of which `count` of each run count."""
        rows = [
            self.chunk_size.stack([plan.model.hyperparameters(**numbers(first + i)) for i in range(count)])
            for plan, numbers in zip(self.padded, self.numbers, strict=True)
        ]
        stacked: Hyperparameters = jax.tree.map(lambda *numbers: np.stack(numbers), *rows)
        return stacked


class RecordCurves:
    """Records the learning curves of runs that train together, and says how they do. A `Task`."""

    def __init__(self, runs: VmappedRuns, say: Callable[[str], None]) -> None:
        self._runs, self._say = runs, say
        self.interval = runs.config.log_interval
        self.points: list[list[tuple[int, float]]] = [[] for _ in runs.plans]

    def is_due(self, update: int) -> bool:
        return is_due(update, self.interval) or update == self._runs.config.nupdates

    def run(self, update: int, stats: UpdateStats) -> bool:
        config = self._runs.config
        means = [float(recent.mean()) if recent.size else np.nan for recent in self._runs.recent]
        for points, mean in zip(self.points, means, strict=True):
            points.append((update * config.nbatch, mean))
        known = [mean for mean in means if np.isfinite(mean)]
        best, middle = (f"{max(known):.1f}", f"{np.median(known):.1f}") if known else ("-", "-")
        self._say(f"update {update}/{config.nupdates}  {len(means)} runs  median return {middle}  best {best}")
        return False


Program = Callable[..., Any]


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.local_devices()[:devices]), (RUNS,))


def _each(run: Program, devices: int, *, shared: int = 0) -> Program:
    """`run` for every run of a leading axis, spread over the devices; the last `shared` arguments are for all."""

    def spread(*arguments: Any) -> Any:
        own = len(arguments) - shared
        runs = jax.vmap(run, (0,) * own + (None,) * shared)
        specs = (PartitionSpec(RUNS),) * own + (PartitionSpec(),) * shared
        out = PartitionSpec(RUNS)
        return jax.shard_map(runs, mesh=_mesh(devices), in_specs=specs, out_specs=out, check_vma=False)(*arguments)

    return spread


def _warm_up_runs(model: Model, env: DeviceEnv, devices: int, steps: int) -> Program:
    def warmed(
        state: TrainState, runs: EnvState, discount: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[TrainState, EnvState, Fault, Ends]:
        runs, rollout, ends = collect(model, env, state, runs, *discount, steps=steps)
        state, fault = fill_normaliser(model, state, rollout)
        return state, runs, fault, ends

    return jax.jit(_each(warmed, devices), donate_argnums=(0, 1))


def _iterate_runs(model: Model, env: DeviceEnv, devices: int, steps: int, halt_on: frozenset[FaultKind]) -> Program:
    def iterated(
        state: TrainState,
        runs: EnvState,
        hypers: Hyperparameters,
        discount: tuple[Float[Array, ""], Float[Array, ""]],
        count: Int[Array, ""],
    ) -> tuple[TrainState, EnvState, Chunk]:
        return iterate(model, env, state, runs, hypers, count, discount, steps=steps, halt_on=halt_on, stops=False)

    return jax.jit(_each(iterated, devices, shared=1), donate_argnums=(0, 1))

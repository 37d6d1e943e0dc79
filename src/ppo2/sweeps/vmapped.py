"""The runs of a sweep on device environments: together, in as few compiled programs as possible."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ppo2.agent.compiled import program
from ppo2.agent.microbatched import MicrobatchedModel
from ppo2.agent.model import Model
from ppo2.algorithm.faults import Fault, FaultKind, fault_words
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.train_state import TrainState, UpdateStats
from ppo2.algorithm.update import fill_normaliser
from ppo2.config import names
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.envs.device.env import DeviceEnv
from ppo2.envs.device.info import recorded_keys
from ppo2.numerics.compilation import compiled, devices_here
from ppo2.numerics.sharding import ONE_DEVICE
from ppo2.runners.chunk import HALTING, Chunk, ChunkSize
from ppo2.runners.device_program import EnvState, collect, iterate, start
from ppo2.runners.ends import UpdateEpisodes, handed_over, slot_bytes
from ppo2.runners.episodes import EPISODE_WINDOW
from ppo2.sweeps.plan import NDArray, Returns, SweepRun
from ppo2.sweeps.screen import SweepScreen
from ppo2.system import runtime
from ppo2.system.signals import StopSignals
from ppo2.training.construction import warm_up_steps
from ppo2.training.loop import Task, run_updates
from ppo2.training.memory import memory_need
from ppo2.training.trainers import Advance, Trainer

Run = TypeVar("Run", bound=SweepRun)
RUNS = "runs"  # the mesh axis that runs are spread over
MEMORY_SHARE = 0.4
"""Share of the free memory that runs which train together may take."""
NO_ROWS = 0
"""Rows of monitor.csv of an update: there is none, the last hundred episodes are all that a sweep looks at."""


def train_together(env: DeviceEnv, runs: Sequence[SweepRun], screen: SweepScreen, stop: StopSignals) -> None:
    """Trains runs in as few compiled programs as their settings and the memory allow; those that come after a stop stay
    untrained.
    """
    for group in groups(runs):
        parts = math.ceil(len(group) / _runs_at_once(group[0]))
        size = math.ceil(len(group) / parts)  # of equal parts, which share a program
        for first in range(0, len(group), size):
            if stop.received is None:
                VmappedRuns(env, group[first : first + size]).train(screen, stop)


def groups(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each program: those that differ only in numbers that reach it as such."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        config = run.config
        # A subclass may look at any of its settings, and a program has those of one run.
        numbers = names(together=True) if type(run.model) in (Model, MicrobatchedModel) else ()
        others = [field.name for field in dataclasses.fields(config) if field.name not in (*numbers, "seed")]
        # Objects by what they are: JSON would only show their names.
        same = json.dumps({name: getattr(config, name) for name in others}, default=id)
        found.setdefault((same, config.max_grad_norm is None), []).append(run)
    return list(found.values())


def _runs_at_once(run: SweepRun) -> int:
    """The number of runs that fit in memory."""
    each = memory_need(run.config, run.model, on_device=True).total
    return max(1, int(MEMORY_SHARE * _free_memory() / each))


def _free_memory() -> int:
    """Bytes that are free on the devices or, where they don't tell, on this machine."""
    devices = devices_here()
    stats = [device.memory_stats() or {} for device in devices]
    if all("bytes_limit" in one for one in stats):
        return sum(one["bytes_limit"] - one.get("bytes_in_use", 0) for one in stats)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not on every system
        return 2**31


class VmappedRuns(Trainer):
    """Runs of one shape, trained in one program: a leading axis R of runs on everything."""

    def __init__(self, env: DeviceEnv, runs: Sequence[SweepRun]) -> None:
        self.env, self.runs = env, runs
        self.config, self.model = runs[0].config, runs[0].model  # stand for all where a program is made
        self.devices = min(len(devices_here()), len(runs))
        # Every device gets as many: the last run is trained again where that doesn't work out.
        self.padded = [*runs, *[runs[-1]] * (-len(runs) % self.devices)]
        self.discount = tuple(
            np.array([getattr(run.config, name) for run in self.padded], np.float32) for name in ("gamma", "lam")
        )
        self.info_keys = program(self.model, recorded_keys, env, tuple(self.config.info_keys), True)
        room = slot_bytes(self.config.nbatch, len(self.info_keys), NO_ROWS, ONE_DEVICE) * len(self.padded)
        self.chunk_size = ChunkSize(room, self.config.log_interval)
        self.recent: list[NDArray] = [np.zeros((0, 1 + len(self.info_keys)))] * len(runs)
        self._states, self._env_states = self._begin()

    def train(self, screen: SweepScreen, stop: StopSignals) -> None:
        """Trains all to the end, or until a stop, and leaves what was learned in their models."""
        tasks, signal = [ShowRuns(self, screen)], AgreedSignal(stop)

        def record(update: int, advance: Advance) -> None:
            self.check_faults(update, advance)
            screen.tick(advance.done * len(self.runs))

        run_updates(self, tasks, first=1, last=self.config.nupdates, signal=signal, record=record)
        device = devices_here()[0]
        for i, run in enumerate(self.runs):
            run.model.state = jax.device_put(jax.tree.map(lambda x, i=i: x[i], self._states), device)

    def make_updates(self, first: int, most: int) -> Advance:
        count = min(most, self.chunk_size.updates)
        began = time.perf_counter()
        halt_on = HALTING[self.config.on_nonfinite]
        iterated = program(
            self.model, _iterate_runs, self.env, self.devices, self.config.nsteps, halt_on, self.info_keys
        )
        self._states, self._env_states, chunk = iterated(
            self._states, self._env_states, self._hyperparameters(first, count), self.discount, np.int32(count)
        )
        advance = Advance(count, chunk.stats, chunk.fault, first + np.asarray(chunk.faulty))
        ended = jax.device_get(chunk.ended)
        for k in range(count):
            self._count(first + k, jax.tree.map(lambda x, k=k: x[:, k], ended))
        runtime.updated()
        self.chunk_size.seconds = (time.perf_counter() - began) / count
        return advance

    def check_faults(self, update: int, advance: Advance) -> None:
        """Raises ValueError for the first run that met a fault which ends training, as `learn` would."""
        kinds, steps = np.asarray(advance.fault.kind), np.asarray(advance.fault.step)
        for run, at, kind, step in zip(self.runs, advance.fault_update, kinds, steps, strict=False):
            if FaultKind(int(kind)) in HALTING[self.config.on_nonfinite]:
                space = run.model.observation_space
                words = fault_words(FaultKind(int(kind)), int(step), run.config.num_envs, space)
                raise ValueError(f"the run of seed {run.config.seed}, update {at}: {words}.")

    def _begin(self) -> tuple[TrainState, EnvState]:
        """The states of all runs and their environments, the normalisers filled as `learn` would."""
        nruns = len(self.padded)
        models = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[run.model.state for run in self.padded])
        one = start(self.env, self.model, self.config.num_envs, 0)
        env_states = jax.tree.map(lambda x: jnp.broadcast_to(x, (nruns, *x.shape)), one)
        spread = NamedSharding(_mesh(self.devices), PartitionSpec(RUNS))
        models, env_states = jax.device_put((models, env_states), spread)
        steps = warm_up_steps(self.config, self.model)
        if steps:
            warmed = program(self.model, _warm_up_runs, self.env, self.devices, steps, self.info_keys)
            models, env_states, fault, ended = warmed(models, env_states, self.discount)
            self.check_faults(0, Advance(0, UpdateStats.blank(), fault, np.zeros(nruns, int)))
            self._count(0, jax.device_get(ended))
        return models, env_states

    def _count(self, update: int, ended: UpdateEpisodes) -> None:
        """Takes note of the last episodes of each run in an update, (R, ...), returns and numbers of `info`; 0: those
        before the first.
        """
        slots = ended.rows if ended.last is None else ended.last
        for i, run in enumerate(self.runs):
            there = slots.where[i] >= 0
            figures = np.concatenate([slots.returns[i][there][:, None], slots.infos[i][there]], axis=1)
            self.recent[i] = np.concatenate([self.recent[i], figures])[-EPISODE_WINDOW:]
            if update:
                returns, *numbers = (np.array(column) for column in self.recent[i].T)
                known = [x[x == x] for x in numbers]
                infos = [float(x.mean()) if x.size else np.nan for x in known]
                mean = float(returns.mean()) if returns.size else np.nan
                named = dict(zip(self.info_keys, infos, strict=True))
                run.record(update, Returns.of(mean, figures[-EPISODE_WINDOW:, 0], named))

    def _hyperparameters(self, first: int, count: int) -> Hyperparameters:
        """(R, K), of which `count` of each run count."""
        updates = range(first, first + count)
        of_runs = ([run.model.hyperparameters(**run.numbers(update)) for update in updates] for run in self.padded)
        rows = [self.chunk_size.stack(hypers) for hypers in of_runs]
        stacked: Hyperparameters = jax.tree.map(lambda *numbers: np.stack(numbers), *rows)
        return stacked


class ShowRuns(Task):
    """Shows how runs that train together do."""

    def __init__(self, trainer: VmappedRuns, screen: SweepScreen) -> None:
        self._trainer, self._screen = trainer, screen
        self.interval = trainer.config.log_interval

    def is_due(self, update: int) -> bool:
        return super().is_due(update) or update == self._trainer.config.nupdates

    def run(self, update: int, stats: UpdateStats) -> None:
        self._screen.show()


Program = Callable[..., Any]


def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(devices_here()[:devices]), (RUNS,))


def _spread(run: Program, devices: int, axes: tuple[int | None, ...]) -> Program:
    """`run` for every run of a leading axis, spread over the devices; arguments of axis None are for all runs."""
    specs = tuple(PartitionSpec() if axis is None else PartitionSpec(RUNS) for axis in axes)
    each, mesh, out = jax.vmap(run, axes), _mesh(devices), PartitionSpec(RUNS)
    spread = jax.shard_map(each, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    return compiled(spread, donate_argnums=(0, 1))


def _warm_up_runs(model: Model, env: DeviceEnv, devices: int, steps: int, info_keys: tuple[str, ...]) -> Program:
    def warmed(
        state: TrainState, envs: EnvState, discount: tuple[Any, Any]
    ) -> tuple[TrainState, EnvState, Fault, UpdateEpisodes]:
        envs, rollout, ends = collect(model, env, state, envs, *discount, steps=steps, info_keys=info_keys)
        state, fault = fill_normaliser(model, state, rollout)
        return state, envs, fault, handed_over(ends, NO_ROWS, ONE_DEVICE)

    return _spread(warmed, devices, (0, 0, 0))


def _iterate_runs(
    model: Model, env: DeviceEnv, devices: int, steps: int, halt_on: frozenset[FaultKind], info_keys: tuple[str, ...]
) -> Program:
    def iterated(
        state: TrainState, envs: EnvState, hypers: Hyperparameters, discount: tuple[Any, Any], count: Any
    ) -> tuple[TrainState, EnvState, Chunk]:
        how: dict[str, Any] = {"steps": steps, "halt_on": halt_on, "stops": False, "monitor_limit": NO_ROWS}
        how["info_keys"] = info_keys
        return iterate(model, env, state, envs, hypers, count, discount, **how)

    return _spread(iterated, devices, (0, 0, 0, 0, None))

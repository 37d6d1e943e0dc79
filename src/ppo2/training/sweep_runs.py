"""The runs of a sweep: together in one compiled program on the device, or one after another on the host."""

import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from ppo2.algorithm.train_state import TrainState
from ppo2.algorithm.update import fill_normaliser
from ppo2.config import Config
from ppo2.envs import AnyEnvs, DeviceVector
from ppo2.envs.device.env import DeviceEnv
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.runners.device import (
    CHUNK_SECONDS,
    HALTING,
    Chunk,
    Ends,
    EnvState,
    chunk_capacity,
    collect,
    iterate,
    stack_hyperparameters,
    start,
)
from ppo2.system.signals import StopSignals
from ppo2.training.learn import learn
from ppo2.training.plan import rollout_bytes
from ppo2.training.setup import SETTINGS, Schedules, build_model, check_traceable, default_shards, warm_up_steps

NDArray = np.ndarray[Any, Any]

SCALARS = ("lr", "cliprange", "gamma", "lam", "ent_coef", "vf_coef", "max_grad_norm")
"""Hyperparameters that reach a program as numbers: runs that differ only in these and the seed train together."""

RUNS = "runs"  # the mesh axis that runs are spread over
MEMORY_SHARE = 0.4  # of what is free may be taken by runs that train together
COPIES = 6  # of a rollout while it is learned from: itself, next observations, its batch, that shuffled, what XLA keeps


Say = Callable[[str], None]


class Curve(NamedTuple):
    """A learning curve: at each row of the log, the timesteps so far and the mean return of the last 100 episodes."""

    timesteps: NDArray
    returns: NDArray


class Plan(NamedTuple):
    """One run before it is trained."""

    config: Config
    model: Model


class Trained(NamedTuple):
    model: Model
    curve: Curve


def planned(env: AnyEnvs, given_env: Any, settings: Mapping[str, Any]) -> Plan:
    """Checks one run's settings (the arguments of `learn`) and builds its model.

    Raises:
        ValueError, TypeError: a setting that can't be.
    """
    mine = {name: value for name, value in settings.items() if name in SETTINGS}
    network_kwargs = {name: value for name, value in settings.items() if name not in SETTINGS}
    on_device = isinstance(env, DeviceVector)
    num_envs = settings.get("num_envs")
    if num_envs is None:
        num_envs = env.num_envs
    elif not (on_device or _is_countable(given_env) or num_envs == env.num_envs):
        raise ValueError(f"`num_envs` (={num_envs}) contradicts `env`, which has {env.num_envs}: leave it out.")
    sized = DeviceVector(env.env, num_envs) if isinstance(env, DeviceVector) else env
    shards = settings.get("shards")
    if shards is None:
        sizes = (mine.get("nsteps", 2048), mine.get("nminibatches", 4))
        shards = default_shards(sized, num_envs, *sizes, mine.get("devices"))
    counts = {"num_envs": num_envs, "shards": shards}
    config = Config(**{"total_timesteps": 1e6, **mine, **counts, "env": given_env, "network_kwargs": network_kwargs})
    model = build_model(config, env, settings.get("model_fn"))
    if on_device:
        check_traceable(model)
    return Plan(config, model)


def _is_countable(env: Any) -> bool:
    """Whether `num_envs` says how many there are of it."""
    return isinstance(env, str) or callable(env)


def train_in_turn(
    env: Any,
    settings: Sequence[Mapping[str, Any]],
    plans: Sequence[Plan],
    path: Path | None,
    say: Say,
    stop: StopSignals,
) -> list[Trained]:
    """One `learn` after another; those that a stop forestalls are as their plans are."""
    trained = []
    for i, (arguments, plan) in enumerate(zip(settings, plans, strict=True)):
        noted = _Noted(plan)
        if stop.received is None:
            run_dir = None if path is None else path / "runs" / f"{i:04}"
            try:
                learn(env=env, run_dir=run_dir, update_fn=noted, **arguments)
            except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard the signal, and finished its update
                stop.received = signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else signal.SIGTERM
            say(f"run {i + 1}/{len(plans)}  return {noted.points[-1][1] if noted.points else np.nan:.1f}")
        trained.append(Trained(noted.model, _curve(noted.points)))
    return trained


class _Noted:
    """An `update_fn` that keeps the model and its learning curve."""

    def __init__(self, plan: Plan) -> None:
        self.config, self.model = plan.config, plan.model
        self.points: list[tuple[int, float]] = []

    def __call__(self, update: int, model: Model, stats: Any) -> None:
        self.model = model
        if update == 1 or update % self.config.log_interval == 0 or update == self.config.nupdates:
            self.points.append((update * self.config.nbatch, stats.eprewmean))


def _curve(points: Sequence[tuple[int, float]]) -> Curve:
    return Curve(np.array([t for t, _ in points], np.int64), np.array([r for _, r in points], np.float64))


# --- together -----------------------------------------------------------------------------------------------------


def train_together(env: DeviceEnv, plans: Sequence[Plan], say: Say, stop: StopSignals) -> list[Trained]:
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
                found = _Together(env, [plans[i] for i in some]).train(say, stop)
                curves |= dict(zip(some, found, strict=True))
    return [Trained(plan.model, curves.get(i, _curve([]))) for i, plan in enumerate(plans)]


def _groups(plans: Sequence[Plan]) -> list[list[int]]:
    """The runs of each program: those that differ only in numbers that reach it as such."""
    groups: dict[Any, list[int]] = {}
    for i, (config, model) in enumerate(plans):
        # A subclass may look at any of its settings, and a program has those of one run.
        numbers = SCALARS if type(model) in (Model, MicrobatchedModel) else ()
        names = [field.name for field in dataclasses.fields(config) if field.name not in (*numbers, "seed")]
        # Objects by what they are: JSON would only show their names.
        same = json.dumps({name: getattr(config, name) for name in names}, default=id)
        groups.setdefault((same, config.max_grad_norm is None), []).append(i)
    return list(groups.values())


def _runs_at_once(plan: Plan) -> int:
    """How many runs fit in memory."""
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


class _Together:
    """Runs of one shape, trained in one program: a leading axis R of runs on everything."""

    def __init__(self, env: DeviceEnv, plans: Sequence[Plan]) -> None:
        self.env, self.plans = env, plans
        self.config = plans[0].config
        self.maker = plans[0].model
        self.devices = min(jax.local_device_count(), len(plans))
        # Every device gets as many: the last run is trained again where that doesn't work out.
        padding = -len(plans) % self.devices
        self.padded = [*plans, *[plans[-1]] * padding]
        self.schedules = [Schedules(plan.config) for plan in self.padded]
        self.discount = tuple(
            np.array([getattr(plan.config, name) for plan in self.padded], np.float32) for name in ("gamma", "lam")
        )
        self.capacity = chunk_capacity(self.config.nbatch * len(self.padded), self.config.log_interval)
        self.recent: list[NDArray] = [np.zeros(0)] * len(plans)
        self.points: list[list[tuple[int, float]]] = [[] for _ in plans]

    def train(self, say: Say, stop: StopSignals) -> list[Curve]:
        """Trains all to the end, or until a stop, and leaves what was learned in their models."""
        config, update = self.config, 0
        states, runs = self._begin()
        seconds = np.inf  # an update
        while update < config.nupdates and stop.received is None:
            look = 1 if update == 0 else min((update // config.log_interval + 1) * config.log_interval, config.nupdates)
            count = max(1, min(self.capacity, look - update, int(CHUNK_SECONDS / seconds)))
            began = time.perf_counter()
            sizes = (config.nsteps, self.maker.slices(config.nsteps))
            iterated = program(self.maker, _iterate_runs, self.env, self.devices, *sizes)
            states, runs, chunk = iterated(
                states, runs, self._hyperparameters(update + 1, count), self.discount, np.int32(count)
            )
            self._raise_for(update + 1 + np.asarray(chunk.faulty), chunk.fault)
            self._count(jax.tree.map(lambda x, count=count: np.asarray(x)[:, :count], chunk.ends))
            update += count
            seconds = (time.perf_counter() - began) / count
            if update == look:
                self._log(update, say)
        self._finish(states)
        return [_curve(points) for points in self.points]

    def _begin(self) -> tuple[TrainState, EnvState]:
        """The states of all runs, their normalisers filled as `learn` would."""
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[plan.model.state for plan in self.padded])
        nruns = len(self.padded)
        one = start(self.env, self.maker, self.config.num_envs, 0)
        first = jax.tree.map(lambda x: jnp.broadcast_to(x, (nruns, *x.shape)), one)
        states, runs = jax.device_put((states, first), NamedSharding(_mesh(self.devices), PartitionSpec(RUNS)))
        steps = warm_up_steps(self.config, self.maker)
        if steps:
            warmed = program(self.maker, _warm_up_runs, self.env, self.devices, steps, self.maker.slices(steps))
            states, runs, fault, ends = warmed(states, runs, self.discount)
            self._raise_for(np.zeros(nruns, int), fault)
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
            stack_hyperparameters(
                [plan.model.hyperparameters(**schedule.at(first + i)) for i in range(count)], self.capacity
            )
            for plan, schedule in zip(self.padded, self.schedules, strict=True)
        ]
        stacked: Hyperparameters = jax.tree.map(lambda *numbers: np.stack(numbers), *rows)
        return stacked

    def _raise_for(self, updates: NDArray, fault: Fault) -> None:
        """Raises ValueError for the first run that met a fault which ends training, as `learn` would."""
        steps = np.asarray(fault.step)
        for plan, update, kind, step in zip(self.plans, updates, np.asarray(fault.kind), steps, strict=False):
            if FaultKind(int(kind)) in HALTING[self.config.on_nonfinite]:
                words = fault_words(FaultKind(int(kind)), int(step), plan.config.num_envs, plan.model.observation_space)
                raise ValueError(f"the run of seed {plan.config.seed}, update {update}: {words}.")

    def _log(self, update: int, say: Say) -> None:
        means = [float(recent.mean()) if recent.size else np.nan for recent in self.recent]
        for points, mean in zip(self.points, means, strict=True):
            points.append((update * self.config.nbatch, mean))
        known = [mean for mean in means if np.isfinite(mean)]
        best = f"{max(known):.1f}" if known else "-"
        middle = f"{np.median(known):.1f}" if known else "-"
        say(f"update {update}/{self.config.nupdates}  {len(self.plans)} runs  median return {middle}  best {best}")

    def _finish(self, states: TrainState) -> None:
        """Gives every model its own state."""
        device = jax.local_devices()[0]
        for i, plan in enumerate(self.plans):
            plan.model.state = jax.device_put(jax.tree.map(lambda x, i=i: x[i], states), device)


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


def _warm_up_runs(model: Model, env: DeviceEnv, devices: int, steps: int, slices: int) -> Program:
    def warmed(
        state: TrainState, runs: EnvState, discount: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[TrainState, EnvState, Fault, Ends]:
        gamma, lam = discount
        indices = jnp.arange(runs.running_returns.shape[0])
        runs, rollout, ends = collect(
            model, env, state, runs, indices, steps=steps, slices=slices, gamma=gamma, lam=lam
        )
        state, fault = fill_normaliser(model, state, rollout)
        return state, runs, fault, ends

    return jax.jit(_each(warmed, devices), donate_argnums=(0, 1))


def _iterate_runs(model: Model, env: DeviceEnv, devices: int, steps: int, slices: int) -> Program:
    def iterated(
        state: TrainState,
        runs: EnvState,
        hypers: Hyperparameters,
        discount: tuple[Float[Array, ""], Float[Array, ""]],
        count: Int[Array, ""],
    ) -> tuple[TrainState, EnvState, Chunk]:
        halt_on = HALTING[model.config.on_nonfinite]
        return iterate(
            model, env, state, runs, hypers, count, discount, steps=steps, slices=slices, halt_on=halt_on, stops=False
        )

    return jax.jit(_each(iterated, devices, shared=1), donate_argnums=(0, 1))

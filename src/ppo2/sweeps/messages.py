"""Messages between a sweep and the processes, or actors, that train its runs."""

import contextlib
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import gymnasium as gym
import jax

from ppo2 import networks
from ppo2.agent.files import in_memory
from ppo2.agent.model import Model
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.sweeps.plan import Returns, has_row
from ppo2.system import processors, runtime
from ppo2.training import run_directory
from ppo2.training.learn import learn

OWN_SETTINGS = ("jax_platforms", "jax_num_cpu_devices", "jax_default_device")
"""JAX's settings that each process makes for itself."""
REPORT_SECONDS = 0.1
"""Least time between two reports of a run, but for rows of its log."""


class Reported(NamedTuple):
    """Updates that a run has made: the last one, and the returns after each since the last report."""

    run: int
    update: int
    returns: tuple[Returns, ...]


class Trained(NamedTuple):
    """The model of a run that was trained to its end, or until a signal came."""

    run: int
    model: Checkpoint | None
    stopped: bool = False


class Failed(NamedTuple):
    """The error that ended a run: pickled, as it may be of a type that can't travel, and in words."""

    run: int
    error: bytes
    words: str
    traceback: str

    @classmethod
    def of(cls, run: int, error: Exception) -> "Failed":
        text = "".join(traceback.format_exception(error))
        try:
            pickled = packed(error.with_traceback(None))
            unpacked(pickled)
        except Exception:  # whatever its class does
            pickled = b""
        return cls(run, pickled, f"{type(error).__name__}: {error}", text)

    def unpickled(self) -> Exception:
        """The error, or one in its place that says the same."""
        found: Exception = RuntimeError(self.words)
        with contextlib.suppress(Exception):  # of a module that is only there
            found = unpacked(self.error) if self.error else found
        found.add_note(f"In the process that trained run {self.run}:\n{self.traceback}")
        return found


Message = Reported | Trained | Failed


class Surroundings(NamedTuple):
    """Settings and registrations of this process, for another, which runs no script of the user's, to compute alike.

    Attributes:
        processors: see `processors.take_share`.
        jax_settings: values of JAX's settings here.
        builders: networks that were registered, by name; those that can travel, pickled.
        environments: specifications of environments that were registered, likewise.
    """

    processors: int
    jax_settings: Mapping[str, Any]
    builders: Mapping[str, bytes]
    environments: Mapping[str, bytes]

    @classmethod
    def here(cls) -> "Surroundings":
        plain = bool | int | float | str | None
        values = {name: getattr(jax.config, name, value) for name, value in jax.config.values.items()}
        kept = {name: value for name, value in values.items() if isinstance(value, plain) and name not in OWN_SETTINGS}
        builders = {n: b for n, b in networks.known().items() if not _is_part_of(getattr(b, "__module__", ""), "ppo2")}
        specs = {n: spec for n, spec in gym.registry.items() if not _is_part_of(spec.entry_point, "gymnasium")}
        return cls(processors.usable_processors(), kept, _pickled(builders), _pickled(specs))

    def take_up(self) -> None:
        """Makes this process compute like that one."""
        for name, value in self.jax_settings.items():
            if name in jax.config.values and jax.config.values[name] != value:
                jax.config.update(name, value)
        for name, pickled in self.builders.items():
            if name not in networks.known():
                with contextlib.suppress(Exception):  # of a module that isn't there: it is missed where it is used
                    networks.register(name)(unpacked(pickled))
        for name, pickled in self.environments.items():
            if name not in gym.registry:
                with contextlib.suppress(Exception):
                    gym.registry[name] = unpacked(pickled)


def packed(message: Any) -> bytes:
    """A message for the pipe to a process of this sweep, or for Ray: functions and classes of a script travel whole."""
    pickled: bytes = cloudpickle.dumps(message)
    return pickled


def unpacked(message: bytes) -> Any:
    """The inverse of `packed`."""
    return cloudpickle.loads(message)


def environment_variables() -> dict[str, str]:
    """Environment variables by which another process of Python finds the same modules and computes alike."""
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    alone = {"PPO2_ALONE": "1"}  # whatever has started this process
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", **alone, **alike()}


def alike() -> dict[str, str]:
    """Environment variables by which another process comes to the same bits."""
    return {**processors.xla_threads(), **runtime.cpu_devices_variable()}


def obstacle(env: Any, settings: Sequence[Mapping[str, Any]]) -> str | None:
    """The reason why the runs of these settings can't be trained in other processes; None if there is none."""
    try:
        packed((env, list(settings)))
    except Exception as error:  # of whatever is asked to travel
        return f"its arguments can't travel to other processes ({type(error).__name__}: {error})"
    return None


def train(
    env: Any, run_dir: Path | None, settings: Mapping[str, Any], report: Callable[[int, Model, Any], Any]
) -> Model:
    """Trains a run, or goes on with the one in its directory; `report` is an `update_fn`."""
    goes_on = run_dir is not None and (run_dir / run_directory.CONFIG).is_file()
    load_path = run_dir if goes_on else None
    return learn(env=env, run_dir=run_dir, load_path=load_path, update_fn=report, progress=False, **settings)


class NewReturns:
    """Finds the returns that are new in each update, in what an `update_fn` gets.

    Args:
        episodes: number of those that ended before the first.
    """

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes

    def __call__(self, stats: UpdateStats) -> Returns:
        before, self._episodes = self._episodes, int(stats.episodes)
        new = min(self._episodes - before, len(stats.last))
        ended = [episode.r for episode in stats.last[len(stats.last) - new :]]
        return Returns.of(float(stats.eprewmean), ended, stats.infos)


class Reporter:
    """An `update_fn` that reports the updates of a run.

    Args:
        index: number of the run.
        episodes: see `SweepRun`.
        send: is given the reports.

    Attributes:
        model: the model as it is now; None before the first update.
        update: the last update.
    """

    def __init__(self, index: int, episodes: int, send: Callable[[Reported], None]) -> None:
        self.model: Model | None = None
        self.update = 0
        self._index, self._send, self._sent = index, send, -math.inf
        self._returns, self._waiting = NewReturns(episodes), list[Returns]()

    def __call__(self, update: int, model: Model, stats: UpdateStats) -> None:
        self.model, self.update, now = model, update, time.monotonic()
        self._waiting.append(self._returns(stats))
        if has_row(model.config, update) or now - self._sent >= REPORT_SECONDS:
            self._send(Reported(self._index, update, tuple(self._waiting)))
            self._sent, self._waiting = now, []


def trained(index: int, model: Model | None, *, stopped: bool = False) -> Trained:
    """The message about a run's model; None: it made no update."""
    return Trained(index, None if model is None else in_memory(model), stopped)


def _pickled(objects: Mapping[str, Any]) -> dict[str, bytes]:
    """The objects that can travel, each by itself."""
    found: dict[str, bytes] = {}
    for name, one in objects.items():
        try:
            found[name] = packed(one)
        except Exception:  # it is missed where it is used
            continue
    return found


def _is_part_of(place: Any, package: str) -> bool:
    return isinstance(place, str) and re.match(rf"{package}\b", place) is not None

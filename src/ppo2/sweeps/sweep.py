"""`sweep`: many trainings at once, over seeds and hyperparameters."""

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ppo2.agent.placement import asked_place, place_to_begin
from ppo2.callbacks.video import SETTINGS as FILM_SETTINGS
from ppo2.callbacks.video import with_films
from ppo2.config import Config, check_settings, separate_settings
from ppo2.config.secrets import check_none_would_be_saved
from ppo2.envs import DeviceVector
from ppo2.envs.host.vec_env import is_made
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.plot.sources import RUNS, SETTINGS
from ppo2.reporting.figures import SWEEP_COLUMNS, Pace
from ppo2.reporting.screens import open_display, shows_progress
from ppo2.sweeps import directory
from ppo2.sweeps.axes import NOT_TAKEN, announcement, axes_of
from ppo2.sweeps.plan import SweepRun, plan_run
from ppo2.sweeps.processes import Pool
from ppo2.sweeps.ray import check_ray, train_on_cluster
from ppo2.sweeps.result import Sweep, save_all, settings_json
from ppo2.sweeps.screen import SweepScreen
from ppo2.sweeps.turns import (
    Parallel,
    check_one_process,
    check_together,
    checked_parallel,
    how_to_train,
    kwargs_to_look_at,
    may_need_processes,
    train_in_turn,
)
from ppo2.sweeps.vmapped import train_together
from ppo2.system import runtime
from ppo2.system.calls import told_plainly
from ppo2.system.signals import StopSignals, raise_for
from ppo2.system.verbosity import spoken
from ppo2.training import interruption, remarks, run_directory
from ppo2.training.construction import open_environment, place_model
from ppo2.training.start import Start


@told_plainly("ppo2.sweep(env='CartPole-v1', seed=range(4), total_timesteps=1e5)")
@spoken
@transfers_allowed
def sweep(
    *,
    env: Any,
    run_dir: str | os.PathLike[str] | None = None,
    verbose: int = 2,
    progress: bool | None = None,
    parallel: Parallel = "auto",
    backend: Literal["local", "ray"] = "local",
    **arguments: Any,
) -> Sweep:
    """Trains every combination of the settings that are given as lists, and compares them.

    On a device environment, runs that differ only in seed, lr, cliprange, gamma, lam, ent_coef, vf_coef or
    max_grad_norm train together, in one compiled program, on all devices; each value of another setting (nsteps,
    network, ...) needs a separate program. Each run has the result of `learn` with its seed and settings, to float
    tolerance.

    On host environments each run has the result of `learn`, to the last bit, and several train at a time: see
    `parallel`. A run that fails is reported, and the others continue.

    Args:
        env: environment to train on, in any form that `learn` takes. One that exists already can't be given to several
            processes: its runs train one after another.
        run_dir: directory for the table, the curves (CSV and PNG) and the models; None writes nothing. On host
            environments it also gets a run directory for each run, and a sweep that was stopped continues with the same
            arguments: finished runs are not trained again, and others, also failed ones, continue from their
            checkpoints. Objects among the arguments count as the same if they have the same name.
        verbose: see `learn`; 2 by default, because a sweep prints mostly progress.
        progress: see `learn`; of the table or lines, `best` is the best run's mean return.
        parallel: number of runs on host environments that train at a time, each in a process of its own with an equal
            share of the processors; "auto": as many as there are processors; one after another, in this process, if
            runs learn on an accelerator or can't be sent to processes. 1: one after another. The results are the same.
        backend: "ray": each run trains in an actor of Ray, on any machine of its cluster, `parallel` of them at a time
            ("auto": all). `run_dir` must then be on a disk that all its machines have. See docs/distributed.md.
        **arguments: arguments of `learn` and of the network's builder, each a value, or a list, range or array of
            values to sweep over: seed=range(16), lr=[1e-4, 3e-4]. `on_nonfinite` is "skip" by default: a run that
            diverges doesn't stop the others, and the table shows its skipped updates.

    Returns:
        See `Sweep`; its `failures` has the runs that failed.

    Raises:
        ValueError, TypeError: an argument that can't work, before any training; it says which, and why.
        Exception: the error of the first run, if all runs failed.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; the results so far are in `run_dir`, and
            `ppo2.interrupted` returns it. In a notebook or at a prompt Ctrl-C returns it.
    """
    runtime.begin()
    check_one_process("sweep")
    parallel = checked_parallel(parallel, backend)
    if backend == "ray":
        check_ray()
    if arguments.get("env_kwargs", {}) is None:  # as in `learn`
        del arguments["env_kwargs"]
    for name in NOT_TAKEN:
        if arguments.pop(name, None):
            raise ValueError(f"`{name}` is of no use in a sweep: leave it out, or call learn.")
    for name in FILM_SETTINGS:  # sweeps of earlier versions, which go on, don't have them
        if arguments.get(name) == getattr(Config, name):
            del arguments[name]
    arguments.setdefault("on_nonfinite", "skip")
    own = {"env": env, "run_dir": run_dir, "progress": progress, "parallel": parallel, "backend": backend}
    axes = axes_of({**own, **arguments})
    fixed = {name: value for name, value in arguments.items() if name not in axes}
    asked_place(fixed.get("device", Config.device))
    fixed |= check_settings({"env_kwargs": fixed["env_kwargs"]}) if fixed.get("env_kwargs") else {}
    check_none_would_be_saved({**fixed, "network_kwargs": separate_settings(fixed)[1]})
    axes["seed"] = axes.pop("seed", [fixed.pop("seed", None)])  # last: neighbours differ in the seed
    with run_directory.locked(run_dir):
        path = run_directory.absolute(run_dir)  # now: an environment may change the current directory
        before = None if path is None else directory.settings_in(path)
        with_films([], {name: fixed.get(name, getattr(Config, name)) for name in FILM_SETTINGS}, path)
        axes["seed"] = directory.seeds(axes["seed"], before)
        plan = _Plan(env, axes, fixed, path, before)
        runs, stop = _train(plan, parallel, backend, shows_progress(progress, verbose))
        result = Sweep.of(runs, plan.swept, path, seeds=len(axes["seed"]))
        if path is not None:
            result.unsaved = save_all(result, path, plan.given)
    if stop.received is not None:
        interruption.keep(result)
        if not interruption.is_returned(stop):
            raise_for(stop.received)
    elif len(result.failures) == len(runs):
        error = result.failures[0].error
        if len(runs) > 1:
            error.add_note(f"All {len(runs)} runs of the sweep failed; this is the error of run 0.")
        raise error
    return result


@dataclass
class _Plan:
    """The runs to be trained: every combination of the values of `axes`, all with the settings of `fixed`.

    Attributes:
        path: the directory of the sweep, or None.
        before: the settings of the sweep in it that goes on; None for a new one.
    """

    env: Any
    axes: Mapping[str, Sequence[Any]]
    fixed: Mapping[str, Any]
    path: Path | None
    before: Mapping[str, Any] | None

    @property
    def swept(self) -> tuple[str, ...]:
        """The names of the settings that differ, seed aside."""
        return tuple(name for name, values in self.axes.items() if name != "seed" and len(values) > 1)

    @property
    def given(self) -> dict[str, Any]:
        """The settings, as the directory has them."""
        return {"env": self.env, "swept": self.axes, "fixed": self.fixed}

    def settings(self) -> list[dict[str, Any]]:
        """The arguments of `learn` for each run."""
        combinations = itertools.product(*self.axes.values())
        return [{**self.fixed, **dict(zip(self.axes, values, strict=True))} for values in combinations]

    def begin(self, runs: Sequence[SweepRun], *, on_device: bool) -> str:
        """Makes the directory ready for the runs, which are given what they have in it; returns a line about that."""
        if self.path is None:
            return ""
        if self.before is not None:
            if on_device:  # its runs have no checkpoints
                raise directory.not_empty(self.path)
            directory.check_same(self.before, self.given, self.path)
        if on_device:
            return ""
        for run in runs:
            run.run_dir = self.path / RUNS / f"{run.index:04}"
            directory.take_up(run)
        directory.write_settings(self.path / SETTINGS, settings_json(self.given))
        return "" if self.before is None else directory.note(runs, self.path)


def _train(plan: _Plan, parallel: Parallel, backend: str, progress: bool | None) -> tuple[list[SweepRun], StopSignals]:
    """Trains the runs; returns them, and the signals that came."""
    settings = plan.settings()
    with contextlib.ExitStack() as stack:
        early = may_need_processes(parallel, backend, plan.env, len(settings))
        pool = stack.enter_context(Pool(early)) if early else None
        opened = stack.enter_context(contextlib.ExitStack())
        count = settings[0].get("num_envs") if is_made(plan.env) else 1
        kwargs = kwargs_to_look_at(plan.env, plan.fixed.get("env_kwargs"))
        vector = open_environment(opened, plan.env, count, env_kwargs=kwargs)
        on_device, device = isinstance(vector, DeviceVector), settings[0].get("device", Config.device)
        if on_device:
            check_together(parallel, backend, settings[0].get("log", ()), settings[0].get("video_interval", 0))
        stack.enter_context(computing_on(place_to_begin(device, on_device=on_device)))
        runs = [plan_run(vector, plan.env, one, i, plan.swept) for i, one in enumerate(settings)]
        note = plan.begin(runs, on_device=on_device)
        waiting = [run for run in runs if run.status != "finished"]
        count, how = 1, ""
        if not on_device:
            for run in runs:
                place_model(run.model, vector, Start())
            opened.close()  # each run makes its own
            count, how = how_to_train(parallel, backend, plan.env, waiting, early)
        pace = Pace(sum(run.config.nupdates for run in runs), 1 + sum(run.update for run in runs))
        screen = SweepScreen(runs, pace)
        screen.display = open_display(pace, progress, (SWEEP_COLUMNS,), screen.rows)
        stack.enter_context(contextlib.closing(screen.display))
        timesteps = [run.config.nupdates * run.config.nbatch for run in runs]
        for line in filter(None, (announcement(plan.axes, timesteps), note, how)):
            screen.display.say(line)
        interruption.forget()
        stop = stack.enter_context(StopSignals())
        screen.display.begin()
        if isinstance(vector, DeviceVector):
            _train_on_device(vector, runs, screen, stop)
        elif backend == "ray":
            train_on_cluster(plan.env, waiting, None if parallel == "auto" else parallel, screen, stop)
        elif count > 1 and pool is not None:
            pool.train(plan.env, waiting, screen, stop)
        else:
            train_in_turn(plan.env, waiting, screen, stop)
    return runs, stop


def _train_on_device(vector: DeviceVector, runs: Sequence[SweepRun], screen: SweepScreen, stop: StopSignals) -> None:
    """Trains runs on a device environment together."""
    lines = [remarks.at_start(run.config, run.model, vector, fresh=True) for run in runs]
    for line in dict.fromkeys(itertools.chain(*lines)):
        screen.display.say(line)
    for run in runs:
        run.status = "running"
    train_together(vector.env, runs, screen, stop)
    for run in runs:
        place_model(run.model, vector, Start())
        run.status = "finished" if stop.received is None else "stopped"

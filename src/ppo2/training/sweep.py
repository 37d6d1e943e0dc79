"""`sweep`: many trainings at once, over seeds and hyperparameters."""

import contextlib
import functools
import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo2 import distributed
from ppo2.agent.model import Model
from ppo2.agent.placement import asked_place, place_to_begin
from ppo2.config import Config
from ppo2.envs import DeviceVector
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.numerics.randomness import fresh_seed
from ppo2.reporting.figures import SWEEP_COLUMNS, Pace
from ppo2.reporting.screens import open_display
from ppo2.system import launch, runtime
from ppo2.system.calls import told_plainly
from ppo2.system.directory_lock import LOCK
from ppo2.system.signals import StopSignals, raise_for
from ppo2.training import interruption, remarks, run_directory
from ppo2.training.construction import open_environment, place_model
from ppo2.training.learn import learn
from ppo2.training.start import Start
from ppo2.training.sweep_axes import NOT_TAKEN, announcement, axes_of
from ppo2.training.sweep_plan import SweepRun, plan_run
from ppo2.training.sweep_result import Sweep, row_of, save_all
from ppo2.training.sweep_screen import SweepScreen
from ppo2.training.vmapped import train_together


@told_plainly("ppo2.sweep(env='CartPole-v1', seed=range(4), total_timesteps=1e5)")
@transfers_allowed
def sweep(
    *, env: Any, run_dir: str | os.PathLike[str] | None = None, progress: bool | None = None, **arguments: Any
) -> Sweep:
    """Trains every combination of the settings that are given as lists, and compares them.

    On a device environment, runs that differ only in seed, lr, cliprange, gamma, lam, ent_coef, vf_coef or
    max_grad_norm train together, in one compiled program, spread over the devices that there are; other settings
    (nsteps, network, ...) make one program each. On host environments runs train one after another. Each run is the
    one that `learn` would make of its seed and settings, to float tolerance.

    Args:
        env: environment to train on, in any form that `learn` takes.
        run_dir: directory for the table, the curves (CSV and PNG) and the models; None writes nothing. On host
            environments it also gets a run directory for each run.
        progress: see `learn`; of the table or lines, `best` is the best run's mean return.
        **arguments: arguments of `learn` and of the network's builder, each a value, or a list, range or array of
            values to sweep over: seed=range(16), lr=[1e-4, 3e-4]. `on_nonfinite` is "skip" here unless given: one run
            that diverges harms no other, and the table tells of its skipped updates.

    Returns:
        See `Sweep`.

    Raises:
        ValueError, TypeError: an argument that can't be, before any training; it says which, and why.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; what there was by then is in `run_dir`, and
            `ppo2.interrupted` returns it. In a notebook or at a prompt Ctrl-C returns it.
    """
    runtime.begin()
    if launch.detected().size > 1 or distributed.world().size > 1:
        raise ValueError(
            "a sweep trains in one process, on all its devices, and this is one of several: start one, or set "
            "PPO2_ALONE=1 for each to make a sweep of its own (with another `run_dir`, and without "
            "ppo2.distributed.init)."
        )
    for name in NOT_TAKEN:
        if arguments.pop(name, None):
            raise ValueError(f"`{name}` is of no use in a sweep: leave it out, or call learn.")
    arguments.setdefault("on_nonfinite", "skip")
    axes = axes_of({"env": env, "run_dir": run_dir, "progress": progress, **arguments})
    fixed = {name: value for name, value in arguments.items() if name not in axes}
    asked_place(fixed.get("device", Config.device))
    seeds = axes.pop("seed", [fixed.pop("seed", None)])
    axes["seed"] = [fresh_seed() if seed is None else seed for seed in seeds]  # last: neighbours differ in the seed
    settings = [{**fixed, **dict(zip(axes, values, strict=True))} for values in itertools.product(*axes.values())]
    swept = tuple(name for name, values in axes.items() if name != "seed" and len(values) > 1)
    with run_directory.locked(run_dir):
        path = run_directory.absolute(run_dir)  # now: an environment may change the current directory
        if path is not None:
            _check_empty(path)
        runs, stop = _train(env, axes, settings, path, progress)
        table = [row_of(i, run, swept) for i, run in enumerate(runs)]
        models, curves = [run.model for run in runs], [run.curve for run in runs]
        result = Sweep(table, models, curves, swept, path, seeds=len(axes["seed"]))
        if path is not None:
            result.unsaved = save_all(result, path, {"env": env, "swept": axes, "fixed": fixed})
    if stop.received is not None:
        interruption.keep(result)
        if not interruption.is_returned(stop):
            raise_for(stop.received)
    return result


def _train(
    env: Any,
    axes: Mapping[str, Sequence[Any]],
    settings: Sequence[Mapping[str, Any]],
    path: Path | None,
    progress: bool | None,
) -> tuple[list[SweepRun], StopSignals]:
    """Trains the runs of these settings; returns them, and the signals that came."""
    with contextlib.ExitStack() as stack:
        vector = open_environment(stack, env, settings[0].get("num_envs"))
        on_device, device = isinstance(vector, DeviceVector), settings[0].get("device", Config.device)
        stack.enter_context(computing_on(place_to_begin(device, on_device=on_device)))
        runs = [plan_run(vector, env, one) for one in settings]
        pace = Pace(sum(run.config.nupdates for run in runs), 1)
        display = stack.enter_context(contextlib.closing(open_display(pace, progress, (SWEEP_COLUMNS,))))
        display.say(announcement(axes, [run.config.nupdates * run.config.nbatch for run in runs]))
        interruption.forget()
        stop = stack.enter_context(StopSignals())
        display.begin()
        screen = SweepScreen(runs, pace, display)
        if isinstance(vector, DeviceVector):
            lines = [remarks.at_start(run.config, run.model, vector, fresh=True) for run in runs]
            for line in dict.fromkeys(itertools.chain(*lines)):
                display.say(line)
            train_together(vector.env, runs, screen, stop)
            for run in runs:
                place_model(run.model, vector, Start())
        else:
            _train_in_turn(env, runs, path, screen, stop)
    return runs, stop


def _train_in_turn(
    env: Any, runs: Sequence[SweepRun], path: Path | None, screen: SweepScreen, stop: StopSignals
) -> None:
    """Trains one run after another; those that come after a stop stay untrained."""
    for i, run in enumerate(runs):
        if stop.received is not None:
            return
        run_dir = None if path is None else path / "runs" / f"{i:04}"
        try:
            record = functools.partial(_record, run, screen)
            learn(env=env, run_dir=run_dir, update_fn=record, progress=False, **run.settings)
        except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard the signal, and finished its update
            stop.received = signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else signal.SIGTERM


def _record(run: SweepRun, screen: SweepScreen, update: int, model: Model, stats: Any) -> None:
    """Keeps the model as it is now, and its mean return: an `update_fn`."""
    run.model = model
    screen.tick(1)
    if run.record(update, stats.eprewmean):
        screen.show()


def _check_empty(path: Path) -> None:
    """Raises ValueError where something else than its lock is in the directory of a sweep."""
    if any(entry.name != LOCK for entry in path.iterdir()):
        raise ValueError(f"`run_dir` (={str(path)!r}) exists and isn't empty: choose another, or remove it.")

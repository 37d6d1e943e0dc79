"""`sweep`: many trainings at once, over seeds and hyperparameters."""

import contextlib
import csv
import functools
import io
import itertools
import json
import math
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppo2 import distributed, networks
from ppo2.agent.model import Model
from ppo2.agent.placement import asked_place, place_to_begin
from ppo2.config import Config, jsonable, names
from ppo2.envs import DeviceVector
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.numerics.randomness import fresh_seed
from ppo2.reporting import plot
from ppo2.reporting.figures import SWEEP_COLUMNS, Pace
from ppo2.reporting.screens import open_display
from ppo2.system import files, launch, runtime
from ppo2.system.calls import told_plainly
from ppo2.system.directory_lock import LOCK
from ppo2.system.signals import StopSignals, raise_for
from ppo2.system.text import say_error
from ppo2.training import interruption, remarks, run_directory
from ppo2.training.construction import open_environment, place_model
from ppo2.training.learn import learn
from ppo2.training.start import Start
from ppo2.training.sweep_plan import Curve, SweepRun, plan_run
from ppo2.training.sweep_screen import SweepScreen
from ppo2.training.vmapped import train_together

Row = dict[str, Any]

ROW_KEYS = ("final", "best", "auc")
NOT_TAKEN = (
    "load_path", "load_parts", "update_fn", "init_fn", "eval_env", "eval_interval", "eval_episodes", "save_interval",
    "keep",
)  # fmt: skip
NOT_SWEPT = ("env", "run_dir", "progress", "device")
TABLE, CURVES, PICTURE, SETTINGS, MODELS = "table.csv", "curves.csv", "curves.png", "sweep.json", "models"


@dataclass(eq=False, repr=False)
class Sweep:
    """The result of a sweep. Runs are numbered from 0, in the order of `table`.

    Attributes:
        table: one dict a run: `run`, `seed`, every setting that was swept and the scalar hyperparameters; then
            `final`, the mean return of the last 100 episodes, `best`, the highest that it was at any row of the log,
            `auc`, the area under that curve over its timesteps (so in units of return), `timesteps`, and
            `skipped_updates`, those that were not finite. NaN where no episode ended.
        models: the trained models.
        curves: the learning curve of each run: timesteps and mean returns of its log.
        swept: the names of the settings that were swept, seed aside.
        run_dir: the directory that it was saved in, or None.
        seeds: number of seeds of each configuration.
        unsaved: words about why not all of it is on the disk; "" where all is well.
    """

    table: list[Row]
    models: list[Model]
    curves: list[Curve]
    swept: tuple[str, ...]
    run_dir: Path | None
    seeds: int
    unsaved: str = ""

    def best(self, by: str = "final") -> Row:
        """The row of the run with the highest `by`; its model is `models[row["run"]]`.

        Raises:
            ValueError: `by` is none of final, best, auc; or no episode ended in any run.
        """
        if by not in ROW_KEYS:
            raise ValueError(f"`by` (={by!r}) must be 'final', 'best' or 'auc'.")
        finished = [row for row in self.table if not math.isnan(row[by])]
        if not finished:
            raise ValueError("no episode ended in any run of this sweep, so that none is the best: train longer.")
        return max(finished, key=lambda row: row[by])

    def configurations(self) -> list[Row]:
        """One row for each configuration: what was swept, `runs`, and the interquartile means over seeds of the
        figures in `table`. Best first.
        """
        rows = []
        for members in self._by_configuration():
            setting = {name: self.table[members[0]][name] for name in self.swept}
            figures = {name: plot.iqm([self.table[i][name] for i in members]) for name in ROW_KEYS}
            rows.append({**setting, "runs": len(members), **figures})
        return sorted(rows, key=lambda row: -math.inf if math.isnan(row["final"]) else row["final"], reverse=True)

    def _by_configuration(self) -> list[range]:
        """The runs of each configuration, which differ in the seed alone: neighbours, as the seed varies fastest."""
        return [range(first, first + self.seeds) for first in range(0, len(self.table), self.seeds)]

    def save(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Writes table, curves, picture, settings and models into a directory."""
        (path / MODELS).mkdir(parents=True, exist_ok=True)
        files.replace(path / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())
        _write_csv(path / TABLE, self.table[0], (map(_shown, row.values()) for row in self.table))
        points = (
            (i, t, r)
            for i, curve in enumerate(self.curves)
            for t, r in zip(*map(np.ndarray.tolist, curve), strict=True)
        )
        _write_csv(path / CURVES, ("run", "timesteps", "return"), points)
        for i, model in enumerate(self.models):
            model.save(path / MODELS / f"{i:04}.safetensors")
        self.plot(path / PICTURE)

    def plot(self, out: str | os.PathLike[str]) -> Path | None:
        """Draws the learning curves, a line for each configuration: the interquartile mean over its seeds, and a band
        that holds it with 95 % confidence (bootstrap over seeds). None where no episode ended.
        """
        groups: list[tuple[str, list[tuple[Any, Any]]]] = []
        for members in self._by_configuration():
            label = "  ".join(f"{name} {_shown(self.table[members[0]][name])}" for name in self.swept)
            groups.append((label, [(self.curves[i].timesteps, self.curves[i].returns) for i in members]))
        return plot.confidence(groups, Path(out), title=str(_shown(self.models[0].config.env)))


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
    axes = _axes({"env": env, "run_dir": run_dir, "progress": progress, **arguments})
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
        table = [_row(i, run, swept) for i, run in enumerate(runs)]
        models, curves = [run.model for run in runs], [run.curve for run in runs]
        result = Sweep(table, models, curves, swept, path, seeds=len(axes["seed"]))
        if path is not None:
            result.unsaved = _save(result, path, {"env": env, "swept": axes, "fixed": fixed})
    if stop.received is not None:
        interruption.keep(result)
        if not interruption.is_returned(stop):
            raise_for(stop.received)
    return result


def _save(result: Sweep, path: Path, settings: Mapping[str, Any]) -> str:
    """Saves a sweep, whose result isn't lost for a full disk; returns what it said where it couldn't."""
    try:
        result.save(path, {name: jsonable(value) for name, value in settings.items()})
    except OSError as error:
        words = (
            f"the results of the sweep could not be saved whole in {path} ({error.strerror or error}). "
            f"{files.remedy(error).capitalize()}. Then, in Python, `Sweep.save` writes those that `sweep` returns."
        )
        say_error(words)
        return words
    return ""


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
        display.say(_announcement(axes, runs))
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


def _is_one_value(name: str, values: Any, arguments: Mapping[str, Any]) -> bool:
    """True if a list is one value of an argument of the network that is a list itself, such as `convs`."""
    network = arguments.get("network", "mlp")
    builder = networks.known().get(network) if isinstance(network, str) else network
    option = networks.options(builder).get(name) if callable(builder) else None
    return option is not None and isinstance(option.default, tuple) and _depth(values) <= _depth(option.default)


def _depth(value: Any) -> int:
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list | tuple) else 0


def _axes(arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The arguments to sweep over: those that were given as several values."""
    axes: dict[str, list[Any]] = {}
    for name, values in arguments.items():
        if not isinstance(values, list | range | np.ndarray | jax.Array) or _is_one_value(name, values, arguments):
            continue
        if name == "info_keys":  # a list by itself
            continue
        if name in NOT_SWEPT:
            raise ValueError(f"`{name}` (={values!r}) can't be swept over: expected one value, found {len(values)}.")
        listed = list(values) if isinstance(values, list | range) else np.atleast_1d(values).tolist()
        if not listed:
            raise ValueError(f"`{name}` (={values!r}) is empty: expected at least one value to sweep over.")
        several = (list, range, dict, np.ndarray, *([tuple] if name in names(together=True) else []))
        for value in listed:
            if isinstance(value, several):
                raise ValueError(
                    f"`{name}` is swept over {values!r}: expected single values, found {value!r}, a "
                    f"{type(value).__name__}."
                )
        if len(set(map(repr, listed))) < len(listed):
            raise ValueError(f"`{name}` (={values!r}) holds a value twice: the same run would be trained twice.")
        axes[name] = listed
    return axes


def _check_empty(path: Path) -> None:
    """Raises ValueError where something else than its lock is in the directory of a sweep."""
    if any(entry.name != LOCK for entry in path.iterdir()):
        raise ValueError(f"`run_dir` (={str(path)!r}) exists and isn't empty: choose another, or remove it.")


def _announcement(axes: Mapping[str, Sequence[Any]], runs: Sequence[SweepRun]) -> str:
    """The line that announces a sweep."""
    several = {name: len(values) for name, values in axes.items() if len(values) > 1}
    words = [f"{count} {'seeds' if name == 'seed' else f'values of {name}'}" for name, count in several.items()]
    steps = sum(run.config.nupdates * run.config.nbatch for run in runs)
    count = f"{' x '.join(words)} = {len(runs)} runs" if words else "one run"
    return f"sweep     {count} of {steps // len(runs):,} timesteps"


def _row(index: int, run: SweepRun, swept: Sequence[str]) -> Row:
    """The row of a run in the table."""
    config, (timesteps, returns) = run.config, run.curve
    there = np.isfinite(returns)
    known, at = returns[there], timesteps[there]
    if len(at) > 1:
        area = float(np.trapezoid(known, at) / (at[-1] - at[0]))
    else:
        area = float(known[0]) if len(at) else math.nan
    return {
        "run": index,
        "seed": config.seed,
        **{name: run.settings[name] for name in swept},
        **{name: getattr(config, name) for name in names(together=True) if name not in swept},
        "final": float(returns[-1]) if len(returns) else math.nan,
        "best": float(known.max()) if len(known) else math.nan,
        "auc": area,
        "timesteps": int(timesteps[-1]) if len(timesteps) else 0,
        "skipped_updates": int(run.model.state.counters.skipped_updates),
    }


def _shown(value: Any) -> Any:
    """A setting in a table: what no file can hold by its name."""
    plain = jsonable(value)
    return plain["object"] if isinstance(plain, dict) else plain


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    files.replace(path, text.getvalue().encode())

"""The directory of a sweep that goes on: its settings, and what there is of its runs."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.progress import Progress, row_of
from ppo2.numerics.randomness import fresh_seed
from ppo2.plot.sources import SETTINGS
from ppo2.reporting.run_curve import read_episodes, read_table
from ppo2.reporting.tables import rows_of
from ppo2.runners.episodes import EPISODE_WINDOW
from ppo2.sweeps.plan import Returns, SweepRun, has_row
from ppo2.sweeps.result import settings_json, write_settings_file
from ppo2.system import files
from ppo2.system.directory_lock import LOCK
from ppo2.system.text import parse_json
from ppo2.training import run_directory
from ppo2.training.construction import warm_up_steps

INFO = "info/"
"""Beginning of the names of columns that are means of numbers of `info`."""
Settings = Mapping[str, Any]


def settings_in(path: Path) -> dict[str, Any] | None:
    """The settings of the sweep in a directory: `env`, `swept` and `fixed`; None where nothing is in it but its lock.

    Raises:
        ValueError: something else is there.
    """
    if all(entry.name == LOCK for entry in path.iterdir()):
        return None
    try:
        found = parse_json((path / SETTINGS).read_text(encoding="utf-8"))
        if isinstance(found.get("swept"), dict) and isinstance(found.get("fixed"), dict):
            return found
    except (OSError, ValueError):
        pass
    raise not_empty(path)


def not_empty(path: Path) -> ValueError:
    """The error about a directory in which no sweep can begin or go on."""
    return ValueError(f"`run_dir` (={str(path)!r}) exists and isn't empty: choose another, or remove it.")


def check_same(before: Settings, now: Settings, path: Path) -> None:
    """Raises ValueError where a sweep can't go on under these settings, naming those that differ."""
    saved, mine = _flat(before), _flat(json.loads(json.dumps(settings_json(now))))
    if listed := differences(saved, mine):
        raise ValueError(
            f"`run_dir` (={str(path)!r}) exists and isn't empty: it holds a sweep with other settings ({listed}). "
            "Choose another, or remove it; or give the same settings, to continue it."
        )
    if [*before["swept"]] != [*now["swept"]]:
        raise ValueError(
            f"`run_dir` (={str(path)!r}) exists and isn't empty: it holds a sweep whose settings were given in another "
            f"order, which numbers its runs: {', '.join(before['swept'])}. Give them in that order, to continue it."
        )


def differences(saved: Settings, given: Settings) -> str:
    """Words about the settings that differ; "" where none does."""
    names = [name for name in {**saved, **given} if saved.get(name) != given.get(name)]
    return "; ".join(f"`{name}` was {saved.get(name)!r}, is {given.get(name)!r}" for name in names)


def write_settings(file: Path, settings: Settings) -> None:
    """Writes settings, as JSON holds them, of what begins, for it to go on wherever it is stopped.

    Raises:
        ValueError: they can't be written.
    """
    try:
        write_settings_file(file, settings)
    except OSError as error:
        raise ValueError(f"{file} can't be written ({error.strerror or error}): {files.remedy(error)}.") from error


def seeds(given: Sequence[int | None], before: Settings | None) -> list[int]:
    """The seeds of a sweep, in which None is that of the sweep that goes on, or else drawn."""
    saved = [] if before is None else before["swept"].get("seed", [])
    if len(saved) != len(given) or not all(type(seed) is int for seed in saved):
        saved = [None] * len(given)
    chosen = [there if mine is None else mine for mine, there in zip(given, saved, strict=True)]
    return [fresh_seed() if seed is None else seed for seed in chosen]


def note(runs: Sequence[SweepRun], path: Path) -> str:
    """The line that says how a sweep goes on."""
    finished, begun = (sum(test(run) for run in runs) for test in (_is_finished, _is_begun))
    are, go_on = "is" if finished == 1 else "are", "continues" if begun == 1 else "continue"
    words = [f"{finished} of {len(runs)} runs {are} finished" if finished else "", f"{begun} {go_on}" if begun else ""]
    return f"the sweep in {path} continues: {', '.join(filter(None, words)) or 'no run has a checkpoint'}"


def _is_finished(run: SweepRun) -> bool:
    return run.status == "finished"


def _is_begun(run: SweepRun) -> bool:
    return run.update > 0 and not _is_finished(run)


def take_up(run: SweepRun) -> None:
    """Reads what the directory of a run has: the model, where it is finished, and the learning curve so far.

    Raises:
        ValueError: it was trained under other settings; or its checkpoint can't be read.
    """
    folder = run.run_dir
    if folder is None or not checkpoint.numbered(folder / checkpoint.FOLDER):
        return
    saved = checkpoint.load(folder)
    progress = Progress.of(saved)
    run_directory.check_same(saved.section("config"), run.config, folder, progress.update)
    rows = {int(row["misc/nupdates"]): row for row in rows_of(folder)}
    if progress.unfinished is not None:  # the run that goes on writes it
        rows[progress.update] = row_of(progress.unfinished)
    logged = {u: row for u, row in rows.items() if u <= progress.update and has_row(run.config, u)}
    warm_up = warm_up_steps(run.config, run.model) * run.config.num_envs
    for update, returns in _returns(folder, run.config.nbatch, progress.update, logged, warm_up).items():
        run.record(update, returns)
    run.update, run.episodes = progress.update, progress.episodes + progress.left_out
    if run.update >= run.config.nupdates:
        run.take_over(saved)
        run.status = "finished"


def _returns(
    folder: Path, nbatch: int, updates: int, logged: Mapping[int, Mapping[str, float]], warm_up: int
) -> dict[int, Returns]:
    """Known figures of a run's returns after each update.

    Args:
        logged: rows of the log, by update; of other updates the means are of the rows of monitor.csv.
        warm_up: timesteps before the first update, whose episodes monitor.csv has too.
    """
    found = dict[int, Returns]()
    for update, row in sorted(logged.items()):
        infos = {key.removeprefix(INFO): value for key, value in row.items() if key.startswith(INFO)}
        found[update] = Returns.of(row["eprewmean"], [row["eprewmean"]], infos)
    try:
        timesteps, monitor = read_episodes(folder / "monitor.csv", read_table(folder / "progress.csv"))
    except ValueError:  # damaged: the rows of the log are there
        return found
    ends = np.searchsorted(timesteps, warm_up + np.arange(updates + 1) * nbatch, side="right")
    ends[0] = 0
    for update in range(1, updates + 1):
        before, end = ends[update - 1], ends[update]
        window = monitor["r"][max(0, end - EPISODE_WINDOW) : end]
        mean, infos = float(window.mean()) if window.size else math.nan, {}
        if update in found:
            mean, infos = found[update].mean, dict(found[update].infos)
        found[update] = Returns.of(mean, monitor["r"][max(before, end - EPISODE_WINDOW) : end], infos)
    return dict(sorted(found.items()))


def _flat(settings: Settings) -> dict[str, Any]:
    """Settings by name, without those that make no other runs."""
    flat = {"env": settings["env"], **settings["fixed"], **settings["swept"]}
    return {name: value for name, value in flat.items() if name != "device"}

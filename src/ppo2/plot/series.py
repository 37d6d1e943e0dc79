"""Lines of a picture from the files of runs: a figure of the log, or of each episode, against timesteps, updates or
time; runs that differ only in the seed together.
"""

import difflib
import json
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ppo2.config import PLACEHOLDER, is_placeholder
from ppo2.reporting.episode_file import RECENT_SHARE
from ppo2.reporting.run_curve import Floats, RunCurve
from ppo2.system.text import printable

X = Literal["timesteps", "updates", "time"]
RETURN, LENGTH = "return", "length"
EPISODES = {RETURN: "r", LENGTH: "l"}
"""Figures of each episode that have a name of their own, and their columns in monitor.csv."""
TIMESTEPS, UPDATES, SECONDS = "misc/total_timesteps", "misc/nupdates", "misc/time_elapsed"
ROW_COLUMNS = {"timesteps": TIMESTEPS, "updates": UPDATES, "time": SECONDS}
NOT_CONFIGURATION = frozenset(
    {"seed", "run_dir", "load_path", "progress", "log_interval", "monitor_limit", "save_interval", "keep"}
    | {"eval_interval", "eval_episodes", "eval_env", "eval_env_kwargs", "log", "log_options", "versions", "sessions"}
    | {"device", "devices", "engine", "placement", "acts_with", "most_parts"}
)
"""Entries of config.json in which runs of one configuration may differ."""
MOST_POINTS = 2000
"""Points of a curve: it needs no more, and an SVG of a million episodes can't be opened."""
RECENT_WORDS = f"mean within {RECENT_SHARE:.0%} of the timesteps"
GRID_POINTS = 500
"""Points at which the runs of a band are compared."""
MOST_NAMES = 40
"""Characters of the names of several runs in a legend."""


class Line(NamedTuple):
    """A line, and the band around it where there are several runs."""

    label: str
    x: Floats
    mean: Floats
    low: Floats | None = None
    high: Floats | None = None


class Series(NamedTuple):
    """One figure of one run.

    Attributes:
        timesteps: timesteps of each value, ascending.
        x: places on the axis.
        values: finite.
        of_episodes: True if there is a value for each episode, False for each row of the log.
    """

    timesteps: Floats
    x: Floats
    values: Floats
    of_episodes: bool


def columns_of(run: RunCurve) -> list[str]:
    """The names of all figures of a run."""
    episodes = [name for name in run.monitor if name not in ("r", "l", "t", "env")]
    return list(dict.fromkeys([RETURN, *([LENGTH] if run.monitor else []), *run.progress, *episodes]))


def check_x(x: Any) -> None:
    """Raises ValueError where `x` names no axis."""
    if x not in get_args(X):
        raise ValueError(f"`x` (={x!r}) must be one of {', '.join(map(repr, get_args(X)))}")


def series_of(run: RunCurve, y: str, x: X) -> Series:
    """A figure of a run.

    Raises:
        ValueError: the run has no such column, or no value in it yet, or nothing that says where on the axis.
    """
    name = EPISODES.get(y, y)
    if y not in run.progress and (y == RETURN or name in run.monitor):
        values, timesteps, of_episodes = run.monitor.get(name, run.returns), run.timesteps, True
        places = _places_of_episodes(run, x)
    elif y in run.progress and TIMESTEPS in run.progress:
        values, timesteps, of_episodes = run.progress[y], run.progress[TIMESTEPS], False
        places = run.progress.get(ROW_COLUMNS[x], np.full(len(values), np.nan))
    else:
        raise ValueError(_unknown(run, y))
    there = np.isfinite(values) & np.isfinite(timesteps)
    if not there.any():
        what = "finished episode" if of_episodes and y in EPISODES else f"value of {y!r}"
        raise ValueError(f"{printable(run.path)} has no {what} yet, so there is nothing to draw")
    there &= np.isfinite(places)
    if not there.any():
        raise ValueError(f"`x` (={x!r}): {printable(run.path)} doesn't say at which; draw it by timesteps")
    return Series(timesteps[there], places[there], values[there], of_episodes)


def _places_of_episodes(run: RunCurve, x: X) -> Floats:
    """Places on the axis at which the episodes ended."""
    if x == "timesteps":
        return run.timesteps
    nowhere = np.full(len(run.timesteps), np.nan)
    if x == "time":
        return run.monitor.get("t", nowhere)
    total, updates = (run.progress.get(name, np.empty(0)) for name in (TIMESTEPS, UPDATES))
    sizes = [run.config.get("num_envs"), run.config.get("nsteps")]
    if total.size and updates.size and updates[-1] > 0:
        return run.timesteps / float(total[-1] / updates[-1])
    whole = [size for size in sizes if isinstance(size, int) and size > 0]
    return np.divide(run.timesteps, math.prod(whole), dtype=np.float64) if len(whole) == len(sizes) else nowhere


def _unknown(run: RunCurve, y: str) -> str:
    """The error about a column that a run doesn't have, with the names that are nearest."""
    known = columns_of(run)
    tails = {name.rpartition("/")[2]: name for name in reversed(known)}
    near = difflib.get_close_matches(y, known, n=3, cutoff=0.6)
    near += [tails[name] for name in difflib.get_close_matches(y.rpartition("/")[2], tails, n=3, cutoff=0.6)]
    near = list(dict.fromkeys(near))[:3]
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"`y` (={printable(y)!r}) is no column of {printable(run.path)}: {hint}It has {printable(', '.join(known))}"


def rolling_mean(values: Floats, window: int) -> Floats:
    """Mean of the last `window` values at each place; at the first places, of those there are."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return np.asarray((total[end] - total[start]) / (end - start), dtype=np.float64)


def mean_within(timesteps: Floats, values: Floats, window: float) -> Floats:
    """Mean, at each place, of the values of the last `window` timesteps, which ascend; those at the same one count."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    start = np.searchsorted(timesteps, timesteps - window, side="right")
    end = np.searchsorted(timesteps, timesteps, side="right")
    return np.asarray((total[end] - total[start]) / (end - start), dtype=np.float64)


def window_words(runs: Sequence[RunCurve], smooth: int | None, *, of_episodes: bool) -> str:
    """Words for the mean that a line shows; "" where it shows each row of the log."""
    if smooth is None or (of_episodes and all(run.is_smooth for run in runs)):
        return RECENT_WORDS if of_episodes else ""
    unit = "episode" if of_episodes else "row"
    return f"mean of the last {smooth} {unit}s" if smooth > 1 else f"each {unit}"


def lines_of(
    runs: Sequence[RunCurve], y: str, x: X, smooth: int | None, labels: Sequence[str] | None = None
) -> list[Line]:
    """A line for each configuration, named by its run, or by what differs; or for each label that was given."""
    groups: dict[str, list[RunCurve]] = {}
    for run, label in zip(runs, labels_of(runs) if labels is None else labels, strict=True):
        groups.setdefault(label, []).append(run)
    return [_line(label, group, y, x, smooth) for label, group in groups.items()]


def labels_of(runs: Sequence[RunCurve]) -> list[str]:
    """The name of each run's line: runs of one configuration share one."""
    groups: dict[str, list[RunCurve]] = {}
    configurations = [_configuration(run) for run in runs]
    for run, configuration in zip(runs, configurations, strict=True):
        groups.setdefault(configuration, []).append(run)
    labels = dict(zip(groups, _group_labels(list(groups.values())), strict=True))
    return [labels[configuration] for configuration in configurations]


def _group_labels(groups: Sequence[Sequence[RunCurve]]) -> list[str]:
    differing = _differing([group[0] for group in groups])
    names = _names([run for group in groups for run in group])
    labels, at = [], 0
    for group, setting in zip(groups, differing, strict=True):
        mine, at = names[at : at + len(group)], at + len(group)
        if len(group) == 1:
            labels.append(f"{mine[0]}: {setting}" if setting else mine[0])
            continue
        listed = ", ".join(mine)
        members = f"{len(group)} runs" + (f": {listed}" if len(listed) <= MOST_NAMES else "")
        labels.append(f"{setting}  ({members})" if setting else f"mean of {members}")
    return labels


def _configuration(run: RunCurve) -> str:
    """Text that is equal for runs of one configuration. A run without config.json is like no other."""
    settings = {key: value for key, value in run.config.items() if key not in NOT_CONFIGURATION}
    return json.dumps(settings, sort_keys=True) if run.config else str(run.path.resolve())


def _differing(runs: Sequence[RunCurve]) -> list[str]:
    """The settings in which runs differ, if they are few and tell them apart; else "" for each."""
    keys = sorted({key for run in runs for key in run.config} - NOT_CONFIGURATION)
    differing = [key for key in keys if len({json.dumps(run.config.get(key)) for run in runs}) > 1]
    prefixes = {key: "" if key in ("env", "network") else f"{printable(key)} " for key in differing}
    texts = ["  ".join(prefix + shown(run.config.get(key)) for key, prefix in prefixes.items()) for run in runs]
    return texts if 0 < len(differing) <= 3 and len(set(texts)) == len(runs) else [""] * len(runs)


def _names(runs: Sequence[RunCurve]) -> list[str]:
    """Names of runs: those of their directories, or their paths where these are alike."""
    names = [printable(run.path.resolve().name) for run in runs]
    return names if len(set(names)) == len(runs) else [printable(run.path) for run in runs]


def shown(value: Any) -> str:
    """A setting as text; for an object that config.json could not hold, its name."""
    return printable(value[PLACEHOLDER] if is_placeholder(value) else value)


def _line(label: str, group: Sequence[RunCurve], y: str, x: X, smooth: int | None) -> Line:
    found = [series_of(run, y, x) for run in group]
    window = RECENT_SHARE * max(series.timesteps[-1] for series in found)

    def mean(run: RunCurve, series: Series) -> Floats:
        if run.is_smooth or (smooth is None and not series.of_episodes):
            return series.values
        if smooth is None:
            return mean_within(series.timesteps, series.values, window)
        return rolling_mean(series.values, smooth)

    smoothed = []
    for run, series in zip(group, found, strict=True):
        order = np.argsort(series.x, kind="stable")  # clocks of environments, unlike their timesteps, may differ
        smoothed.append((series.x[order], mean(run, series)[order]))
    if len(group) == 1:
        return Line(label, *map(thinned, smoothed[0]))
    first, last = max(at[0] for at, _ in smoothed), min(at[-1] for at, _ in smoothed)
    if last < first or (last == first and y == RETURN):
        names = ", ".join(printable(run.path) for run in group)
        raise ValueError(f"{names}: runs of one configuration that have no {x} in common; draw them one by one")
    grid = np.linspace(first, last, GRID_POINTS if last > first else 1)
    curves = np.stack([np.interp(grid, *curve) for curve in smoothed])
    return Line(label, grid, curves.mean(0), curves.min(0), curves.max(0))


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """At most `MOST_POINTS` of the values, evenly spaced, with the first and the last."""
    count = min(len(values), MOST_POINTS)
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]

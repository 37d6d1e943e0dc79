"""Pictures of runs: `ppo2.plot.curve`.

    figure = ppo2.plot.curve("runs/x")                               # in a notebook, the last line of a cell shows it
    ppo2.plot.curve(["runs/x", "runs/y"], "kl.svg", x="updates", y=["loss/approxkl", "loss/clipfrac"], smooth=10)

Matplotlib is imported by the call, not with the module, and nothing global is touched: no pyplot, no rcParams.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppo2.plot.series import LENGTH, RETURN, TIMESTEPS, X, check_x, lines_of, series_of, shown, window_words
from ppo2.plot.sources import read_all
from ppo2.reporting.run_curve import Floats, RunCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ppo2.plot.drawing import Panel

__all__ = ["curve"]

SUFFIXES = (".png", ".svg", ".pdf")
MINUTES, HOURS = 600.0, 3 * 3600.0
"""Seconds of wall time from which on an axis has minutes, and hours."""
Run = os.PathLike[str] | str


def curve(
    runs: Run | Sequence[Run],
    out: Run | None = None,
    *,
    x: X = "timesteps",
    y: str | Sequence[str] = RETURN,
    smooth: int | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    axes: "Axes | None" = None,
) -> "Figure":
    """Draws figures of one run directory or several, or of a sweep, also while they are being written.

    Runs that differ in nothing but the seed share a line, their mean, and a band from the lowest to the highest of
    them, over what all of them have reached. One run's returns show its single episodes too, and its evaluations.

    Args:
        runs: run directories; the directory of a sweep is all of its runs.
        out: a file to write too: .png, .svg or .pdf.
        x: "timesteps" of all environments, "updates", or wall "time".
        y: "return" or "length" of episodes, a column of progress.csv, such as "loss/approxkl", or an additional column
            of monitor.csv, such as "is_success"; each of several has its own axes.
        smooth: number of the last episodes, or rows of the log, over which a point is the mean. None: the episodes
            within 5 % of the timesteps, so that the line doesn't lag more where episodes are long; single rows. The
            label of the axis says which.
        labels: names in the legend, one for each of `runs` (a sweep's runs share one); runs of one name share a line
            and a band. None: the names of the directories, and the settings that differ.
        title: None: the environment's id.
        axes: axes of your own to draw into.

    Returns:
        The figure, which a notebook shows; its `axes` are those that were drawn.

    Raises:
        ValueError: a run that can't be read, or has nothing to draw; no such column; another suffix.
    """
    given = [runs] if isinstance(runs, os.PathLike | str) else list(runs)
    columns = [y] if isinstance(y, str) else list(y)
    path = _checked(given, out, x, columns, smooth, labels, axes)
    read, names = _read(given, labels)
    envs = {shown(run.config["env"]) for run in read if run.config.get("env")}
    title = title or (envs.pop() if len(envs) == 1 else "Learning curves")
    panels = [_panel(read, column, x, smooth, names) for column in columns]

    from ppo2.plot.drawing import add_legend, draw, figure_of, write

    banded = len(panels[0].lines) > 1 and any(line.low is not None for panel in panels for line in panel.lines)
    meaning = "line: mean over runs, band: lowest to highest" if banded else ""
    if axes is None:
        figure = figure_of(panels, title, meaning)
    else:
        draw(axes, panels[0])
        axes.set_title(title, parse_math=False)
        add_legend(axes, axes, meaning)
        figure = axes.get_figure(root=True)  # type: ignore[assignment]
    if path is not None:
        write(figure, path)
    return figure


def _checked(
    runs: Sequence[Run],
    out: Run | None,
    x: X,
    columns: Sequence[str],
    smooth: int | None,
    labels: Sequence[str] | None,
    axes: "Axes | None",
) -> Path | None:
    """The path to write to, once all arguments are found to be right."""
    path = None if out is None else Path(out).expanduser()
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`out` (={str(path)!r}) must end in one of {', '.join(SUFFIXES)}")
    if smooth is not None and smooth < 1:
        raise ValueError(f"`smooth` (={smooth!r}) counts episodes, or rows of the log, and must be at least 1")
    check_x(x)
    if not runs:
        raise ValueError("`runs` is empty: name at least one run directory")
    if not columns:
        raise ValueError("`y` is empty: name at least one column, or leave it out for the episodes' return")
    if axes is not None and len(columns) > 1:
        raise ValueError(
            f"`axes` has room for one column, and `y` (={columns!r}) names {len(columns)}: draw each by itself"
        )
    if labels is not None and (isinstance(labels, str) or len(labels) != len(runs)):
        raise ValueError(f"`labels` (={labels!r}) must have a name for each of the {len(runs)} runs")
    return path


def _read(given: Sequence[Run], labels: Sequence[str] | None) -> tuple[list[RunCurve], list[str] | None]:
    """The runs, and the label of each if there are any."""
    read, names = list[RunCurve](), list[str]()
    for i, one in enumerate(given):
        found = read_all([Path(one).expanduser()])
        read += found
        names += [labels[i]] * len(found) if labels is not None else []
    return read, None if labels is None else names


def _panel(runs: Sequence[RunCurve], y: str, x: X, smooth: int | None, labels: Sequence[str] | None) -> "Panel":
    from ppo2.plot.drawing import Panel

    lines = lines_of(runs, y, x, smooth, labels)
    one = series_of(runs[0], y, x)
    unit, divisor = _unit(x, max(float(line.x[-1]) for line in lines))
    lines = [line._replace(x=line.x / divisor) for line in lines]
    window = window_words(runs, smooth, of_episodes=one.of_episodes)
    name = {RETURN: "episode return (sum of rewards)", LENGTH: "episode length (timesteps)"}.get(y, y)
    episodes = evaluations = None
    if len(runs) == 1 and one.of_episodes and not runs[0].is_smooth:
        lines = [lines[0]._replace(label=f"{lines[0].label}: {window}")]
        episodes = (one.x / divisor, one.values)
        evaluations = _evaluations(runs[0], x, divisor) if y == RETURN else None
    elif window:
        name += f",\n{window}"
    return Panel(lines, unit, name, "lowest to highest run", episodes, evaluations)


def _unit(x: X, last: float) -> tuple[str, float]:
    """Words for an axis, and the number by which its places are divided."""
    if x != "time":
        return {"timesteps": "environment timesteps", "updates": "updates"}[x], 1.0
    if last < MINUTES:
        return "wall time (seconds)", 1.0
    return ("wall time (minutes)", 60.0) if last < HOURS else ("wall time (hours)", 3600.0)


def _evaluations(run: RunCurve, x: X, divisor: float) -> tuple[Floats, Floats] | None:
    """Places and mean returns of a run's evaluations; None if there was none."""
    if TIMESTEPS not in run.progress or not np.isfinite(run.progress.get("eval_eprewmean", np.empty(0))).any():
        return None
    found = series_of(run, "eval_eprewmean", x)
    return found.x / divisor, found.values

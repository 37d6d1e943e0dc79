"""Charts of a report as data: lines over one axis, each with a band where several runs share it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppo2.plot.series import RETURN, Line, labels_of, lines_of, series_of, thinned
from ppo2.reporting.run_curve import Floats
from ppo2.reports.runs import Run

GRID_POINTS = 400
"""Places at which several lines are compared."""
BINS = 24
"""Bars of a histogram."""
SAME, LARGEST = 1e-12, 1e300
"""Share of values below which their differences are those of their last digits; number above which there is no bar."""
FEW_POINTS = 40
"""Points of a line below which each is marked."""

Chart = dict[str, Any]
"""A chart as the page's script draws it.

| key | meaning |
|---|---|
| id, kind | its element; "lines" or "bars" |
| x, y | names of the axes |
| data | places, then for each series its values; None where it has none |
| series | label, color (an index, the same in all charts for the same runs), role: "line", "low", "high", "dots" |
"""


def line_chart(
    chart_id: str, runs: Sequence[Run], columns: Sequence[str], y: str, *, dots: bool = False
) -> Chart | None:
    """Figures of runs by timesteps; None where no run has a value.

    Args:
        columns: names in `ppo2.plot`; several of one run are told apart by their names.
        dots: single episodes are shown too, where there is one run.
    """
    labels = labels_of([run.curve for run in runs])
    colors = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    lines = list[tuple[int, Line]]()
    for k, column in enumerate(columns):
        there = [i for i, run in enumerate(runs) if _has(run, column)]
        for line in _lines([runs[i] for i in there], [labels[i] for i in there], column):
            several, color = len(columns) > 1, colors.get(line.label, 0)
            name = column.rpartition("/")[2]
            label = line.label if not several else name if len(colors) == 1 else f"{line.label}: {name}"
            lines.append((color * len(columns) + k if several else color, line._replace(label=label)))
    if not lines:
        return None
    points = _dots(runs[0]) if dots and len(runs) == 1 else None
    data, series = _aligned([line for _, line in lines], [color for color, _ in lines], points)
    return {"id": chart_id, "kind": "lines", "x": "timesteps", "y": y, "data": data, "series": series}


def _has(run: Run, column: str) -> bool:
    try:
        return bool(series_of(run.curve, column, "timesteps").values.size)
    except ValueError:
        return False


def _lines(runs: Sequence[Run], labels: Sequence[str], column: str) -> list[Line]:
    """The lines of runs; each run by itself where runs of one label have no timesteps in common."""
    if not runs:
        return []
    curves = [run.curve for run in runs]
    try:
        return lines_of(curves, column, "timesteps", None, labels)
    except ValueError:
        names = [f"{label}: {run.name}" for run, label in zip(runs, labels, strict=True)]
        return lines_of(curves, column, "timesteps", None, names)


def _dots(run: Run) -> tuple[Floats, Floats] | None:
    if run.curve.is_smooth or not _has(run, RETURN):
        return None
    found = series_of(run.curve, RETURN, "timesteps")
    return (thinned(found.x), thinned(found.values)) if found.of_episodes else None


def _aligned(
    lines: Sequence[Line], colors: Sequence[int], dots: tuple[Floats, Floats] | None
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Data and series over the places of all lines."""
    if len(lines) == 1 and dots is None:
        x = np.unique(lines[0].x)
    else:
        ends = [end for line in lines for end in (line.x[0], line.x[-1])]
        few = [line.x for line in lines if len(line.x) <= FEW_POINTS]
        x = np.unique(np.concatenate([np.linspace(min(ends), max(ends), GRID_POINTS), ends, *few]))
    if dots is not None:
        x = np.unique(np.concatenate([x, dots[0]]))
    data, series = [_json(x)], list[dict[str, Any]]()

    def add(values: Floats, line: Line, color: int, role: str) -> None:
        data.append(_json(np.interp(x, line.x, values, left=np.nan, right=np.nan)))
        marked = len(line.x) <= FEW_POINTS
        series.append({"label": line.label, "color": color, "role": role, "marked": marked})

    for line, color in zip(lines, colors, strict=True):
        add(line.mean, line, color, "line")
        if line.low is not None and line.high is not None:
            add(line.high, line, color, "high")
            add(line.low, line, color, "low")
    if dots is not None:
        values = np.full(len(x), np.nan)
        values[np.searchsorted(x, dots[0])] = dots[1]
        data.append(_json(values))
        series.append({"label": "one episode", "color": colors[0], "role": "dots", "marked": True})
    return data, series


def histogram(chart_id: str, returns: Sequence[tuple[str, Floats]], x: str) -> Chart | None:
    """Histograms of returns, with the same bins; None where there is no return."""
    numbers = [(label, np.asarray(values, np.float64).ravel()) for label, values in returns]
    known = [(label, kept) for label, values in numbers if (kept := values[np.abs(values) < LARGEST]).size]
    if not known:
        return None
    edges = _edges(np.concatenate([values for _, values in known]))
    data = [_json((edges[:-1] + edges[1:]) / 2), *(_json(np.histogram(values, edges)[0]) for _, values in known)]
    series = [{"label": label, "color": i, "role": "bars", "marked": False} for i, (label, _) in enumerate(known)]
    width = float(edges[1] - edges[0])
    return {"id": chart_id, "kind": "bars", "x": x, "y": "episodes", "data": data, "series": series, "width": width}


def _edges(values: Floats) -> Floats:
    """Edges of a histogram's bars, `BINS` at most; of values that are the same but for their last digits, of one."""
    low, high = float(values.min()), float(values.max())
    if high - low <= SAME * max(abs(low), abs(high)):
        half = max(0.5, SAME * abs(high))
        return np.array([low - half, high + half])
    edges = np.histogram_bin_edges(values, BINS if len(np.unique(values)) > BINS else "auto")
    return edges if len(edges) - 1 <= BINS else np.histogram_bin_edges(values, BINS)


def _json(values: Floats) -> list[float | None]:
    """Numbers for JSON, in seven digits; None for one that isn't finite."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in np.asarray(values, np.float64).tolist()]

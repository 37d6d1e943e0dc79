"""Learning curves of finished and running runs: episode return against environment timesteps.

Matplotlib is imported by the call, not with the module, and nothing global is touched: no pyplot, no rcParams.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo2.config import PLACEHOLDER, is_placeholder
from ppo2.reporting.episode_file import RECENT_SHARE
from ppo2.reporting.run_curve import Floats, RunCurve, read_run
from ppo2.runners.episodes import EPISODE_WINDOW
from ppo2.system import files
from ppo2.system.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; without the yellow, too light for a line."""
NOT_CONFIGURATION = frozenset(
    {"seed", "run_dir", "load_path", "progress", "log_interval", "monitor_limit", "save_interval", "keep"}
    | {"versions", "sessions"}
)
"""Entries of config.json in which runs of one configuration may differ."""
FEWEST_SEEDS = 3
"""Runs that a confidence band needs."""
MOST_POINTS = 2000
"""Points of a curve: it needs no more, and an SVG of a million episodes can't be opened."""


class Line(NamedTuple):
    """A line, and the band around it where there are several runs."""

    label: str
    timesteps: Floats
    mean: Floats
    low: Floats | None = None
    high: Floats | None = None


Curves = Sequence[tuple[Floats, Floats]]
"""(timesteps, returns) of each run, all at the same timesteps."""


def curve(
    runs: Path | str | Sequence[Path | str], out: Path | str, *, smooth: int | None = None, title: str | None = None
) -> Path:
    """Draws the learning curve of one run directory or several to `out`, in the format of its suffix.

    A line is the mean return of the last `smooth` episodes; by default of those within 5 % of the timesteps, so that it
    lags behind them no more where they are long. One run shows its single episodes too, and its
    evaluations. Runs that differ in nothing but the seed share a line, their mean, and a band from the lowest to the
    highest of them, over the timesteps that all of them have reached.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`out` (={str(out)!r}) must end in one of {', '.join(SUFFIXES)}")
    if smooth is not None and smooth < 1:
        raise ValueError(f"`smooth` (={smooth}) counts episodes and must be at least 1")
    read = [read_run(run) for run in ([runs] if isinstance(runs, Path | str) else runs)]
    if not read:
        raise ValueError("`runs` is empty: name at least one run directory")
    for run in read:
        if not run.returns.size:
            raise ValueError(f"{run.path} has no finished episode yet, so there is nothing to draw")
    envs = {_shown(run.config["env"]) for run in read if run.config.get("env")}
    title = title or (envs.pop() if len(envs) == 1 else "Learning curves")
    _write(_figure_of_runs(read, title, smooth), out)
    return out


def confidence(groups: Sequence[tuple[str, Curves]], out: Path, *, title: str) -> Path | None:
    """Draws learning curves with what is known of them: for each (label, curves of its runs), the interquartile mean
    and a band that holds it with 95 % confidence, by bootstrap over the runs. None where no run has a value.

    Of more groups than colours, those that ended highest.

    Source: Agarwal et al. 2021, arXiv:2108.13264 (interquartile mean and bootstrap over seeds).
    """
    found = [(label, kept) for label, curves in groups if (kept := _common(curves)) is not None]
    if not found:
        return None
    found.sort(key=lambda one: iqm(one[1][1][:, -1]), reverse=True)
    lines = [_confident_line(label, *kept) for label, kept in found[: len(COLORS)]]
    left_out = f"the best {len(COLORS)} of {len(found)}" if len(found) > len(COLORS) else ""
    banded = any(line.low is not None for line in lines)
    meaning = "line: interquartile mean over seeds, band: 95 % confidence" if banded else ""
    figure = _figure(
        lines,
        title,
        window=f"mean of the last {EPISODE_WINDOW} episodes",
        band="95 % confidence",
        legend_title="; ".join(filter(None, (meaning, left_out))) or None,
    )
    _write(figure, out)
    return out


def iqm(values: Floats | Sequence[float]) -> float:
    """The mean of the middle half of the finite values; NaN if there are none."""
    from scipy.stats import trim_mean

    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    return float(trim_mean(finite, 0.25)) if finite.size else float("nan")


def _common(curves: Curves) -> tuple[Floats, Floats] | None:
    """Timesteps, and returns (runs, timesteps), where every run has one; None if there are none."""
    curves = [curve for curve in curves if len(curve[0])]  # without runs that were stopped before their first row
    points = min((len(timesteps) for timesteps, _ in curves), default=0)
    returns = np.array([values[:points] for _, values in curves])
    kept: NDArray[Any] = _thinned(np.flatnonzero(np.isfinite(returns).all(0))) if curves else np.empty(0)
    return (curves[0][0][kept].astype(np.float64), returns[:, kept]) if len(kept) else None


def _confident_line(label: str, timesteps: Floats, returns: Floats) -> Line:
    from scipy.stats import bootstrap, trim_mean

    middle = trim_mean(returns, 0.25, axis=0)
    if len(returns) < FEWEST_SEEDS:
        return Line(label, timesteps, middle)
    interval = bootstrap(
        (returns,),
        lambda sample, axis: trim_mean(sample, 0.25, axis=axis),
        axis=0,
        n_resamples=1000,
        batch=50,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Line(label, timesteps, middle, interval.low, interval.high)


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


def _lines(runs: Sequence[RunCurve], smooth: int | None) -> list[Line]:
    """A line for each configuration, named by what differs between them."""
    groups: dict[str, list[RunCurve]] = {}
    for run in runs:
        groups.setdefault(_configuration(run), []).append(run)
    if len(groups) == 1 and len(runs) > 1:
        return [_line(f"mean of {len(runs)} runs", runs, smooth)]
    labels = _labels([group[0] for group in groups.values()])
    return [
        _line(label if len(group) == 1 else f"{label}  ({len(group)} runs)", group, smooth)
        for label, group in zip(labels, groups.values(), strict=True)
    ]


def _configuration(run: RunCurve) -> str:
    """Text that is equal for runs of one configuration. A run without config.json is like no other."""
    settings = {key: value for key, value in run.config.items() if key not in NOT_CONFIGURATION}
    return json.dumps(settings, sort_keys=True) if run.config else str(run.path.resolve())


def _labels(runs: Sequence[RunCurve]) -> list[str]:
    """Names of runs: the settings that differ between them, if those are few; or their directories."""
    keys = sorted({key for run in runs for key in run.config} - NOT_CONFIGURATION)
    differing = [key for key in keys if len({json.dumps(run.config.get(key)) for run in runs}) > 1]
    prefixes = {key: "" if key in ("env", "network") else f"{printable(key)} " for key in differing}
    by_setting = ["  ".join(prefix + _shown(run.config.get(key)) for key, prefix in prefixes.items()) for run in runs]
    by_directory = [printable(run.path.resolve().name) for run in runs]
    for names in (by_setting if 0 < len(differing) <= 3 else [], by_directory):
        if len(set(names)) == len(runs):
            return names
    return [printable(run.path) for run in runs]


def _shown(value: Any) -> str:
    """A setting as text; for an object that config.json could not hold, its name."""
    return printable(value[PLACEHOLDER] if is_placeholder(value) else value)


def _line(label: str, group: Sequence[RunCurve], smooth: int | None) -> Line:
    def mean(run: RunCurve) -> Floats:
        return mean_within(run.timesteps, run.returns, window) if smooth is None else rolling_mean(run.returns, smooth)

    window = RECENT_SHARE * max(run.timesteps[-1] for run in group)
    smoothed = [(run.timesteps, mean(run)) for run in group]
    if len(group) == 1:
        return Line(label, *map(_thinned, smoothed[0]))
    first, last = max(x[0] for x, _ in smoothed), min(x[-1] for x, _ in smoothed)
    if last <= first:
        names = ", ".join(str(run.path) for run in group)
        raise ValueError(f"{names}: runs of one configuration that have no timesteps in common; draw them one by one")
    grid = np.linspace(first, last, 500)
    curves = np.stack([np.interp(grid, x, y) for x, y in smoothed])
    return Line(label, grid, curves.mean(0), curves.min(0), curves.max(0))


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    """At most `MOST_POINTS` of the values, evenly spaced, with the first and the last."""
    count = min(len(values), MOST_POINTS)
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]


def _figure_of_runs(runs: Sequence[RunCurve], title: str, smooth: int | None) -> "Figure":
    lines = _lines(runs, smooth)
    window = f"mean within {RECENT_SHARE:.0%} of the timesteps"
    if smooth is not None:
        window = f"mean of the last {smooth} episodes" if smooth > 1 else "each episode"
    if len(runs) == 1:
        return _figure([lines[0]._replace(label=window)], title, band="", legend_title=None, run=runs[0])
    banded = len(lines) > 1 and any(line.low is not None for line in lines)
    meaning = "line: mean over runs, band: lowest to highest" if banded else None
    return _figure(lines, title, window=window, band="lowest to highest run", legend_title=meaning)


def _figure(
    lines: Sequence[Line],
    title: str,
    *,
    window: str = "",
    band: str,
    legend_title: str | None,
    run: RunCurve | None = None,
) -> "Figure":
    """A figure of lines with their bands, and of the episodes and evaluations of `run`.

    Args:
        window: words for the mean that a line shows.
        band: words for a band, if there is one line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold", pad=12, parse_math=False)
    axes.set_xlabel("environment timesteps")
    axes.set_ylabel("episode return (sum of rewards)" + (f",\n{window}" if window else ""))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    if run is not None:
        style: dict[str, Any] = {"color": COLORS[0], "alpha": 0.3, "markersize": 5, "markeredgewidth": 0}
        axes.plot(_thinned(run.timesteps), _thinned(run.returns), ".", label="one episode", **style)
    for index, line in enumerate(lines):
        color = COLORS[index % len(COLORS)]
        dashes = ("-", "--", ":")[index // len(COLORS) % 3]
        label = f" {line.label}" if line.label.startswith("_") else line.label  # Matplotlib hides those from a legend
        axes.plot(line.timesteps, line.mean, dashes, color=color, linewidth=2, label=label)
        if line.low is not None and line.high is not None:
            area = axes.fill_between(line.timesteps, line.low, line.high, color=color, alpha=0.2, linewidth=0)
            area.set_label(band if len(lines) == 1 else "_")
    evaluations = np.empty(0) if run is None else run.progress.get("eval_eprewmean", np.empty(0))
    if run is not None and (there := np.isfinite(evaluations)).any():
        at = run.progress["misc/total_timesteps"][there]
        axes.plot(at, evaluations[there], "o-", color=COLORS[1], linewidth=1.2, markersize=4, label="evaluation")
    axes.set_xlim(0, axes.get_xlim()[1])
    _add_legend(figure, axes, legend_title)
    return figure


def _add_legend(figure: "Figure", axes: "Axes", title: str | None) -> None:
    """Adds a legend below the axes, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    widths = [len(label) + 8 for label in labels]
    columns = len(labels) if sum(widths) <= 90 else max(1, 90 // max(widths))
    style: dict[str, Any] = {"loc": "outside lower center", "frameon": False, "title_fontsize": "small"}
    for text in figure.legend(handles, labels, ncols=columns, title=title, **style).get_texts():
        text.set_parse_math(False)


def _write(figure: "Figure", out: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=160, format=out.suffix[1:].lower())
    files.replace(out, picture.getvalue())

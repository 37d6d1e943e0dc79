"""Learning curves of finished and running runs: episode return against environment timesteps.

Matplotlib is imported by the call, not with the module, and nothing global is touched: no pyplot, no rcParams.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppo2.config import PLACEHOLDER, is_placeholder
from ppo2.reporting.tables import EPISODE_WINDOW
from ppo2.system import files
from ppo2.system.text import parse_json, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's palette, which colour-blind readers can tell apart; without the yellow, too light for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Runs that differ only in these are runs of one configuration.
NOT_CONFIGURATION = {"seed", "run_dir", "load_path", "progress", "log_interval", "save_interval", "keep"}
NOT_CONFIGURATION |= {"versions", "started"}
FEWEST_SEEDS = 3  # for a confidence band
MOST_POINTS = 2000  # a curve needs no more, and an SVG of a million episodes can't be opened


class Run(NamedTuple):
    """One run directory, read.

    | field | shape | meaning |
    |---|---|---|
    | `timesteps` | (E,) | environment timesteps, over all environments, when each episode ended |
    | `returns`, `lengths` | (E,) | undiscounted return and length in timesteps, in the order of `timesteps` |
    | `progress` | name: (rows,) | the columns of progress.csv, NaN where a cell is empty |
    | `config` | | config.json, empty where there is none |
    """

    path: Path
    config: dict[str, Any]
    timesteps: Floats
    returns: Floats
    lengths: Floats
    progress: dict[str, Floats]


class Line(NamedTuple):
    label: str
    timesteps: Floats
    mean: Floats
    low: Floats | None = None  # the spread over runs, where there are several
    high: Floats | None = None


def read_run(run_dir: Path | str) -> Run:
    """Read a run directory, also one that is still being written."""
    path = Path(run_dir)
    if not (path / "monitor.csv").is_file():
        missing = f"has no monitor.csv: {path / 'monitor.csv'}" if path.is_dir() else "does not exist"
        raise ValueError(
            f"{path} {missing}. A run directory is what `run_dir` of learn(), or --run-dir of `ppo2 train`, named"
        )
    monitor, progress = _read_csv(path / "monitor.csv"), _read_csv(path / "progress.csv")
    if absent := {"r", "l", "env"} - monitor.keys():
        raise ValueError(f"{path / 'monitor.csv'} lacks the columns {', '.join(sorted(absent))}")
    timesteps = _timesteps(monitor["l"], monitor["env"].astype(np.int64), _nenvs(progress, monitor["env"]))
    order = np.argsort(timesteps, kind="stable")
    config = path / "config.json"
    return Run(
        path=path,
        config=_read_config(config) if config.is_file() else {},
        timesteps=timesteps[order],
        returns=monitor["r"][order],
        lengths=monitor["l"][order],
        progress=progress,
    )


def curve(
    runs: Path | str | Sequence[Path | str], out: Path | str, *, smooth: int = EPISODE_WINDOW, title: str | None = None
) -> Path:
    """Draw the learning curve of one run directory or several to `out`, in the format of its suffix.

    A line is the mean return of the last `smooth` episodes. One run shows its single episodes too, and its
    evaluations. Runs that differ in nothing but the seed share a line, their mean, and a band from the lowest to the
    highest of them, over the timesteps that all of them have reached.
    """
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`out` (={str(out)!r}) must end in one of {', '.join(SUFFIXES)}")
    if smooth < 1:
        raise ValueError(f"`smooth` (={smooth}) counts episodes and must be at least 1")
    read = [read_run(run) for run in ([runs] if isinstance(runs, Path | str) else runs)]
    if not read:
        raise ValueError("`runs` is empty: name at least one run directory")
    for run in read:
        if not run.returns.size:
            raise ValueError(f"{run.path} has no finished episode yet, so there is nothing to draw")
    figure = _figure(read, _lines(read, smooth), title or _title(read), smooth)
    _write(figure, out)
    return out


Curves = Sequence[tuple[Floats, Floats]]
"""(timesteps, returns) of each run, all at the same timesteps."""


def confidence(groups: Sequence[tuple[str, Curves]], out: Path, *, title: str) -> Path | None:
    """Draw learning curves with what is known of them: for each (label, curves of its runs), the interquartile mean and
    a band that holds it with 95 % confidence, by bootstrap over the runs. None where no run has a value.

    Of more groups than colours, those that ended highest.

    Source: Agarwal et al. 2021, arXiv:2108.13264 (interquartile mean and bootstrap over seeds).
    """
    found = [(label, kept) for label, curves in groups if (kept := _common(curves)) is not None]
    if not found:
        return None
    found.sort(key=lambda one: iqm(one[1][1][:, -1]), reverse=True)
    lines = [_confident_line(label, *kept) for label, kept in found[: len(COLORS)]]
    figure, axes = _canvas(title)
    _draw_lines(axes, lines, "95 % confidence")
    axes.set_xlim(0, axes.get_xlim()[1])
    axes.set_ylabel(f"episode return (sum of rewards),\nmean of the last {EPISODE_WINDOW} episodes")
    left_out = f"; the best {len(COLORS)} of {len(found)}" if len(found) > len(COLORS) else ""
    banded = any(line.low is not None for line in lines)
    meaning = f"line: interquartile mean over seeds, band: 95 % confidence{left_out}"
    _legend(figure, axes, meaning if banded else left_out.removeprefix("; ") or None)
    _write(figure, out)
    return out


def iqm(values: Floats | Sequence[float]) -> float:
    """The mean of the middle half of the finite values; NaN if there are none."""
    from scipy.stats import trim_mean

    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    return float(trim_mean(finite, 0.25)) if finite.size else float("nan")


def _common(curves: Curves) -> tuple[Floats, Floats] | None:
    """Timesteps, and returns (runs, timesteps), where every run has one."""
    curves = [curve for curve in curves if len(curve[0])]  # without runs that were stopped before their first row
    if not curves:
        return None
    points = min(len(timesteps) for timesteps, _ in curves)
    returns = np.stack([values[:points] for _, values in curves])
    there = np.isfinite(returns).all(0)
    if not there.any():
        return None
    timesteps = _thinned(curves[0][0][:points][there])
    return timesteps.astype(np.float64), np.stack([_thinned(row) for row in returns[:, there]])


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


# --- reading


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _read_csv(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    try:
        # the last may be half written
        header, *rows = csv.reader([line for line in lines if line.endswith("\n")] or [""])
        cells = [[float(cell or "nan") for cell in row] for row in rows]
        table = np.array(cells, dtype=np.float64).reshape(len(rows), len(header))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return dict(zip(header, table.T, strict=True))


def _nenvs(progress: dict[str, Floats], env: Floats) -> int:
    """Environments in the run: update * nbatch over update * nsteps; without a log row, those that finished."""
    total, serial = (progress.get(f"misc/{name}_timesteps", np.empty(0)) for name in ("total", "serial"))
    if total.size and serial.size and serial[-1] > 0:
        return max(1, round(float(total[-1] / serial[-1])))
    return int(env.max(initial=0)) + 1


def _timesteps(lengths: Floats, env: NDArray[np.int64], nenvs: int) -> Floats:
    """Timesteps of all environments at each episode's end.

    Environments step together, so an environment that has made n steps means n * nenvs in all. (The sum of all lengths
    so far leaves out the episodes under way: with many environments and long episodes, most of the run.)
    """
    timesteps = np.empty_like(lengths)
    for index in np.unique(env):
        mine = env == index
        timesteps[mine] = np.cumsum(lengths[mine]) * nenvs
    return timesteps


# --- grouping


def _lines(runs: Sequence[Run], smooth: int) -> list[Line]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_configuration(run), []).append(run)
    if len(groups) == 1 and len(runs) > 1:
        return [_line(f"mean of {len(runs)} runs", runs, smooth)]
    labels = [
        label if len(group) == 1 else f"{label}  ({len(group)} runs)"
        for label, group in zip(_labels([group[0] for group in groups.values()]), groups.values(), strict=True)
    ]
    return [_line(label, group, smooth) for label, group in zip(labels, groups.values(), strict=True)]


def _configuration(run: Run) -> str:
    """Equal for runs of one configuration. A run without config.json is like no other."""
    settings = {key: value for key, value in run.config.items() if key not in NOT_CONFIGURATION}
    return json.dumps(settings, sort_keys=True) if run.config else str(run.path.resolve())


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name runs by the settings that differ between them; by their directories, if those are none or many."""
    keys = sorted({key for run in runs for key in run.config} - NOT_CONFIGURATION)
    differing = [key for key in keys if len({json.dumps(run.config.get(key)) for run in runs}) > 1]
    names = ["  ".join(_setting(run, key) for key in differing) for run in runs]
    clear = 0 < len(differing) <= 3 and len(set(names)) == len(runs)
    return names if clear else _directory_names([run.path for run in runs])


def _setting(run: Run, key: str) -> str:
    value = _shown(run.config.get(key))
    return value if key in ("env", "network") else f"{printable(key)} {value}"


def _shown(value: Any) -> str:
    """A setting in words; of an object that config.json could not hold, its name."""
    return printable(value[PLACEHOLDER] if is_placeholder(value) else value)


def _directory_names(paths: Sequence[Path]) -> list[str]:
    names = [printable(path.resolve().name) for path in paths]
    return names if len(set(names)) == len(names) else [printable(path) for path in paths]


def _line(label: str, group: Sequence[Run], smooth: int) -> Line:
    smoothed = [(run.timesteps, rolling_mean(run.returns, smooth)) for run in group]
    if len(group) == 1:
        return Line(label, *(_thinned(values) for values in smoothed[0]))
    first, last = max(x[0] for x, _ in smoothed), min(x[-1] for x, _ in smoothed)
    if last <= first:
        names = ", ".join(str(run.path) for run in group)
        raise ValueError(f"{names}: runs of one configuration that have no timesteps in common; draw them one by one")
    grid = np.linspace(first, last, 500)
    curves = np.stack([np.interp(grid, x, y) for x, y in smoothed])
    return Line(label, grid, curves.mean(0), curves.min(0), curves.max(0))


def _thinned(values: Floats) -> Floats:
    """At most `MOST_POINTS` of them, evenly spaced, with the first and the last."""
    if len(values) <= MOST_POINTS:
        return values
    return values[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(np.int64)]


def _title(runs: Iterable[Run]) -> str:
    envs = dict.fromkeys(_shown(run.config["env"]) for run in runs if run.config.get("env"))
    return next(iter(envs)) if len(envs) == 1 else "Learning curves"


# --- drawing


def _figure(runs: Sequence[Run], lines: Sequence[Line], title: str, smooth: int) -> "Figure":
    figure, axes = _canvas(title)
    window = f"mean of the last {smooth} episodes" if smooth > 1 else "each episode"
    if len(runs) == 1:
        _draw_run(axes, runs[0], lines[0], window)
    else:
        _draw_lines(axes, lines)
    _, right = axes.get_xlim()
    axes.set_xlim(0, right)
    axes.set_ylabel(
        "episode return (sum of rewards)" if len(runs) == 1 else f"episode return (sum of rewards),\n{window}"
    )
    banded = len(lines) > 1 and any(line.low is not None for line in lines)
    _legend(figure, axes, "line: mean over runs, band: lowest to highest" if banded else None)
    return figure


def _canvas(title: str) -> tuple["Figure", "Axes"]:
    """An empty figure of ours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold", pad=12, parse_math=False)
    _style(axes)
    return figure, axes


def _write(figure: "Figure", out: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=160, format=out.suffix[1:].lower())
    files.replace(out, picture.getvalue())


def _style(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter

    axes.set_xlabel("environment timesteps")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)


def _draw_run(axes: "Axes", run: Run, line: Line, window: str) -> None:
    episodes = _thinned(run.timesteps), _thinned(run.returns)
    axes.plot(*episodes, ".", color=COLORS[0], alpha=0.3, markersize=5, markeredgewidth=0, label="one episode")
    axes.plot(line.timesteps, line.mean, color=COLORS[0], linewidth=2, label=window)
    evaluations = run.progress.get("eval_eprewmean", np.empty(0))
    there = np.isfinite(evaluations)
    if there.any():
        at = run.progress["misc/total_timesteps"][there]
        axes.plot(at, evaluations[there], "o-", color=COLORS[1], linewidth=1.2, markersize=4, label="evaluation")


def _draw_lines(axes: "Axes", lines: Sequence[Line], meaning: str = "lowest to highest run") -> None:
    band_label = meaning if len(lines) == 1 else "_"  # the legend's title says it of several
    for index, line in enumerate(lines):
        color = COLORS[index % len(COLORS)]
        dashes = ("-", "--", ":")[index // len(COLORS) % 3]
        label = f" {line.label}" if line.label.startswith("_") else line.label  # Matplotlib hides those from a legend
        axes.plot(line.timesteps, line.mean, dashes, color=color, linewidth=2, label=label)
        if line.low is not None and line.high is not None:
            band = axes.fill_between(line.timesteps, line.low, line.high, color=color, alpha=0.2, linewidth=0)
            band.set_label(band_label)


def _legend(figure: "Figure", axes: "Axes", title: str | None) -> None:
    """Below the axes, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    one_row = sum(len(label) + 8 for label in labels) <= 90
    columns = len(labels) if one_row else max(1, 90 // max(len(label) + 8 for label in labels))
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=title,
        title_fontsize="small",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)

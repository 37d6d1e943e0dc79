"""Figures of Matplotlib from lines. Nothing global is touched: no pyplot, no rcParams."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from ppo2.plot.series import Line, thinned
from ppo2.reporting.run_curve import Floats
from ppo2.system import files

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; without the yellow, too light for a line."""
DOTS_PER_INCH = 160
LEGEND_WIDTH = 90
"""Characters that a legend has room for in a row."""
PANEL_COLUMNS, FEW_PANELS = 2, 3
"""Columns of a figure with more panels than the second number."""


class CurveFigure(Figure):
    """A figure that a notebook shows, though pyplot doesn't know it."""

    def _repr_png_(self) -> bytes:
        return encoded(self, "png", dpi=100)


class Panel(NamedTuple):
    """Content of one axes.

    Attributes:
        band: words for a band, if there is one line.
        episodes: place and return of single episodes, of one run.
        evaluations: points of its evaluations.
    """

    lines: Sequence[Line]
    x: str
    y: str
    band: str = ""
    episodes: tuple[Floats, Floats] | None = None
    evaluations: tuple[Floats, Floats] | None = None


def figure_of(panels: Sequence[Panel], title: str, legend_title: str = "") -> Figure:
    """A figure with an axes for each panel, one below another or in two columns, and one legend."""
    columns = PANEL_COLUMNS if len(panels) > FEW_PANELS else 1
    rows = -(-len(panels) // columns)
    figure = CurveFigure(figsize=(8 if columns == 1 else 12, 4.8 if rows == 1 else 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, panel in zip(grid, panels, strict=False):
        draw(axes, panel)
    if len(panels) == 1:
        figure.axes[0].set_title(title, loc="left", fontweight="bold", pad=12, parse_math=False)
    else:
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left", parse_math=False)
    add_legend(figure, figure.axes[0], legend_title)
    return figure


def draw(axes: Axes, panel: Panel) -> None:
    """Draws a panel into axes."""
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y, parse_math=False)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.5", alpha=0.2, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    if panel.episodes is not None:
        style: dict[str, Any] = {"color": COLORS[0], "alpha": 0.3, "markersize": 5, "markeredgewidth": 0}
        axes.plot(*map(thinned, panel.episodes), ".", label="one episode", **style)
    for index, line in enumerate(panel.lines):
        color = COLORS[index % len(COLORS)]
        dashes = ("-", "--", ":")[index // len(COLORS) % 3]
        marker = "o" if len(line.x) == 1 else ""
        label = f" {line.label}" if line.label.startswith("_") else line.label  # Matplotlib hides those from a legend
        axes.plot(line.x, line.mean, dashes, color=color, linewidth=2, marker=marker, label=label)
        if line.low is not None and line.high is not None:
            area = axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.2, linewidth=0)
            area.set_label(panel.band if len(panel.lines) == 1 else "_")
    if panel.evaluations is not None:
        axes.plot(*panel.evaluations, "o-", color=COLORS[1], linewidth=1.2, markersize=4, label="evaluation")
    axes.set_xlim(0, axes.get_xlim()[1])


def add_legend(target: Figure | Axes, axes: Axes, title: str = "") -> None:
    """Adds a legend: to a figure below its axes, where it hides no data; or to axes."""
    handles, labels = axes.get_legend_handles_labels()
    widths = [len(label) + 8 for label in labels]
    columns = len(labels) if sum(widths) <= LEGEND_WIDTH else max(1, LEGEND_WIDTH // max(widths))
    style: dict[str, Any] = {"frameon": False, "title_fontsize": "small", "title": title or None}
    if isinstance(target, Figure):
        style |= {"loc": "outside lower center", "ncols": columns}
    else:
        style |= {"fontsize": "small"}
    for text in target.legend(handles, labels, **style).get_texts():
        text.set_parse_math(False)


def encoded(figure: Figure, suffix: str, *, dpi: int = DOTS_PER_INCH) -> bytes:
    """The figure in a format."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format=suffix)
    return picture.getvalue()


def write(figure: Figure, out: Path) -> None:
    """Writes the figure into a file, in the format of its suffix."""
    files.replace(out, encoded(figure, out.suffix[1:].lower()))

"""Displays that are updated in place, on a terminal and in a notebook, and the choice of a display."""

import html
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ppo2.reporting.display import Display, Lines, Logged
from ppo2.reporting.figures import LOSS_COLUMNS, OPTIONAL, RUN_COLUMNS, Column, Columns, Pace, human
from ppo2.system import verbosity
from ppo2.system.exits import EXIT_HOOKS
from ppo2.system.text import fitting_widths, for_screen

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

WIDE = 72
"""Characters of a terminal from which on the parts of the display stand side by side."""
NARROW = 44
"""Characters of a terminal below which names and figures stand close."""
FIGURE_WIDTH = 9
"""Least characters of a figure's column."""
REFRESH_SECONDS = 0.5
"""Time between two updates of a display in a notebook."""

Rows = Callable[[], list[list[str]]]

_IN_PLACE = threading.Lock()
"""Held by the display that is updated in place: two would draw over each other."""


def table_of_lines(names: Sequence[str], rows: Sequence[Sequence[str]], width: int, style: str = "bold") -> "Table":
    """A table with a line for each row, in which what is too long for a screen of such a width is cut.

    Args:
        style: style of the names of columns.
    """
    from rich.table import Table
    from rich.text import Text

    widths, gap = fitting_widths([*zip(names, *rows, strict=True)], width)
    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style=style)
    for name, columns in zip(names, widths, strict=True):
        made.add_column(Text(name), justify="right", no_wrap=True, width=columns)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


class _InPlace(Display):
    """Keeps the latest figures for a display that is updated in place; there is one of these at a time."""

    def __init__(self, pace: Pace, columns: Columns, rows: Rows | None = None) -> None:
        self._pace, self._columns, self._rows = pace, columns, rows
        self._latest: dict[str, float] = {}
        self._closed = False

    def show(self, row: Mapping[str, float]) -> None:
        self._latest = {**self._latest, **row}

    def close(self) -> None:
        self._closed = True
        _IN_PLACE.release()

    def _position(self) -> str:
        """Words for how far the run is."""
        pace = self._pace
        if self._closed:
            left = ""
        elif pace.is_compiling:
            left = "  compiling for the first update"
        else:
            left = f"  left {pace.left()}"
        return f"{pace.done()}  elapsed {pace.elapsed()}{left}"

    def _cells(self) -> list[list[str]]:
        """The rows of the table below the figures, its header first; none where there is nothing to show."""
        return [] if self._rows is None or self._closed else self._rows()

    def _figures(self, columns: tuple[Column, ...]) -> list[tuple[str, str]]:
        """Names and figures; those of OPTIONAL only once there was one."""
        latest = self._latest
        return [
            (name, human(latest.get(key, math.nan), spec))
            for key, name, _, spec in columns
            if key in latest or not key.startswith(OPTIONAL)
        ]


def _show_cursor() -> None:
    os.write(1, b"\x1b[?25h\n")  # not through rich, whose lock the main thread may hold


class _Live(_InPlace):
    """Draws a progress bar and a table, again and again in place, by rich's own thread: a tick only notes a number."""

    def __init__(self, pace: Pace, columns: Columns, rows: Rows | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(pace, columns, rows)
        self._console, self._stdout = Console(), sys.stdout  # which rich replaces
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
        EXIT_HOOKS.add(_show_cursor)
        self._live.start()

    def say(self, text: str) -> None:
        from rich.text import Text

        # as `printable`, or a text of an environment could move the cursor out from under the table
        self._console.print(Text(for_screen(text, self._stdout)), soft_wrap=True)

    def close(self) -> None:
        super().close()
        self._live.stop()
        EXIT_HOOKS.discard(_show_cursor)

    def _render(self) -> "Group":
        """A bar with its text, and the figures: side by side on a wide terminal, else one below another."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace, is_wide = self._pace, self._console.width >= WIDE
        text = Text(self._position(), no_wrap=is_wide)
        bar = ProgressBar(total=max(pace.total, 1), completed=pace.update)
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        if not is_wide:
            head.add_row(bar)
            head.add_row(text)
            return Group(head, self._table(*(column for group in self._columns for column in group)), *self._below())
        head.add_row(bar, text)
        beside = Table.grid(padding=(0, 4, 0, 0))
        beside.add_row(*(self._table(*group) for group in self._columns))
        return Group(head, beside, *self._below())

    def _below(self) -> "list[Table]":
        """The table below the figures, if there is one."""
        header, *rows = self._cells() or [[]]
        return [table_of_lines(header, rows, self._console.width, "dim")] if rows else []

    def _table(self, *columns: Column) -> "Table":
        from rich.table import Table

        gap = 4 if self._console.width >= NARROW else 1
        table = Table.grid(padding=(0, gap, 0, 0))
        table.add_column(style="dim", no_wrap=True, max_width=self._console.width - FIGURE_WIDTH - 2 * gap)
        table.add_column(justify="right", no_wrap=True, min_width=FIGURE_WIDTH)
        for cells in self._figures(columns):
            table.add_row(*cells)
        return table


class _Notebook(_InPlace):
    """Shows the position and a table in a cell of a notebook, updated in place from the thread that trains: other
    threads of a kernel may write to another cell. What is saved with the notebook is the last state.
    """

    def __init__(self, pace: Pace, columns: Columns, rows: Rows | None = None) -> None:
        from IPython.display import display

        super().__init__(pace, columns, rows)
        self._drawn = time.monotonic()
        self._handle: Any = display(self, display_id=True)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        self._handle.update(self)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._handle.update(self)

    def close(self) -> None:
        super().close()
        self._handle.update(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """The display as plain text and as HTML, as IPython asks for it."""
        groups = [self._figures(group) for group in self._columns]
        lines = [f"{name:<22}{figure:>12}" for group in groups for name, figure in group]
        rows = "".join(
            f"<tr><td style='text-align:left'>{html.escape(name)}</td><td>{html.escape(figure)}</td></tr>"
            for group in groups
            for name, figure in group
        )
        bar = f"<progress value='{self._pace.update}' max='{max(self._pace.total, 1)}' style='width:20em'></progress>"
        position, cells = self._position(), self._cells()
        lines += ["  ".join(f"{cell:>10}" for cell in row) for row in cells]
        below = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        below = f"<table>{below}</table>" if below else ""
        return {
            "text/plain": "\n".join([position, *lines]),
            "text/html": f"{bar} {html.escape(position)}<table>{rows}</table>"
            + f"<table>{below}</table>" * bool(cells),
        }


def shows_progress(progress: bool | None, verbose: int) -> bool:
    """True if a call shows its progress: as `progress` says, and where that is None, as `verbose` and the place that
    the output goes to do.
    """
    return verbose > 1 or (verbose == 1 and _screen() is not None) if progress is None else progress


def open_display(
    pace: Pace,
    progress: bool | None = None,
    columns: Columns = (RUN_COLUMNS, LOSS_COLUMNS),
    rows: Rows | None = None,
) -> Display:
    """The display that suits where the output goes: a table updated in place on a terminal or in a notebook, lines
    elsewhere and beside another display. In a call that is quiet its messages go to `logging`.

    Args:
        progress: False: a display for messages alone; None is True.
        columns: the figures to show.
        rows: gives the rows of a table to show below them, its header first; lines have none of it.
    """
    made = Display() if progress is False else _open(pace, columns, rows)
    return Logged(made) if verbosity.is_quiet() else made


def _open(pace: Pace, columns: Columns, rows: Rows | None) -> Display:
    screen = _screen()
    if screen is None or not _IN_PLACE.acquire(blocking=False):
        return Lines(pace, columns)
    try:
        return screen(pace, columns, rows)
    except BaseException:
        _IN_PLACE.release()
        raise


def _screen() -> type[_InPlace] | None:
    """The display that is updated in place where the output goes; None if it can't be there."""
    ipython = sys.modules.get("IPython")
    if hasattr(ipython.get_ipython() if ipython else None, "kernel"):
        return _Notebook
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return _Live if is_terminal and os.environ.get("TERM") not in ("dumb", "unknown") else None

"""The screen of a run: a live table on a terminal, a line for each log row elsewhere, or messages alone."""

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ppo2.system.exits import EXIT_HOOKS
from ppo2.system.text import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


class Column(NamedTuple):
    """A figure of the log.

    Attributes:
        key: its key in a row.
        name: its name in the live table.
        short: its name in a plain line; empty: it isn't there.
        spec: its format specification; empty: about four significant digits.
    """

    key: str
    name: str
    short: str = ""
    spec: str = ""


RUN_COLUMNS = (
    Column("misc/total_timesteps", "timesteps", "timesteps", ",.0f"),
    Column("fps", "timesteps per second", "fps", ",.0f"),
    Column("eprewmean", "episode return", "return"),
    Column("eplenmean", "episode length", "length", ",.0f"),
    Column("eval_eprewmean", "evaluation return", "eval"),
)
LOSS_COLUMNS = (
    Column("misc/explained_variance", "explained variance"),
    Column("loss/approxkl", "approximate KL", "kl"),
    Column("loss/clipfrac", "clip fraction"),
    Column("loss/policy_entropy", "entropy"),
    Column("loss/value_loss", "value loss"),
    Column("lr", "learning rate", spec=".3g"),
)


def _human(value: float, spec: str = "") -> str:
    if math.isnan(value):
        return "-"
    if not spec:
        size = abs(value)
        digits = ((1e9, ".3e"), (1e3, ",.0f"), (1e2, ".1f"), (1, ".2f"), (1e-3, ".4f"))
        spec = next((spec for least, spec in digits if size >= least), ".2e" if size else ".0f")
    return format(value, spec)


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


class Pace:
    """The position of a run and the time that is left, counted from the first tick, which follows compilation."""

    def __init__(self, total: int, first: int) -> None:
        self.total, self.update = total, first - 1
        self._start = self._last = time.perf_counter()
        self._mark: tuple[int, float] | None = None

    def tick(self, update: int) -> None:
        self.update, self._last = update, time.perf_counter()
        self._mark = self._mark or (update, self._last)

    def elapsed(self) -> str:
        return _clock(time.perf_counter() - self._start)

    def left(self) -> str:
        if self._mark is None or self.update <= self._mark[0]:
            return "-"
        rate = (self._last - self._mark[1]) / (self.update - self._mark[0])
        return _clock(max(0.0, (self.total - self.update) * rate - (time.perf_counter() - self._last)))


class Display:
    """Prints messages alone: what a display does at least."""

    def show(self, row: Mapping[str, float]) -> None:
        """Shows a row of the log."""

    def say(self, text: str) -> None:
        """Prints a message."""
        print(printable(text), flush=True)

    def close(self) -> None:
        """Gives the terminal back."""


class Silent(Display):
    """Prints nothing."""

    def say(self, text: str) -> None:
        pass


class _Lines(Display):
    """Prints a line for each log row, in columns that stay aligned: for pipes, files and notebooks."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def show(self, row: Mapping[str, float]) -> None:
        total = self._pace.total
        update = int(row.get("misc/nupdates", self._pace.update))
        columns = [column for column in RUN_COLUMNS + LOSS_COLUMNS if column.short and column.key in row]
        cells = [f"{column.short} {_human(row[column.key], column.spec):>8}" for column in columns]
        self.say("  ".join([f"update {update:>{len(str(total))}}/{total}", *cells, f"left {self._pace.left()}"]))


def _show_cursor() -> None:
    os.write(1, b"\x1b[?25h\n")  # not through rich, whose lock the main thread may hold


class _Live(Display):
    """Draws a progress bar and a table, again and again in place, by rich's own thread: a tick only notes a number."""

    def __init__(self, pace: Pace) -> None:
        from rich.console import Console
        from rich.live import Live

        self._pace = pace
        self._latest: dict[str, float] = {}
        self._closed = False
        self._console = Console()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=2)
        EXIT_HOOKS.add(_show_cursor)
        self._live.start()

    def show(self, row: Mapping[str, float]) -> None:
        self._latest = {**self._latest, **row}

    def say(self, text: str) -> None:
        from rich.text import Text

        # as `printable`, or a text of an environment could move the cursor out from under the table
        self._console.print(Text(printable(text)), soft_wrap=True)

    def close(self) -> None:
        self._closed = True
        self._live.stop()
        EXIT_HOOKS.discard(_show_cursor)

    def _render(self) -> "Group":
        """A bar with its text, and the figures: side by side on a wide terminal, else one below another."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace = self._pace
        done = f"update {pace.update:,}/{pace.total:,}  {100 * pace.update // max(pace.total, 1)}%"
        left = "" if self._closed else f"  left {pace.left()}"
        text = Text(f"{done}  elapsed {pace.elapsed()}{left}", no_wrap=True)
        bar = ProgressBar(total=max(pace.total, 1), completed=pace.update)
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        if self._console.width < 72:
            head.add_row(bar)
            head.add_row(text)
            return Group(head, self._figures(RUN_COLUMNS + LOSS_COLUMNS))
        head.add_row(bar, text)
        halves = Table.grid(padding=(0, 4, 0, 0))
        halves.add_row(self._figures(RUN_COLUMNS), self._figures(LOSS_COLUMNS))
        return Group(head, halves)

    def _figures(self, columns: tuple[Column, ...]) -> "Table":
        """Names and figures; evaluations only once there was one."""
        from rich.table import Table

        table = Table.grid(padding=(0, 4, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=9)
        for key, name, _, spec in columns:
            if key in self._latest or not key.startswith("eval_"):
                table.add_row(name, _human(self._latest.get(key, math.nan), spec))
        return table


def open_display(pace: Pace, progress: bool) -> Display:
    """The display that suits the screen; without `progress` one for messages alone."""
    if not progress:
        return Display()
    return _Live(pace) if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") else _Lines(pace)

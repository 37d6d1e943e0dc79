"""What a person sees of a run while it trains: a live table on a terminal, a line for each log row elsewhere, or only
what is said.
"""

import itertools
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ppo2.system.exits import EXIT_HOOKS
from ppo2.system.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


class Column(NamedTuple):
    key: str
    name: str  # in the live table
    short: str = ""  # in a plain line; empty: not there
    spec: str = ""  # a format specification; empty: about four significant digits


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


class Display(Protocol):
    def show(self, row: Mapping[str, float]) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


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
    """Where the run is and how long it will take. Counts from the first tick on, which comes after the compilation."""

    def __init__(self, total: int, first: int) -> None:
        self.total, self.update = total, first - 1
        self.start = self._last = time.perf_counter()
        self._mark: tuple[int, float] | None = None

    def tick(self, update: int) -> None:
        self.update, self._last = update, time.perf_counter()
        if self._mark is None:
            self._mark = (update, self._last)

    def elapsed(self) -> str:
        return _clock(time.perf_counter() - self.start)

    def left(self) -> str:
        if self._mark is None or self.update <= self._mark[0]:
            return "-"
        rate = (self._last - self._mark[1]) / (self.update - self._mark[0])
        return _clock(max(0.0, (self.total - self.update) * rate - (time.perf_counter() - self._last)))


class _Quiet:
    """Only what is said."""

    def show(self, row: Mapping[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        print(printable(text), flush=True)

    def close(self) -> None:
        pass


class Silent(_Quiet):
    """Nothing at all."""

    def say(self, text: str) -> None:
        pass


class _Lines(_Quiet):
    """A line for each log row, in columns that stay aligned: for pipes, files and notebooks."""

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


class _Live:
    """A progress bar and a table, redrawn in place by rich's own thread: a tick only notes a number."""

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

        # or what an environment says could move the cursor out from under the table
        self._console.print(Text(printable(text)), soft_wrap=True)

    def close(self) -> None:
        self._closed = True
        self._live.stop()
        EXIT_HOOKS.discard(_show_cursor)

    def _render(self) -> "RenderableType":
        from rich.console import Group

        wide = self._console.width >= 72
        return Group(self._bar(wide), self._table(wide))

    def _bar(self, wide: bool) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        pace = self._pace
        done = f"update {pace.update:,}/{pace.total:,}  {100 * pace.update // max(pace.total, 1)}%"
        text = Text(
            f"{done}  elapsed {pace.elapsed()}" + ("" if self._closed else f"  left {pace.left()}"), no_wrap=True
        )
        bar = ProgressBar(total=max(pace.total, 1), completed=pace.update)
        line = Table.grid(padding=(0, 2), expand=True)
        line.add_column(ratio=1)
        if wide:
            line.add_row(bar, text)
        else:
            line.add_row(bar)
            line.add_row(text)
        return line

    def _table(self, wide: bool) -> "Table":
        from rich.table import Table

        halves = [[self._cells(column) for column in columns if self._shown(column)] for columns in _HALVES]
        table = Table.grid(padding=(0, 4, 0, 0))
        for _ in range(len(halves) if wide else 1):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True, min_width=9)
        rows = (
            itertools.zip_longest(*halves, fillvalue=("", "")) if wide else ([pair] for half in halves for pair in half)
        )
        for row in rows:
            table.add_row(*(cell for pair in row for cell in pair))
        return table

    def _shown(self, column: Column) -> bool:
        return column.key in self._latest or not column.key.startswith("eval_")

    def _cells(self, column: Column) -> tuple[str, str]:
        return column.name, _human(self._latest.get(column.key, math.nan), column.spec)


_HALVES = (RUN_COLUMNS, LOSS_COLUMNS)


def open_display(pace: Pace, progress: bool) -> Display:
    if not progress:
        return _Quiet()
    return _Live(pace) if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown") else _Lines(pace)

"""The figures that a display shows, as text, and the time that is left."""

import math
import time
from typing import NamedTuple


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
    Column("info/is_success", "success rate", "success"),
    Column("eval_eprewmean", "evaluation return", "eval"),
    Column("time/step", "time stepping", spec=".0%"),
    Column("time/act", "time acting", spec=".0%"),
    Column("time/train", "time training", spec=".0%"),
)
OPTIONAL = ("eval_", "info/", "time/")
"""Beginnings of keys that are shown only once a row has them."""
LOSS_COLUMNS = (
    Column("misc/explained_variance", "explained variance"),
    Column("loss/approxkl", "approximate KL", "kl"),
    Column("loss/clipfrac", "clip fraction"),
    Column("loss/policy_entropy", "entropy"),
    Column("loss/value_loss", "value loss"),
    Column("lr", "learning rate", spec=".3g"),
)
SWEEP_COLUMNS = (
    Column("done", "runs done", "runs done", ",.0f"),
    Column("median", "median return", "median return"),
    Column("best", "best return", "best"),
)
Columns = tuple[tuple[Column, ...], ...]
"""Columns of the log in groups, which stand side by side in a wide table."""


def human(value: float, spec: str = "") -> str:
    """A figure in few characters; "-" for NaN."""
    if math.isnan(value):
        return "-"
    if not spec:
        size = abs(value)
        digits = ((1e9, ".3e"), (1e3, ",.0f"), (1e2, ".1f"), (1, ".2f"), (1e-3, ".4f"))
        spec = next((spec for least, spec in digits if size >= least), ".2e" if size else ".0f")
    return format(value, spec)


def clock(seconds: float) -> str:
    """A time, as in 1:02:03."""
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

    @property
    def is_compiling(self) -> bool:
        """True until the first update is done, most of which goes to compiling the programs."""
        return self._mark is None and self.update < self.total

    def done(self) -> str:
        """The position, in words."""
        return f"update {self.update:,}/{self.total:,}  {100 * self.update // max(self.total, 1)}%"

    def elapsed(self) -> str:
        return clock(time.perf_counter() - self._start)

    def left(self) -> str:
        if self._mark is None or self.update <= self._mark[0]:
            return "-"
        rate = (self._last - self._mark[1]) / (self.update - self._mark[0])
        return clock(max(0.0, (self.total - self.update) * rate - (time.perf_counter() - self._last)))

"""All that `learn` talks to: what a run leaves behind (run_files.py), and what a person sees of it (display.py)."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from ppo2.reporting.display import Pace, Silent, open_display
from ppo2.reporting.tables import EPISODE_WINDOW, Row, RunFiles, formats_from_environment
from ppo2.runners.episodes import Episode


def _plain(value: Any) -> Any:
    """The Python number of a NumPy or JAX scalar; integers stay integers."""
    return value.item() if hasattr(value, "item") else value


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


class Logger:
    """Everything a run tells: to its files (`run_dir=None`: to none) and to the person who watches.

    `first_update` > 1 continues a run: the rows of later updates are dropped from its files, and all but the first
    `monitor_rows` episodes; `resume=True` says so for a run that stopped before its first update. `speaks=False`: of
    several processes this isn't the one that a person hears of.
    """

    def __init__(
        self,
        run_dir: Path | None,
        *,
        total_updates: int,
        first_update: int = 1,
        progress: bool,
        monitor_rows: int | None = None,
        resume: bool | None = None,
        formats: Iterable[str] | None = None,
        speaks: bool = True,
    ) -> None:
        self._closed = False
        self._files: RunFiles | None = None
        self._monitor_rows = 0
        self._last: deque[Episode] = deque(maxlen=EPISODE_WINDOW)
        if run_dir is not None:
            resumed = first_update > 1 if resume is None else resume
            self._files = RunFiles(
                run_dir,
                formats=formats_from_environment() if formats is None else formats,
                resume_from=first_update - 1 if resumed else None,
                monitor_rows=monitor_rows,
                warn=self.say,
            )
            self._last.extend(self._files.last_episodes)
            self._monitor_rows = self._files.monitor_rows
        self._pace = Pace(total_updates, first_update)
        self._display = open_display(self._pace, progress) if speaks else Silent()

    @property
    def eprewmean(self) -> float:
        """Mean return of the last 100 episodes, NaN before the first."""
        return _mean([episode.r for episode in self._last])

    @property
    def eplenmean(self) -> float:
        """Mean length of the last 100 episodes in timesteps, NaN before the first."""
        return _mean([episode.l for episode in self._last])

    @property
    def monitor_rows(self) -> int:
        """Episodes recorded so far, those before a resume included: what a checkpoint keeps and a resume gives back."""
        return self._monitor_rows

    @property
    def last(self) -> list[Episode]:
        """The last 100 episodes."""
        return list(self._last)

    def take_up(self, last: Iterable[Episode], monitor_rows: int) -> None:
        """What was recorded before, of which another process has the files."""
        self._last.extend(last)
        self._monitor_rows = monitor_rows

    def episodes(self, rows: Sequence[Episode]) -> None:
        self._last.extend(rows[-EPISODE_WINDOW:])
        self._monitor_rows += len(rows)
        if self._files is not None:
            self._files.episodes(rows)

    def log(self, row: Row) -> None:
        """Write and show one row: `misc/nupdates`, `misc/total_timesteps` and whatever else there is."""
        plain = {key: _plain(value) for key, value in row.items()}
        if self._files is not None:
            self._files.log(plain)
        self._display.show(plain)

    def tick(self, update: int) -> None:
        """`update` is done. Costs well under a microsecond: drawing is left to the display's thread."""
        self._pace.tick(update)

    def say(self, text: str) -> None:
        """Print `text`, above the live table where there is one."""
        self._display.say(text)

    def flush(self) -> None:
        """Write the rows that a full disk refused, if there is room now."""
        if self._files is not None:
            self._files.flush()

    def sync(self) -> None:
        """Return once all rows in files are on the disk; from any thread."""
        if self._files is not None:
            self._files.sync()

    def close(self) -> None:
        """Give the terminal back and close the files; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._display.close()
            if self._files is not None:
                self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

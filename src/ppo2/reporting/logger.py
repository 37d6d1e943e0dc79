"""The log of a run: its rows and episodes go to files (tables.py) and to the screen (screens.py)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ppo2.reporting import logs
from ppo2.reporting.display import Display, Silent
from ppo2.reporting.figures import Pace
from ppo2.reporting.screens import open_display
from ppo2.reporting.sinks import Row
from ppo2.reporting.tables import RunFiles
from ppo2.reporting.trackers import TrackedRun
from ppo2.runners.episodes import EPISODE_WINDOW, Episode, Episodes


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of none."""
    return math.fsum(values) / len(values) if values else math.nan


class Logger:
    """Passes rows, episodes and messages of a run to its files and to the screen.

    Args:
        run_dir: the directory of the files; None writes none.
        first_update: the first update to come.
        last_row: the update up to which rows of an earlier part of the run stay; None: all before `first_update`.
        progress: see `open_display`.
        resume: True goes on with the files of a run: rows of later updates are dropped, and all but the first
            `monitor_rows` episodes.
        env_id: id of the environment; None if it has none.
        seconds: seconds since the start of the run.
        info_keys: numbers of episodes' `info` that have a column in the log from the start; others from when an episode
            has one.
        speaks: False shows nothing: another process does.
        log, log_options: arguments of `learn`.
        settings: the run's, for trackers; None: those of its config.json.

    Attributes:
        monitor_rows: rows of monitor.csv so far, those before a resume included.
        count: episodes that ended so far, those before a resume included.
    """

    def __init__(
        self,
        run_dir: Path | None,
        *,
        total_updates: int,
        first_update: int = 1,
        last_row: int | None = None,
        progress: bool | None,
        monitor_rows: int | None = None,
        resume: bool = False,
        env_id: str | None = None,
        seconds: float = 0.0,
        info_keys: Sequence[str] = (),
        speaks: bool = True,
        log: Sequence[str] = (),
        log_options: Mapping[str, Mapping[str, Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._closed = False
        last_row = first_update - 1 if last_row is None else last_row
        self._last = Episodes.none()
        self._info_keys = dict.fromkeys(info_keys)  # in the order in which they came
        self._pace = Pace(total_updates, first_update)
        self._display: Display = (
            open_display(self._pace, progress=False) if speaks else Silent()
        )  # the terminal stays free yet
        self._files = RunFiles(
            run_dir,
            formats=logs.chosen(log, run_dir) if speaks else (),
            tracked=TrackedRun.of(run_dir, settings, log_options),
            resume_from=last_row if resume else None,
            monitor_rows=monitor_rows,
            env_id=env_id,
            seconds=seconds,
            info_keys=info_keys,
            warn=self.warn,
        )
        self.take_up(self._files.last_episodes, self._files.monitor_rows)
        if speaks:
            self._display = open_display(self._pace, progress)

    @property
    def eprewmean(self) -> float:
        """Mean return of the last 100 episodes, NaN before the first."""
        return mean(self._last.r.tolist())

    @property
    def eplenmean(self) -> float:
        """Mean length of the last 100 episodes in timesteps, NaN before the first."""
        return mean(self._last.l.tolist())

    @property
    def infos(self) -> dict[str, float]:
        """Means of the numbers of `info` at the ends of the last 100 episodes, of those that had one; NaN if none."""
        found = self._last.lists()[1]
        return {key: mean([x for x in found.get(key, ()) if x == x]) for key in self._info_keys}

    @property
    def last(self) -> list[Episode]:
        """The last 100 episodes."""
        return list(self._last)

    @property
    def share(self) -> float:
        """The share of the episodes that have a row in monitor.csv; 1 before the first."""
        return self.monitor_rows / self.count if self.count else 1.0

    def take_up(self, last: Sequence[Episode], monitor_rows: int, left_out: int = 0) -> None:
        """Goes on from a number of rows of monitor.csv and of episodes that have none; `last` are the last of all."""
        self._last = Episodes.none()
        self._note(Episodes.of(last))
        self.monitor_rows, self.count = monitor_rows, monitor_rows + left_out

    def episodes(
        self, rows: Sequence[Episode], last: Sequence[Episode] | None = None, count: int | None = None
    ) -> None:
        """Records finished episodes.

        Args:
            rows: those that monitor.csv gets.
            last: the last hundred of all; None: of `rows`, which are all.
            count: the number of all; None: that of `rows`.
        """
        self._note(Episodes.of(rows if last is None else last))
        self.monitor_rows += len(rows)
        self.count += len(rows) if count is None else count
        self._files.episodes(rows, self.share)

    def _note(self, last: Episodes) -> None:
        if len(last):
            self._last = Episodes.joined([self._last, last[-EPISODE_WINDOW:]])[-EPISODE_WINDOW:]
            self._info_keys |= dict.fromkeys(last.infos)

    def log(self, row: Row) -> None:
        """Writes and shows one row: `misc/nupdates`, `misc/total_timesteps` and whatever else there is."""
        plain = {key: np.asarray(value).item() for key, value in row.items()}  # integers stay integers
        self._files.log(plain)
        self._display.show(plain)

    def begin(self) -> None:
        """Says that the first update is being made, for which programs are compiled."""
        self._display.begin()

    def tick(self, update: int) -> None:
        """Notes that an update is done, in about a microsecond: drawing is left to the display."""
        self._pace.tick(update)
        self._display.tick()

    def say(self, text: str) -> None:
        """Prints a text, above the live table where there is one."""
        self._display.say(text)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self._display.warn(text)

    def film(self, path: Path, timestep: int) -> None:
        """Passes a video file to whatever of the log shows videos; files in the run's `videos` are found unasked."""
        self._files.film(path, timestep)

    def flush(self) -> None:
        """Writes the rows that a full disk refused, if there is room now."""
        self._files.flush()

    def settle(self) -> None:
        """Returns once the episodes so far are in their file, or were refused."""
        self._files.settle()

    def sync(self) -> None:
        """Returns once all rows so far are on the disk; from any thread."""
        self._files.sync()

    def close(self, *, failed: bool = False) -> None:
        """Gives the terminal back and closes the files; a second call does nothing.

        Args:
            failed: an error, or a signal, ended the run before its end.
        """
        if not self._closed:
            self._closed = True
            self._display.close()
            self._files.close(failed=failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

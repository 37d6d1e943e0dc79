"""Displays of a run: its messages, and a line for each row of its log."""

import logging
from collections.abc import Mapping

from ppo2.reporting.figures import Columns, Pace, human
from ppo2.system import verbosity
from ppo2.system.text import for_screen, printable


class Display:
    """Prints messages alone: what a display does at least."""

    def begin(self) -> None:
        """Says that the first update is being made, for which programs are compiled."""

    def tick(self) -> None:
        """Takes note that an update is done, in well under a microsecond."""

    def show(self, row: Mapping[str, float]) -> None:
        """Shows a row of the log."""

    def say(self, text: str) -> None:
        """Prints a message."""
        try:
            print(for_screen(text), flush=True)
        except BrokenPipeError:  # nobody reads on
            raise
        except OSError:  # a full disk, where the output goes to a file: it counts less than training
            pass

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.say(text)

    def close(self) -> None:
        """Gives the terminal back."""


class Logged(Display):
    """Passes messages to `logging`, and all else to another display."""

    def __init__(self, inner: Display) -> None:
        self._inner = inner

    def begin(self) -> None:
        self._inner.begin()

    def tick(self) -> None:
        self._inner.tick()

    def show(self, row: Mapping[str, float]) -> None:
        self._inner.show(row)

    def close(self) -> None:
        self._inner.close()

    def say(self, text: str) -> None:
        verbosity.log(printable(text), logging.INFO)

    def warn(self, text: str) -> None:
        verbosity.log(printable(text))


class Silent(Display):
    """Prints nothing."""

    def say(self, text: str) -> None:
        pass


class Lines(Display):
    """Prints a line for each log row, in columns that stay aligned: for pipes and files."""

    def __init__(self, pace: Pace, columns: Columns) -> None:
        self._pace, self._columns = pace, columns

    def begin(self) -> None:
        if self._pace.is_compiling:
            self.say("compiling for the first update")

    def show(self, row: Mapping[str, float]) -> None:
        total = self._pace.total
        update = int(row.get("misc/nupdates", self._pace.update))
        columns = [column for group in self._columns for column in group if column.short and column.key in row]
        cells = [f"{column.short} {human(row[column.key], column.spec):>8}" for column in columns]
        self.say("  ".join([f"update {update:>{len(str(total))}}/{total}", *cells, f"left {self._pace.left()}"]))

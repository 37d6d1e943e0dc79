"""The screen of a sweep: how far its runs are, and how they do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ppo2.reporting.display import Display
from ppo2.reporting.figures import Pace, human
from ppo2.sweeps.plan import SweepRun
from ppo2.system.text import say_error

MOST_ROWS = 16
"""Runs that a live table has a row for."""
MOST_LINES = 1000
"""Lines of runs that are remembered, so as not to be said twice."""


@dataclass
class SweepScreen:
    """Shows the progress of all runs of a sweep as one; its unit is an update of one run.

    Attributes:
        display: made after this, as a live table asks `rows`.
    """

    runs: Sequence[SweepRun]
    pace: Pace
    display: Display = field(default_factory=Display)
    _said: dict[str, int] = field(default_factory=dict)

    def tick(self, updates: int) -> None:
        """Takes note of updates that were made."""
        self.pace.tick(self.pace.update + updates)
        self.display.tick()

    def show(self) -> None:
        """Shows the number of runs that are done, and the latest mean returns of all that have begun."""
        begun = [run for run in self.runs if run.points]
        done = sum(run.points[-1][0] == run.config.nupdates * run.config.nbatch for run in begun)
        latest = [run.points[-1][1].mean for run in begun if run.failure is None]
        known = [mean for mean in latest if np.isfinite(mean)]
        median, best = (float(np.median(known)), max(known)) if known else (np.nan, np.nan)
        self.display.show({"done": done, "median": median, "best": best})

    def rows(self) -> list[list[str]]:
        """The table of the runs that are being trained, its header first: number, what tells it from others, how far
        it is, its latest mean return.
        """
        running = [run for run in self.runs if run.status == "running"]
        if not running:
            return []
        table = [["run", *running[0].named, "done", "return"]]
        for run in running[:MOST_ROWS]:
            done = f"{100 * run.update // max(run.config.nupdates, 1)}%"
            mean = human(run.points[-1][1].mean) if run.points else "-"
            table.append([str(run.index), *map(_short, run.named.values()), done, mean])
        if len(running) > MOST_ROWS:
            table.append([f"and {len(running) - MOST_ROWS} more", *[""] * (len(table[0]) - 1)])
        return table

    def say_of(self, run: SweepRun, line: str, *, is_error: bool = False) -> None:
        """Says a line that a run has printed in a process of its own, but not a second time what another run has said
        before its first update, such as its plan: numbers in it, as that of its seed, make no difference.
        """
        text = re.sub(r"\d+", "0", line)
        if not run.update and self._said.get(text, run.index) != run.index:
            return
        if len(self._said) < MOST_LINES:
            self._said.setdefault(text, run.index)
        if is_error:
            say_error(line, prefix=f"run {run.index}: ")
        else:
            self.display.say(f"run {run.index}: {line}")

    def say_failure(self, run: SweepRun) -> None:
        """Says which run failed, and why."""
        if run.failure is not None:
            self.display.warn(run.failure.words)


def _short(value: object) -> str:
    text = getattr(value, "__name__", None) or str(value)
    return text if len(text) <= 20 else f"{text[:19]}…"

"""The screen of a sweep: how far its runs are, and how they do."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ppo2.reporting.display import Display
from ppo2.reporting.figures import Pace
from ppo2.training.sweep_plan import SweepRun


@dataclass
class SweepScreen:
    """Shows the progress of all runs of a sweep as one; its unit is an update of one run."""

    runs: Sequence[SweepRun]
    pace: Pace
    display: Display

    def tick(self, updates: int) -> None:
        """Takes note of updates that were made."""
        self.pace.tick(self.pace.update + updates)
        self.display.tick()

    def show(self) -> None:
        """Shows the number of runs that are done, and the latest mean returns of all that have begun."""
        begun = [run for run in self.runs if run.points]
        done = sum(run.points[-1][0] == run.config.nupdates * run.config.nbatch for run in begun)
        latest = [run.points[-1][1] for run in begun]
        known = [mean for mean in latest if np.isfinite(mean)]
        median, best = (float(np.median(known)), max(known)) if known else (np.nan, np.nan)
        self.display.show({"done": done, "median": median, "best": best})

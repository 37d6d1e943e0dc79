"""Common parts of the measured programs, so that all are measured alike. Standard library only."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Job = Mapping[str, Any]
Result = dict[str, Any]


class SteadyRate:
    """Environment steps per second between two ends of an update, the first ones left out.

    Args:
        seconds: the window's least length.
        warmup: seconds from the end of the first update (and with it of compilation) to the window's beginning; at
            least one more update lies between them.
    """

    def __init__(self, seconds: float, warmup: float) -> None:
        self._seconds, self._warmup = seconds, warmup
        self._first: float | None = None
        self._begin: tuple[float, int, int] | None = None
        self.updates = 0
        self.result: Result = {}

    @property
    def first_update(self) -> int:
        """The window's first update; 0 before there is one."""
        return 0 if self._begin is None else self._begin[2] + 1

    def update_done(self, steps: int, now: float | None = None) -> bool:
        """Takes note of `steps` having been made, updates included, by `now` (in seconds, of any clock; None: this
        moment). True when the window is over.
        """
        now = time.perf_counter() if now is None else now
        self.updates += 1
        if self._first is None:
            self._first = now
        elif self._begin is None:
            if now - self._first >= self._warmup:
                self._begin = (now, steps, self.updates)
        elif now - self._begin[0] >= self._seconds:
            seconds, made = now - self._begin[0], steps - self._begin[1]
            self.result = {"steps_per_second": made / seconds, "steps": made, "seconds": seconds}
            return True
        return False


class StartUp:
    """Time from the process's start to the end of its first update, and the memory that some more updates take.

    Args:
        started: `time.monotonic()` in the parent, just before it started this process: one clock for the machine.
        updates: number of updates before memory is looked at.
    """

    def __init__(self, started: float, updates: int) -> None:
        self._started, self._updates = started, updates
        self._done = 0
        self.result: Result = {}

    def update_done(self, steps: int) -> bool:
        """Counts an update; True when enough are made."""
        if not self._done:
            self.result["seconds"] = time.monotonic() - self._started
        self._done += 1
        if self._done < self._updates:
            return False
        self.result["peak_mb"] = peak_mb()
        return True


Watch = SteadyRate | StartUp


def watch_of(job: Job) -> Watch:
    """The watch on the training that a job asks for."""
    if job["measure"] == "speed":
        return SteadyRate(job["seconds"], job["warmup"])
    return StartUp(job["started"], job["updates"])


def seconds_of(call: Callable[[], object], seconds: float) -> Result:
    """The median time of a call, repeated for so many seconds after a first one that isn't counted."""
    call()
    times: list[float] = []
    began = time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return {"seconds": statistics.median(times), "calls": len(times)}


def peak_mb() -> float:
    """The most memory this process has held, in 10^6 bytes."""
    # Linux counts from the fork: the parent must be smaller than what is measured.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def answer(measures: Mapping[str, Callable[[Job], Result]]) -> None:
    """Does the job given as JSON on the command line, or, for "-", each line of standard input, and prints the result
    of each on a line; the last line of output is its result.
    """
    for line in sys.stdin if sys.argv[1] == "-" else sys.argv[1:]:
        job = json.loads(line)
        print(json.dumps(measures[job["measure"]](job)), flush=True)

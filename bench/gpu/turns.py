"""Contests: two programs on the same card, in turn, each in a process of its own."""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from programs import Contender, Session
from report import Spread, ratios
from workloads import Workload

UNPREALLOCATED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""A setting of processes that are on the card together: each takes the memory that it needs."""


class Row(NamedTuple):
    """A line of the table: ours beside another's.

    Attributes:
        ours, theirs: a figure from each repeat; pairs followed one another. None of theirs: it failed.
        target: the least ratio that is wanted, of ours to theirs; of theirs to ours where less is better.
        more: words about it.
    """

    work: str
    unit: str
    other: str
    ours: Sequence[float]
    theirs: Sequence[float]
    target: float | None = None
    less_is_better: bool = False
    more: str = ""

    @property
    def ratio(self) -> tuple[float, Spread] | None:
        """Ratio of the medians, and the spread of those of the pairs; above 1 ours is ahead."""
        first, second = (self.theirs, self.ours) if self.less_is_better else (self.ours, self.theirs)
        pairs = min(len(first), len(second))
        if not pairs:
            return None
        found = ratios(first[:pairs], second[:pairs])
        return found["of_medians"], Spread(**found["paired"])


class Fact(NamedTuple):
    """A line below the table: something that was looked at on the card."""

    what: str
    found: str


@dataclass
class Bench:
    """Settings and state of the parts: their sizes, how often they repeat, their time, and where results go."""

    python: Path
    small: bool
    repeats: int
    seconds: float
    out: Path
    deadline: float = 0.0
    part: str = ""
    caches: list[Any] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds left for the part.

        Raises:
            TimeoutError: none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("its time is over.")
        return left

    def tell(self, **found: Any) -> None:
        """Prints a result as a line of JSON, and keeps it."""
        line = json.dumps({"part": self.part, **found}, default=str)
        print(line, flush=True)
        with (self.out / "results.jsonl").open("a") as file:
            file.write(line + "\n")

    def empty_cache(self) -> Path:
        """A new directory for compiled programs, so that the first measurement compiles all of its own."""
        self.caches.append(tempfile.TemporaryDirectory())
        return Path(self.caches[-1].name)


class Taken(NamedTuple):
    """The measurements of a contender on a workload: the first, which compiled, and then all of them."""

    first: Mapping[str, Any]
    repeats: list[Mapping[str, Any]]

    @property
    def rates(self) -> list[float]:
        """Steps per second of each repeat but the first."""
        return [found["steps_per_second"] for found in self.repeats[1:]]


def in_turn(
    bench: Bench, contenders: Mapping[str, Contender], workloads: Mapping[str, Workload], warmup: float = 0.2
) -> dict[str, dict[str, Taken]]:
    """Speeds of all contenders on all workloads, in turn, again and again; one process for each contender.

    They start together; then each compiles while the others wait, so that no timing is disturbed. Where time runs out
    after a first repeat, those that are complete are the result. One that fails is left out, unless it is the first.
    """
    taken: dict[str, dict[str, Taken]] = {work: {} for work in workloads}
    with contextlib.ExitStack() as stack:
        sessions = {
            title: stack.enter_context(Session(contender, cache=bench.empty_cache()))
            for title, contender in contenders.items()
        }

        def answer(title: str) -> Mapping[str, Any] | None:
            try:
                return sessions[title].answer(bench.left)
            except RuntimeError as error:
                if title == next(iter(contenders)):
                    raise
                bench.tell(program=title, failed=str(error)[-1500:])
                del sessions[title]
                return None

        def each(repeat: int, seconds: float) -> None:
            for work, workload in workloads.items():
                for title in list(sessions):
                    timed = {"seconds": seconds, "warmup": min(warmup, seconds), "seed": repeat}
                    sessions[title].ask("speed", workload=workload.to_json(), **timed)
                    found = answer(title)
                    if found is not None:
                        bench.tell(work=work, program=title, repeat=repeat, **found)
                        taken[work].setdefault(title, Taken(found, [])).repeats.append(found)

        for session in sessions.values():
            session.ask("start")
        for title in list(sessions):
            answer(title)
        each(0, 0.0)
        with contextlib.suppress(TimeoutError):
            for repeat in range(1, bench.repeats + 1):
                each(repeat, bench.seconds)
    return taken


def alone(bench: Bench, contender: Contender, jobs: Mapping[str, Mapping[str, Any]], what: str) -> Iterator[Any]:
    """The results of one contender's jobs, one after another in one process, as (name, result)."""
    with Session(contender, cache=bench.empty_cache()) as session:
        for name, job in jobs.items():
            found = session.measure(what, bench.left, **job)
            bench.tell(work=name, program=contender.title, **found)
            yield name, found

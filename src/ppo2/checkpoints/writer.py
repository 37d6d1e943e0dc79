"""The checkpoints of a run, written by a thread of their own while training goes on."""

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ppo2.checkpoints import checkpoint

IN_FLIGHT = 2
"""One that is being written, and one that waits: each holds a copy of the model."""

Write = Callable[[Path], object]


class WriteResult(NamedTuple):
    """Of the checkpoint of an update; `error` is None where it was written."""

    update: int
    error: OSError | None


class CheckpointWriter:
    """Writes checkpoints in the order in which they come.

    Args:
        run_dir: whose they are.
        keep: how many of the last ones stay, with the best; None: all.
        best: the update of the best one so far, which stays too.
    """

    def __init__(self, run_dir: Path, *, keep: int | None, best: int | None) -> None:
        self._run_dir, self._keep, self._best = run_dir, keep, best
        self._writer = ThreadPoolExecutor(1, "ppo2-checkpoints")  # which starts its thread at the first
        self._pending: deque[tuple[int, Future[None]]] = deque()
        self._settled: list[WriteResult] = []

    def save(self, update: int, write: Write, *, is_best: bool) -> None:
        """Has a checkpoint written by `write(path)`; waits only where two others aren't written yet."""
        while len(self._pending) >= IN_FLIGHT:
            self._settle()
        self._pending.append((update, self._writer.submit(self._write, update, write, is_best)))

    def results(self) -> list[WriteResult]:
        """What became of those that were written, or could not be, since the last call.

        Raises:
            Exception: whatever else than OSError went wrong in the thread.
        """
        while self._pending and self._pending[0][1].done():
            self._settle()
        settled, self._settled = self._settled, []
        return settled

    def wait(self) -> None:
        """Returns once all are written, or failed."""
        while self._pending:
            self._settle()

    def close(self) -> None:
        """Waits for what is being written, and lets the thread go."""
        self._writer.shutdown()

    def _settle(self) -> None:
        """Waits for the first of those that are pending."""
        update, written = self._pending[0]
        error = written.exception()
        self._pending.popleft()
        if error is not None and not isinstance(error, OSError):
            raise error
        self._settled.append(WriteResult(update, error))

    def _write(self, update: int, write: Write, is_best: bool) -> None:
        write(checkpoint.file_of(self._run_dir, update))
        if is_best:
            self._best = update
        if self._keep is not None:
            self._prune(update, self._keep)

    def _prune(self, update: int, keep: int) -> None:
        """Deletes those that `keep` leaves out; in the thread that wrote a newer one, once that is safely there."""
        there = checkpoint.numbered(self._run_dir / checkpoint.FOLDER)
        # those above it aren't of this run's making
        old = [number for number in there if number <= update][keep:]
        for number in old:
            if number != self._best:
                with contextlib.suppress(OSError):  # the next one tries again
                    there[number].unlink()

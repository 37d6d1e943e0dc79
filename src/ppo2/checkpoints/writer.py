"""The checkpoints of a run, written by a thread of their own while training goes on."""

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ppo2.checkpoints import checkpoint
from ppo2.system import files

MOST_GIVEN_UP = 2
"""Most earlier checkpoints that are removed to make room for one: what doesn't suffice then is of no use."""
IN_FLIGHT = 2
"""Most checkpoints that aren't written yet: each holds a copy of the model."""

Write = Callable[[Path], object]


class WriteResult(NamedTuple):
    """The result of writing the checkpoint of an update; `error` is None if it was written."""

    update: int
    error: OSError | None


class CheckpointWriter:
    """Writes checkpoints in the order in which they come.

    Args:
        run_dir: the run's directory.
        keep: number of the last ones that stay, with the best; None: all.
        best: the update of the best one so far, which stays too.
        interim: the update of one that is removed once another is written (`Progress.interim`).
    """

    def __init__(self, run_dir: Path, *, keep: int | None, best: int | None, interim: int | None = None) -> None:
        self._run_dir, self._keep, self._best, self._interim = run_dir, keep, best, interim
        self._thread = ThreadPoolExecutor(1, "ppo2-checkpoints")  # which starts at the first
        self._pending: deque[tuple[int, Future[None]]] = deque()
        self._results: list[WriteResult] = []

    def save(self, update: int, write: Write, *, is_best: bool, is_interim: bool = False) -> None:
        """Has a checkpoint written by `write(path)`; waits only where two others aren't written yet."""
        while len(self._pending) >= IN_FLIGHT:
            self._finish_first()
        self._pending.append((update, self._thread.submit(self._write, update, write, is_best, is_interim)))

    def results(self) -> list[WriteResult]:
        """The results since the last call.

        Raises:
            Exception: another error than OSError in the thread.
        """
        while self._pending and self._pending[0][1].done():
            self._finish_first()
        results, self._results = self._results, []
        return results

    def wait(self) -> None:
        """Returns once all are written, or failed."""
        while self._pending:
            self._finish_first()

    def close(self) -> None:
        """Waits for the checkpoints that are being written, and ends the thread."""
        self._thread.shutdown()

    def _finish_first(self) -> None:
        update, written = self._pending[0]
        error = written.exception()
        self._pending.popleft()
        if error is not None and not isinstance(error, OSError):
            raise error
        self._results.append(WriteResult(update, error))

    def _write_first_of_all(self, update: int, write: Write) -> None:
        """Writes a checkpoint; where the disk is full, the oldest that `keep` made mortal give way, one by one."""
        given_up = self._mortal(update)[:MOST_GIVEN_UP]
        while True:
            try:
                write(checkpoint.file_of(self._run_dir, update))
                return
            except OSError as error:
                if error.errno not in files.NO_ROOM or not given_up:
                    raise
            with contextlib.suppress(OSError):
                given_up.pop(0).unlink()

    def _mortal(self, update: int) -> list[Path]:
        """The checkpoints that may be given up for a newer one, oldest first: neither the newest nor the best."""
        if self._keep is None:
            return []
        there = checkpoint.numbered(self._run_dir / checkpoint.FOLDER)
        earlier = [number for number in there if number < update][1:]
        return [there[number] for number in reversed(earlier) if number != self._best]

    def _write(self, update: int, write: Write, is_best: bool, is_interim: bool) -> None:
        self._write_first_of_all(update, write)
        if is_best:
            self._best = update
        before, self._interim = self._interim, update if is_interim else None
        # a newer one is safely there; those above `update` are of an earlier run
        there = checkpoint.numbered(self._run_dir / checkpoint.FOLDER)
        superseded = [before] if before is not None and before < update else []
        regular = [number for number in there if number <= update and number not in (*superseded, self._interim)]
        old = [] if self._keep is None else [number for number in regular[self._keep :] if number != self._best]
        for number in old + superseded:
            with contextlib.suppress(OSError, KeyError):  # the next one tries again
                there[number].unlink()

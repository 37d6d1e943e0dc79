"""Places that the rows of a log are appended to."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

Row = Mapping[str, float]
R = TypeVar("R")


class Sink(ABC, Generic[R]):
    """A place that rows are appended to.

    Attributes:
        path: the file, for messages.
        waiting: rows that were refused, to be written later.
    """

    path: Path
    waiting: Sequence[R] = ()

    @abstractmethod
    def append(self, rows: Sequence[R]) -> None: ...

    def flush(self) -> None:
        """Writes the rows that wait, if any do."""
        if self.waiting:
            self.append(())

    def film(self, path: Path, timestep: int) -> None:
        """Shows a video, where that is possible."""

    def end(self, score: float, timestep: int, failed: bool) -> None:
        """Takes note of how the run ended: its final score, NaN if there is none."""

    def close(self) -> None:
        self.flush()


def append_bytes(path: Path, data: bytes) -> None:
    """Appends whole or not at all, so that a full disk never leaves half a line between two others."""
    with path.open("ab", buffering=0) as file:
        start = file.tell()
        if file.write(data) != len(data):
            file.truncate(start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

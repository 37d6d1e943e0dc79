"""The start of training: fresh, from weights, resumed or restarted."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.progress import Progress
from ppo2.distributed import collectives
from ppo2.training import run_directory


class StartKind(StrEnum):
    """The four ways to begin.

    | kind | meaning |
    |---|---|
    | FRESH | a new run, with new parameters |
    | WEIGHTS | a new run, with the parameters, optimiser and normaliser of a checkpoint |
    | RESUMED | the run in `run_dir` goes on from one of its checkpoints |
    | RESTARTED | the run in `run_dir` begins again: it was stopped before its first checkpoint |
    """

    FRESH = "fresh"
    WEIGHTS = "weights"
    RESUMED = "resumed"
    RESTARTED = "restarted"


class Start(NamedTuple):
    """The start of training.

    Attributes:
        kind: see `StartKind`.
        saved: the checkpoint of WEIGHTS and RESUMED.
        settings: settings of the run that goes on, for RESUMED and RESTARTED.
    """

    kind: StartKind = StartKind.FRESH
    saved: Checkpoint | None = None
    settings: Mapping[str, Any] = {}

    @property
    def goes_on(self) -> bool:
        """True if it is the run in `run_dir` that goes on."""
        return self.kind in (StartKind.RESUMED, StartKind.RESTARTED)

    @property
    def resumed(self) -> Checkpoint | None:
        """The checkpoint that a run goes on from; None for other starts."""
        return self.saved if self.kind is StartKind.RESUMED else None

    @property
    def progress(self) -> Progress:
        """The progress of the run so far.

        Raises:
            ValueError: the checkpoint was saved by hand, or is damaged.
        """
        return Progress() if self.resumed is None else Progress.of(self.resumed)


def find_start(load_path: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str] | None) -> Start:
    """The start that these arguments of `learn` mean, the same in all processes: the first one reads the files.

    Raises:
        ValueError: there is no checkpoint, or it can't be read (`ppo2.checkpoints.checkpoint.load`).
    """
    mine = Start()

    def find() -> tuple[str, Mapping[str, Any], list[Any] | None]:
        nonlocal mine
        mine = read_start(load_path, run_dir)
        return mine.kind, mine.settings, None if mine.saved is None else [str(mine.saved.path), mine.saved.metadata]

    kind, settings, saved = collectives.run_on_first(find)
    if saved is None:
        return Start(StartKind(kind), settings=settings)
    tensors = collectives.broadcast_tensors({} if mine.saved is None else mine.saved.tensors)
    return Start(StartKind(kind), Checkpoint(Path(saved[0]), tensors, saved[1]), settings)


def read_start(load_path: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str] | None) -> Start:
    """`find_start`, in this process alone."""
    if load_path is None:
        return Start()
    path = None if run_dir is None else Path(run_dir).expanduser()
    if path is None or not run_directory.contains(path, Path(load_path)):
        return Start(StartKind.WEIGHTS, checkpoint.load(load_path))
    if run_directory.has_no_checkpoint(path):
        return Start(StartKind.RESTARTED, settings=run_directory.read_config(path))
    saved = checkpoint.load(load_path)
    return Start(StartKind.RESUMED, saved, saved.section("config"))

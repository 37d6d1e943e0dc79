"""The start of training: fresh, from weights, resumed or restarted."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ppo2.agent.files import restore
from ppo2.agent.model import Model
from ppo2.algorithm.faults import is_finite
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.progress import Progress
from ppo2.distributed import collectives
from ppo2.numerics.randomness import root_key
from ppo2.training import run_directory

StartKind = Literal["fresh", "weights", "resumed", "restarted"]


class Start(NamedTuple):
    """The start of training.

    | kind | meaning | saved | settings |
    |---|---|---|---|
    | fresh | a new run, with new parameters | | |
    | weights | a new run, with parameters, optimiser and normaliser of a checkpoint | that checkpoint | |
    | resumed | the run in `run_dir` goes on from one of its checkpoints | that checkpoint | those of the run |
    | restarted | the run in `run_dir` begins again: it has no checkpoint yet | | those of the run |
    """

    kind: StartKind = "fresh"
    saved: Checkpoint | None = None
    settings: Mapping[str, Any] = {}

    @property
    def goes_on(self) -> bool:
        """True if it is the run in `run_dir` that goes on."""
        return self.kind in ("resumed", "restarted")

    @property
    def resumed(self) -> Checkpoint | None:
        """The checkpoint that a run goes on from; None for other starts."""
        return self.saved if self.kind == "resumed" else None

    @property
    def progress(self) -> Progress:
        """The progress of the run so far.

        Raises:
            ValueError: the checkpoint was saved by hand, or is damaged.
        """
        return Progress() if self.resumed is None else Progress.of(self.resumed)

    def restore(self, model: Model) -> None:
        """Gives a model the state in the checkpoint, if there is one.

        Raises:
            ValueError: it is of another model, or holds numbers that are not finite.
        """
        if self.saved is None:
            return
        restore(model, self.saved)
        if not bool(is_finite(model.state)):
            raise ValueError(
                f"the checkpoint {self.saved.path} holds parameters, moments of the optimiser or statistics that are "
                "NaN or infinite, from which nothing can be learned: take an earlier one."
            )
        if self.kind == "weights":
            model.restart(root_key(model.config.seed))


def find_start(load_path: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str] | None) -> Start:
    """The start that these arguments of `learn` mean, the same in all processes: the first one reads the files.

    Raises:
        ValueError: there is no checkpoint, or it can't be read (`ppo2.checkpoints.checkpoint.load`).
    """
    mine = Start()

    def find() -> tuple[StartKind, Mapping[str, Any], list[Any] | None]:
        nonlocal mine
        mine = read_start(load_path, run_dir)
        return mine.kind, mine.settings, None if mine.saved is None else [str(mine.saved.path), mine.saved.metadata]

    kind, settings, saved = collectives.run_on_first(find)
    if saved is None:
        return Start(kind, settings=settings)
    tensors = collectives.broadcast_tensors({} if mine.saved is None else mine.saved.tensors)
    return Start(kind, Checkpoint(Path(saved[0]), tensors, saved[1]), settings)


def read_start(load_path: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str] | None) -> Start:
    """`find_start`, in this process alone."""
    if load_path is None:
        return Start()
    path = None if run_dir is None else Path(run_dir).expanduser()
    if path is None or not run_directory.contains(path, Path(load_path)):
        return Start("weights", checkpoint.load(load_path))
    if (path / run_directory.CONFIG).is_file() and not checkpoint.numbered(path / checkpoint.FOLDER):
        return Start("restarted", settings=run_directory.read_config(path))
    saved = checkpoint.load(load_path)
    return Start("resumed", saved, saved.section("config"))

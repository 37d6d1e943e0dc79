"""The start of training: fresh, from weights, resumed or restarted."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax

from ppo2 import spaces
from ppo2.agent.files import encoding_in, in_memory, restore
from ppo2.agent.model import Model
from ppo2.algorithm.faults import is_finite
from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.checkpoints.progress import Progress
from ppo2.checkpoints.tensors import PARTS
from ppo2.config import jsonable
from ppo2.config.settings_file import began_from
from ppo2.distributed import collectives
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import root_key
from ppo2.training import run_directory

StartKind = Literal["fresh", "weights", "resumed", "restarted"]
LoadPath: TypeAlias = str | os.PathLike[str] | Model | None


class Start(NamedTuple):
    """The start of training.

    | kind | meaning | saved | settings |
    |---|---|---|---|
    | fresh | a new run, with new parameters | | |
    | weights | a new run, with parts of a checkpoint, or of a model | that checkpoint | |
    | resumed | the run in `run_dir` goes on from one of its checkpoints | that checkpoint | those of the run |
    | restarted | the run in `run_dir` begins again: it has no checkpoint yet | | those of the run |

    `parts`: those of `PARTS` that a new run takes from the checkpoint; None: all. `loaded`: the arguments of `learn` by
    which it does, for its config.json.
    """

    kind: StartKind = "fresh"
    saved: Checkpoint | None = None
    settings: Mapping[str, Any] = {}
    parts: Collection[str] | None = None
    loaded: Mapping[str, Any] | None = None

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

    @property
    def timesteps(self) -> int:
        """Timesteps that the run so far has made; 0 where that isn't known."""
        num_envs, nsteps = self.settings.get("num_envs"), self.settings.get("nsteps")
        if not (isinstance(num_envs, int) and isinstance(nsteps, int)):
            return 0
        return self.progress.update * num_envs * nsteps

    @property
    def kept(self) -> Mapping[str, Any]:
        """The settings of a run that goes on, or its checkpoint's metadata, for what the run is to do as before; empty
        for other starts.
        """
        return self.settings if self.resumed is None else self.resumed.metadata

    @property
    def encoding(self) -> int:
        """The number of the rules that encode observations: those of the checkpoint's model, or today's."""
        return spaces.ENCODING if self.saved is None else encoding_in(self.saved)

    def restore(self, model: Model) -> None:
        """Gives a model the state in the checkpoint, if there is one.

        Raises:
            ValueError: it is of another model, or holds numbers that are not finite.
        """
        if self.saved is None:
            return
        restore(model, self.saved, self.parts)
        if self.parts == ("normaliser",) and not jax.tree.leaves(model.state.normaliser):
            raise ValueError(
                "`load_parts` (=('normaliser',)) takes statistics alone, and this run keeps none: set `normalize_obs` "
                "or `normalize_rewards` as where they were made."
            )
        if not bool(compiled(is_finite)(model.state)):  # compiled, `jax_debug_nans` looks at the answer alone
            raise ValueError(
                f"the checkpoint {self.saved.path} holds parameters, moments of the optimiser or statistics that are "
                "NaN or infinite, from which nothing can be learned: take an earlier one."
            )
        if self.kind == "weights":
            model.restart(root_key(model.config.seed))


def find_start(
    load_path: LoadPath, run_dir: str | os.PathLike[str] | None, load_parts: str | Collection[str] | None = None
) -> Start:
    """The start that these arguments of `learn` mean, the same in all processes: the first one reads the files.

    Raises:
        ValueError: there is no checkpoint, or it can't be read (`ppo2.checkpoints.checkpoint.load`); or `load_parts`
            has unknown parts, or is given where a run goes on, or nothing is loaded.
    """
    parts, mine = checked_parts(load_parts), Start()
    if parts is not None and load_path is None:
        raise ValueError(f"`load_parts` (={load_parts!r}) says what to take from `load_path`, which is None: give it.")

    def find() -> tuple[StartKind, Mapping[str, Any], list[Any] | None]:
        nonlocal mine
        mine = read_start(load_path, run_dir)
        return mine.kind, mine.settings, None if mine.saved is None else [str(mine.saved.path), mine.saved.metadata]

    kind, settings, saved = collectives.run_on_first(find)
    if parts is not None and kind != "weights":
        raise ValueError(
            f"`load_parts` (={load_parts!r}) is for a new run, and `run_dir` (={str(run_dir)!r}) holds one that "
            "continues, with all its parts: leave it out, or choose another `run_dir`."
        )
    if saved is None:
        return Start(kind, settings=settings)
    tensors = collectives.broadcast_tensors({} if mine.saved is None else mine.saved.tensors)
    loaded = _loaded(load_path, parts) if kind == "weights" else None
    return Start(kind, Checkpoint(Path(saved[0]), tensors, saved[1]), settings, parts, loaded)


def _loaded(load_path: LoadPath, parts: Collection[str] | None) -> dict[str, Any]:
    """The arguments of `learn`, as a file holds them."""
    path = str(load_path) if isinstance(load_path, str | os.PathLike) else jsonable(load_path)
    return {"load_path": path, **({} if parts is None else {"load_parts": list(parts)})}


def checked_parts(load_parts: str | Collection[str] | None) -> tuple[str, ...] | None:
    """The parts that `load_parts` names, in British spelling; raises ValueError for unknown ones, or none."""
    if load_parts is None:
        return None
    listed: Any = (load_parts,) if isinstance(load_parts, str) else load_parts
    named = tuple(listed) if isinstance(listed, Collection) else ()
    parts = tuple(str(part).replace("optimizer", "optimiser").replace("normalizer", "normaliser") for part in named)
    if not parts or not set(parts) <= PARTS.keys():
        raise ValueError(
            f"`load_parts` (={load_parts!r}) must name one or more of {', '.join(map(repr, PARTS))}; None takes all."
        )
    if "optimiser" in parts and "weights" not in parts:
        raise ValueError(f"`load_parts` (={load_parts!r}): the optimiser's moments are of its weights: take both.")
    return parts


def read_start(load_path: LoadPath, run_dir: str | os.PathLike[str] | None) -> Start:
    """`find_start` of all parts, in this process alone."""
    if load_path is None:
        return Start()
    if isinstance(load_path, Model):
        return Start("weights", in_memory(load_path))
    if not isinstance(load_path, str | os.PathLike):
        raise TypeError(f"`load_path` (={load_path!r}) must be a path, or a model of `ppo2.learn` or `ppo2.load`.")
    path = run_directory.absolute(run_dir)
    if not os.fspath(load_path):
        raise ValueError("`load_path` (='') must name a checkpoint, or a run directory.")
    if path is None or not run_directory.contains(path, Path(load_path)):
        return Start("weights", checkpoint.load(load_path))
    if (path / run_directory.CONFIG).is_file() and not checkpoint.numbered(path / checkpoint.FOLDER):
        settings = run_directory.read_config(path)
        if began := began_from(settings):
            raise ValueError(
                f"the run in {path} was stopped before its first checkpoint, so that nothing of it is there to "
                f"continue from, and it had begun from `load_path` (={began['load_path']!r}): give that again, with "
                "another `run_dir`, or remove this one."
            )
        return Start("restarted", settings=settings)
    saved = checkpoint.load(load_path)
    return Start("resumed", saved, saved.section("config"))

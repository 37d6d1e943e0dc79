"""Messages between a sweep and the processes, or actors, that train its runs."""

import contextlib
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ppo2.agent.files import in_memory
from ppo2.agent.model import Model
from ppo2.agent.pickling import packed, unpacked
from ppo2.algorithm.train_state import UpdateStats
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.sweeps.plan import Returns, has_row
from ppo2.training import run_directory
from ppo2.training.learn import learn

REPORT_SECONDS = 0.1
"""Least time between two reports of a run, but for rows of its log and evaluations."""
GIVE_UP = b"give up"
"""Bytes that end the run of the process that gets them."""


class Reported(NamedTuple):
    """Updates that a run has made: the last one, and the returns after each since the last report."""

    run: int
    update: int
    returns: tuple[Returns, ...]


class Trained(NamedTuple):
    """The model of a run that was trained to its end, or until a signal came."""

    run: int
    model: Checkpoint | None
    stopped: bool = False


class Failed(NamedTuple):
    """The error that ended a run: pickled, as it may be of a type that can't travel, and in words."""

    run: int
    error: bytes
    words: str
    traceback: str

    @classmethod
    def of(cls, run: int, error: Exception) -> "Failed":
        text = "".join(traceback.format_exception(error))
        try:
            pickled = packed(error.with_traceback(None))
            unpacked(pickled)
        except Exception:  # whatever its class does
            pickled = b""
        return cls(run, pickled, f"{type(error).__name__}: {error}", text)

    def unpickled(self) -> Exception:
        """The error, or one in its place that says the same."""
        found: Exception = RuntimeError(self.words)
        with contextlib.suppress(Exception):  # of a module that is only there
            found = unpacked(self.error) if self.error else found
        found.add_note(f"In the process that trained run {self.run}:\n{self.traceback}")
        return found


Message = Reported | Trained | Failed


def obstacle(env: Any, settings: Sequence[Mapping[str, Any]]) -> str | None:
    """The reason why the runs of these settings can't be trained in other processes; None if there is none."""
    try:
        packed((env, list(settings)))
    except Exception as error:  # of whatever is asked to travel
        return f"its arguments can't travel to other processes ({type(error).__name__}: {error})"
    return None


def train(
    env: Any, run_dir: Path | None, settings: Mapping[str, Any], report: Callable[[int, Model, Any], Any]
) -> Model:
    """Trains a run, or goes on with the one in its directory; `report` is an `update_fn`."""
    goes_on = run_dir is not None and (run_dir / run_directory.CONFIG).is_file()
    load_path = run_dir if goes_on else None
    return learn(env=env, run_dir=run_dir, load_path=load_path, update_fn=report, progress=False, **settings)


def called_exit(error: KeyboardInterrupt | SystemExit) -> RuntimeError:
    """The error of a run that called `sys.exit`, as a function among its settings may."""
    return RuntimeError(f"something called sys.exit({getattr(error, 'code', None)!r})")


class NewReturns:
    """Finds the returns that are new in each update, in what an `update_fn` gets.

    Args:
        episodes: number of those that ended before the first.
    """

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes

    def __call__(self, stats: UpdateStats) -> Returns:
        before, self._episodes = self._episodes, int(stats.episodes)
        new = min(self._episodes - before, len(stats.last))
        ended = [episode.r for episode in stats.last[len(stats.last) - new :]]
        returns = Returns.of(float(stats.eprewmean), ended, stats.infos)
        return returns if stats.evaluation is None else returns._replace(evaluation=stats.evaluation.mean)


class Reporter:
    """An `update_fn` that reports the updates of a run.

    Args:
        index: number of the run.
        episodes: see `SweepRun`.
        send: is given the reports.

    Attributes:
        model: the model as it is now; None before the first update.
        update: the last update.
    """

    def __init__(self, index: int, episodes: int, send: Callable[[Reported], None]) -> None:
        self.model: Model | None = None
        self.update = 0
        self._index, self._send, self._sent = index, send, -math.inf
        self._returns, self._waiting = NewReturns(episodes), list[Returns]()

    def __call__(self, update: int, model: Model, stats: UpdateStats) -> None:
        self.model, self.update, now = model, update, time.monotonic()
        self._waiting.append(self._returns(stats))
        if has_row(model.config, update) or stats.evaluation is not None or now - self._sent >= REPORT_SECONDS:
            self._send(Reported(self._index, update, tuple(self._waiting)))
            self._sent, self._waiting = now, []


def trained(index: int, model: Model | None, *, stopped: bool = False) -> Trained:
    """The message about a run's model; None: it made no update."""
    return Trained(index, None if model is None else in_memory(model), stopped)

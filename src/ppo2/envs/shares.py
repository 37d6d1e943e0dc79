"""Who steps which of a `HostVectorEnv`'s environments: this process a share, workers the others."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing import Pipe
from typing import Any, NamedTuple, Protocol

import cloudpickle
import numpy as np

from ppo2 import spaces
from ppo2.envs.failures import EnvironmentFailureError
from ppo2.envs.group import UNSEEDED, Board, Factory, Failure, Field, Group, episode_seed
from ppo2.envs.serving import CLOSE, COMMAND, CURRENT, ENDED, NEWS, RESET, STEP, Task
from ppo2.envs.signals import Signal
from ppo2.envs.watchdog import WATCHDOG, Watched

START_SECONDS = 120.0
"""That making a worker's environments may take."""
CLOSE_SECONDS = 5.0
"""That closing them may take."""


class Outcome(NamedTuple):
    """What a share's step of a group came to, beside what is on the board."""

    ended: bool
    failures: list[Failure]


class Share(Protocol):
    """Some environments of each group. What is started must be finished."""

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        """A step; `actions` of its environments one by one, or None: they are on the board."""

    def reset(self, group: int, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        """A reset, with the seeds of its environments."""

    def finish(self, group: int) -> Outcome: ...

    def close(self) -> None: ...


class OwnShare:
    """Stepped by this process, when it is asked to finish.

    Args:
        timeout: seconds that a step of one group may take; see `Watchdog`.
    """

    def __init__(self, groups: Sequence[Group], timeout: float) -> None:
        self._groups = groups
        self._actions: list[Iterable[Any]] = [()] * len(groups)
        self._watched = Watched(timeout)
        WATCHDOG.watch(self._watched)

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        assert actions is not None
        self._actions[group] = actions

    def reset(self, group: int, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        self._groups[group].reset(seeds, options)

    def finish(self, group: int) -> Outcome:
        stepped, watched = self._groups[group], self._watched
        watched.steps += 1
        watched.busy = True
        try:
            return Outcome(stepped.step(self._actions[group]), stepped.failures)
        finally:
            watched.busy = False

    def close(self) -> None:
        WATCHDOG.unwatch(self._watched)
        for group in self._groups:
            group.close()


class Common(NamedTuple):
    """What all workers of a vector environment share.

    Attributes:
        board: for all environments.
        fields, descriptor, size: of the memory in which it lies, before rows of control.
        spaces: observation and action space.
        spin, info_keys: see `Task`.
        timeout: seconds that a step of one group may take.
    """

    board: Board
    fields: list[list[Field] | Field]
    descriptor: int
    size: int
    spaces: tuple[spaces.AnySpace, spaces.AnySpace]
    spin: bool
    info_keys: tuple[str, ...]
    timeout: float


class WorkerShare:
    """Stepped by a process, which is replaced when it dies or hangs.

    Args:
        factories, rows: for each group.
        control: the process' row.
        number: which worker it is.
    """

    def __init__(
        self,
        common: Common,
        factories: Sequence[Sequence[Factory]],
        rows: Sequence[slice],
        control: np.ndarray[Any, Any],
        number: int,
    ) -> None:
        self._common, self._factories, self._rows = common, [list(some) for some in factories], list(rows)
        self._control, self._number = control, number
        self._running: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}  # of groups whose process was lost
        self._lost = 0
        self._ready = False
        self._began = [0.0] * len(rows)
        self._launch()

    def _launch(self) -> None:
        common = self._common
        self._go, self._done = Signal(), [Signal() for _ in self._rows]
        self._connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        handed = (theirs.fileno(), life, common.descriptor)
        names = [signal.name for signal in (self._go, *self._done)]
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ppo2.envs.worker", *map(str, handed[:2]), *names],
            pass_fds=handed,
            env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        )
        theirs.close()
        os.close(life)
        task = Task(
            factories=self._factories,
            rows=self._rows,
            fields=common.fields,
            descriptor=common.descriptor,
            size=common.size,
            worker=self._number,
            spin=common.spin,
            info_keys=common.info_keys,
            argv=sys.argv,
        )
        self._connection.send_bytes(cloudpickle.dumps(task))

    def wait_until_held(self) -> None:
        """Until the process holds its signals, whose names are taken away: nothing is left behind from then on.

        Raises:
            LostError: the process ended, or took too long.
        """
        try:
            self._received(START_SECONDS, raw=True)
        finally:
            for signal in (self._go, *self._done):
                signal.unname()

    def wait_until_ready(self) -> None:
        """Until its environments are there.

        Raises:
            LostError: the process ended, or took too long.
        """
        if self._ready:
            return
        answer = self._received(START_SECONDS)
        if isinstance(answer, Exception):
            raise answer
        for rows, theirs in zip(self._rows, answer, strict=True):
            for mine, its in zip(self._common.spaces, theirs, strict=True):
                if mine != its:
                    raise ValueError(f"`env`: its environments differ: number 0 has {mine}, number {rows.start} {its}.")
        self._ready = True

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        if group in self._outcomes:  # its process was lost since its last step: this one can't be made
            return
        self._begin(group, STEP)

    def reset(self, group: int, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        self._outcomes.pop(group, None)
        self._common.board.seeds[self._rows[group]] = [UNSEEDED if seed is None else seed for seed in seeds]
        self._connection.send_bytes(cloudpickle.dumps(options))
        self._begin(group, RESET)

    def finish_reset(self, group: int) -> None:
        """Waits for a reset.

        Raises:
            LostError: the process ended, or took too long.
        """
        self._finished(group)

    def finish(self, group: int) -> Outcome:
        if group not in self._outcomes:
            try:
                return self._finished(group)
            except LostError as lost:
                self._replace(str(lost))
        outcome = self._outcomes.pop(group)
        self._mark_failed(group)
        return outcome

    def _begin(self, group: int, command: int) -> None:
        if group in self._running:  # an interrupt came before `finish`
            self._finished(group)
        self._began[group] = time.monotonic()
        self._control[COMMAND + group] = command
        self._running.add(group)
        self._go.give()

    def _finished(self, group: int) -> Outcome:
        """Waits until the process is done with a group."""
        self._done[group].wait(spin=self._common.spin, look=lambda: self._look(group))
        answer = self._received(START_SECONDS) if self._control[NEWS + group] else []
        self._running.discard(group)
        if isinstance(answer, Exception):
            raise answer
        return Outcome(bool(self._control[ENDED + group]), answer)

    def _look(self, group: int) -> None:
        status = self._process.poll()
        env = self._rows[group].start + int(self._control[CURRENT])
        if status is not None:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
            raise LostError(f"the process that steps environments {self._whose} {how} in environment {env}")
        if time.monotonic() - self._began[group] > self._common.timeout:
            raise LostError(f"environment {env} hung for more than {self._common.timeout:g} s")

    def _replace(self, why: str) -> None:
        """Starts another process, whose environments all begin anew: their steps under way, or to come, failed."""
        culprit = self._rows[0].start + int(self._control[CURRENT])
        self._process.kill()
        self._process.wait()
        self._disconnect()
        self._lost += 1
        self._ready = False
        self._running.clear()
        self._control[:] = 0
        try:
            self._launch()
            self.wait_until_held()
            self.wait_until_ready()
            for group, rows in enumerate(self._rows):
                before = self._common.board.seeds[rows].tolist()
                anew = [None if seed == UNSEEDED else episode_seed(seed, -self._lost) for seed in before]
                self.reset(group, anew, None)
                self.finish_reset(group)
                self._common.board.seeds[rows] = before
        except LostError as lost:
            raise EnvironmentFailureError(f"{why}; another one could not take its place: {lost}.") from lost
        failures = [Failure(culprit, why)]
        for group in range(len(self._rows)):
            self._outcomes[group] = Outcome(ended=True, failures=failures)
            failures = []

    def _mark_failed(self, group: int) -> None:
        board = self._common.board.rows(self._rows[group])
        for here, final in zip(board.obs, board.final_obs, strict=True):
            final[:] = here
        board.rewards[:], board.terminated[:] = 0.0, False
        board.truncated[:], board.failed[:] = True, True
        board.returns[:], board.lengths[:] = np.nan, np.nan

    @property
    def _whose(self) -> str:
        return " and ".join(f"{rows.start} to {rows.stop - 1}" for rows in self._rows)

    def _received(self, seconds: float, *, raw: bool = False) -> Any:
        try:
            if self._connection.poll(seconds):
                data = self._connection.recv_bytes()
                return None if raw else cloudpickle.loads(data)
        except (EOFError, ConnectionError):
            self._process.wait()
            raise LostError(
                f"the process that steps environments {self._whose} ended with status {self._process.returncode}"
            ) from None
        raise LostError(f"environments {self._whose} took more than {seconds:g} s to start")

    def close(self) -> None:
        """Lets it close its environments, and ends it."""
        if self._process.poll() is None and self._ready and not self._running:
            self._begin(0, CLOSE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)
        self._process.kill()
        self._process.wait()
        self._disconnect()

    def _disconnect(self) -> None:
        self._connection.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)


class LostError(Exception):
    """A process that is of no use any more; the message says why."""

"""Who steps which of a `HostVectorEnv`'s environments: this process a share, workers the others."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from multiprocessing import Pipe
from typing import Any, NamedTuple, Protocol

import cloudpickle
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.buffers import ArraySpec, EnvBuffers
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.failures import EnvFailure, EnvironmentFailureError
from ppo2.envs.host.replay import UNSEEDED, episode_seed
from ppo2.envs.host.semaphore import CHECK_SECONDS, Semaphore
from ppo2.envs.host.serial_envs import SerialEnvs
from ppo2.envs.host.serve import CLOSE, COMMAND, CURRENT, ENDED, NEWS, REQUESTS, RESET, SAVE, STEP, WorkerSetup
from ppo2.envs.host.watchdog import WATCHDOG, WatchedSteps
from ppo2.system.exits import EXIT_HOOKS

START_SECONDS = 120.0
"""That making a worker's environments may take."""
CLOSE_SECONDS = 5.0
"""That closing them may take."""


class WorkerResult(NamedTuple):
    """What a share's step of a group came to, beside what is on the board."""

    ended: bool
    failures: list[EnvFailure]


class Worker(Protocol):
    """Some environments of each group. What is started must be finished."""

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        """A step; `actions` of its environments one by one, or None: they are on the board."""

    def finish(self, group: int) -> WorkerResult: ...

    def ask(self, group: int, what: int, argument: Any, patience: float = 1.0) -> None:
        """One of `REQUESTS`; each environment may take `patience` times what a step may."""

    def answer(self, group: int) -> Any: ...

    def close(self) -> None: ...


class LocalWorker:
    """Stepped by this process, when it is asked to finish.

    Args:
        timeout: seconds that a step or reset of one environment may take; see `Watchdog`.
    """

    def __init__(self, groups: Sequence[SerialEnvs], timeout: float) -> None:
        self.groups = groups
        self._actions: list[Iterable[Any]] = [()] * len(groups)
        self._answers: list[Any] = [None] * len(groups)
        self._timeout = timeout
        self._watched = WatchedSteps(timeout)
        WATCHDOG.watch(self._watched)

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        assert actions is not None
        self._actions[group] = actions

    def finish(self, group: int) -> WorkerResult:
        stepped, watched = self.groups[group], self._watched
        watched.begin()
        try:
            return WorkerResult(stepped.step(self._actions[group], watched.place), stepped.failures)
        finally:
            watched.busy = False

    def ask(self, group: int, what: int, argument: Any, patience: float = 1.0) -> None:
        watched = self._watched
        watched.timeout = self._timeout * patience
        watched.begin()
        try:
            self._answers[group] = REQUESTS[what](self.groups[group], argument, watched.place)
        finally:
            watched.busy, watched.timeout = False, self._timeout

    def answer(self, group: int) -> Any:
        return self._answers[group]

    def close(self) -> None:
        WATCHDOG.unwatch(self._watched)
        for group in self.groups:
            group.close()


class WorkerSettings(NamedTuple):
    """What all workers of a vector environment share.

    Attributes:
        board: for all environments.
        fields, descriptor, size: of the memory in which it lies, before rows of control.
        spaces: observation and action space.
        spin, info_keys: see `WorkerSetup`.
        timeout: seconds that a step or reset of one environment may take.
    """

    buffers: EnvBuffers
    buffer_specs: list[list[ArraySpec] | ArraySpec]
    descriptor: int
    size: int
    spaces: tuple[spaces.AnySpace, spaces.AnySpace]
    spin: bool
    info_keys: tuple[str, ...]
    timeout: float


class ProcessWorker:
    """Stepped by a process, which is replaced when it dies or hangs.

    Args:
        factories, rows: for each group.
        control: the process' row.
        number: which worker it is.

    Raises:
        LostError: it could not be started.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        factories: Sequence[Sequence[Factory]],
        rows: Sequence[slice],
        control: np.ndarray[Any, Any],
        number: int,
    ) -> None:
        self._settings, self._factories, self._rows = settings, [list(some) for some in factories], list(rows)
        self._control, self._number = control, number
        self._asked: list[tuple[int, Any]] = [(RESET, None) for _ in rows]
        self._patience = 1.0
        self._running: set[int] = set()
        self._stale: set[int] = set()  # groups whose environments were lost with their process
        self._lost = 0
        self._ready = False
        self._seen, self._looks = -1, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._launch()

    def _launch(self) -> None:
        """Starts a process."""
        settings = self._settings
        setup = WorkerSetup(
            factories=self._factories,
            rows=self._rows,
            buffer_specs=settings.buffer_specs,
            descriptor=settings.descriptor,
            size=settings.size,
            worker=self._number,
            spin=settings.spin,
            info_keys=settings.info_keys,
            argv=sys.argv,
        )
        try:
            message = cloudpickle.dumps(setup)
        except Exception as error:  # of whatever is asked to travel
            raise WorkerLostError(
                f"environments {self._whose} can't travel ({type(error).__name__}: {error})"
            ) from error
        self._go, self._done = Semaphore(), [Semaphore() for _ in self._rows]
        self._connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        handed = (theirs.fileno(), life, settings.descriptor)
        names = [signal.name for signal in (self._go, *self._done)]
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ppo2.envs.host.worker", *map(str, handed[:2]), *names],
                pass_fds=handed,
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                process_group=0,  # what interrupts this one is not for it
            )
            EXIT_HOOKS.add(self._process.kill)  # an environment that hangs may keep it from ending by itself
            self._connection.send_bytes(message)
        except OSError as error:
            self._unlink()
            self._disconnect()
            raise WorkerLostError(f"no process could be started for environments {self._whose} ({error})") from error
        finally:
            theirs.close()
            os.close(life)

    def _unlink(self) -> None:
        for signal in (self._go, *self._done):
            signal.unlink()

    def wait_until_held(self) -> None:
        """Until the process holds its signals, whose names are taken away: nothing is left behind from then on.

        Raises:
            LostError: the process ended, or took too long.
        """
        try:
            self._received(START_SECONDS, raw=True)
        finally:
            self._unlink()

    def wait_until_ready(self) -> None:
        """Until its environments are there.

        Raises:
            LostError: they could not be made there.
        """
        if self._ready:
            return
        answer = self._received(START_SECONDS)
        if isinstance(answer, Exception):
            raise WorkerLostError(
                f"environments {self._whose} could not be made in another process ({answer})"
            ) from answer
        for rows, theirs in zip(self._rows, answer, strict=True):
            for name, mine, its in zip(
                ("observation_space", "action_space"), self._settings.spaces, theirs, strict=True
            ):
                if mine != its:
                    raise ValueError(
                        f"`env`: its environments differ in {name}: number 0 has {mine}, number {rows.start} {its}. "
                        "All must be alike."
                    )
        self._ready = True

    def drain(self) -> None:
        """Waits for what was started before an interrupt or an error."""
        for group in [*self._running]:
            try:
                self._finished(group)
            except WorkerLostError:
                self._relaunch()
            except Exception:  # told already, or of steps that nobody asks for any more
                self._running.discard(group)

    def ask(self, group: int, what: int, argument: Any, patience: float = 1.0) -> None:
        if what == SAVE and group in self._stale:  # nothing is there to be saved
            return
        self._stale.discard(group)
        self._asked[group], self._patience = (what, argument), patience
        message = cloudpickle.dumps(argument)
        # The other process must be about to read: what doesn't fit into the pipe waits for it.
        self._begin(group, what)
        with contextlib.suppress(OSError):  # it is lost: `answer` will see
            self._connection.send_bytes(message)

    def answer(self, group: int) -> Any:
        """Waits for what was asked. A process that is lost is replaced, once; one that was to save, at the next step.

        Raises:
            EnvironmentFailureError: the other one was lost as well.
        """
        try:
            return self._finished(group)[1]
        except WorkerLostError as lost:
            if self._asked[group][0] == SAVE:
                self._running.discard(group)
                return None
            try:
                self._relaunch()
                for each, (what, argument) in enumerate(self._asked):
                    self.ask(each, what, argument, self._patience)
                answers = [self._finished(each)[1] for each in range(len(self._rows))]
            except WorkerLostError as again:
                raise EnvironmentFailureError(f"{lost}, in a reset; another process: {again}.") from again
            return answers[group]
        finally:
            self._patience = 1.0

    def start(self, group: int, actions: Iterable[Any] | None) -> None:
        if group not in self._stale:
            self._begin(group, STEP)

    def finish(self, group: int) -> WorkerResult:
        why: list[EnvFailure] = []
        if group not in self._stale:
            try:
                ended, answer = self._finished(group)
                return WorkerResult(ended, answer or [])
            except WorkerLostError as lost:
                why = [EnvFailure(int(self._control[CURRENT]), str(lost))]
                self._replace()
        self._begin_anew(group)
        return WorkerResult(ended=True, failures=why)

    def _begin(self, group: int, command: int) -> None:
        self._seen, self._looks = -1, 0
        self._control[COMMAND + group] = command
        self._running.add(group)
        self._go.release()

    def _finished(self, group: int) -> tuple[bool, Any]:
        """Waits until the process is done with a group: whether an episode ended, and what it says of it."""
        if group not in self._running:
            return False, None
        self._done[group].acquire(spin=self._settings.spin, check=self._check)
        answer = self._received(START_SECONDS) if self._control[NEWS + group] else None
        self._running.discard(group)
        if isinstance(answer, Exception):
            raise answer
        return bool(self._control[ENDED + group]), answer

    def _check(self) -> None:
        """Called every LOOK_SECONDS of waiting: time in which this process was stopped isn't counted."""
        assert self._process is not None
        status, env = self._process.poll(), int(self._control[CURRENT])
        if status is not None:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
            raise WorkerLostError(f"the process that steps environments {self._whose} {how} in environment {env}")
        self._looks = self._looks + 1 if env == self._seen else 0
        self._seen = env
        if self._looks * CHECK_SECONDS > self._settings.timeout * self._patience:
            raise WorkerLostError(f"environment {env} hung for more than {self._settings.timeout:g} s")

    def _replace(self) -> None:
        """Starts another process; all environments of this one are stale."""
        try:
            self._relaunch()
        except WorkerLostError as lost:
            raise EnvironmentFailureError(f"a process that was lost could not be replaced: {lost}.") from lost
        self._stale = set(range(len(self._rows)))

    def _relaunch(self) -> None:
        self._end()
        self._lost += 1
        self._ready = False
        self._running.clear()
        self._control[:] = 0
        self._launch()
        self.wait_until_held()
        self.wait_until_ready()

    def _begin_anew(self, group: int) -> None:
        """Resets environments that were lost: their step failed."""
        settings, rows = self._settings, self._rows[group]
        seeds = settings.buffers.seeds[rows].tolist()
        anew = [seed if seed == UNSEEDED else episode_seed(seed, -self._lost) for seed in seeds]
        settings.buffers.seeds[rows] = anew
        self.ask(group, RESET, None)
        try:
            self._finished(group)
        except WorkerLostError as lost:
            raise EnvironmentFailureError(f"{lost}, in a reset after another process was lost.") from lost
        buffers = settings.buffers.rows(rows)
        for here, final in zip(buffers.obs, buffers.final_obs, strict=True):
            final[:] = here
        buffers.rewards[:], buffers.terminated[:] = 0.0, False
        buffers.truncated[:], buffers.failed[:] = True, True
        buffers.returns[:], buffers.lengths[:], buffers.infos[:] = np.nan, np.nan, np.nan

    @property
    def _whose(self) -> str:
        return " and ".join(f"{rows.start} to {rows.stop - 1}" for rows in self._rows)

    def _received(self, seconds: float, *, raw: bool = False) -> Any:
        assert self._process is not None
        try:
            if self._connection.poll(seconds):
                data = self._connection.recv_bytes()
                return None if raw else cloudpickle.loads(data)
        except (EOFError, ConnectionError):
            self._process.wait()
            raise WorkerLostError(
                f"the process that steps environments {self._whose} ended with status {self._process.returncode}"
            ) from None
        raise WorkerLostError(f"environments {self._whose} took more than {seconds:g} s to start")

    def close(self) -> None:
        """Lets it close its environments, and ends it."""
        if self._process is not None and self._process.poll() is None and self._ready and not self._running:
            self._begin(0, CLOSE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            EXIT_HOOKS.discard(self._process.kill)
        self._disconnect()

    def _disconnect(self) -> None:
        self._connection.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1


class WorkerLostError(Exception):
    """A process that is of no use any more; the message says why."""

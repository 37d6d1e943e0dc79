"""A worker process, seen from the process that trains: started, asked, waited for, and replaced where it is lost."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from typing import Any

import cloudpickle
import numpy as np

from ppo2.envs.host.buffers import EnvBuffers
from ppo2.envs.host.constructors import ConstructorError
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.failures import ContractError, EnvFailure, EnvironmentFailureError
from ppo2.envs.host.infos import EnvInfo
from ppo2.envs.host.outcome import ENDED, FAILED, PLAIN, StepOutcome
from ppo2.envs.host.replay import UNSEEDED, episode_seed
from ppo2.envs.host.semaphore import CHECK_SECONDS, Semaphore
from ppo2.envs.host.worker_envs import ResetRequest
from ppo2.envs.host.worker_loop import CLOSE, COMMAND, CURRENT, FLAGS, FULL_STEP, NEWS, REQUEST, STEP, WorkerSetup
from ppo2.system.exits import ACTION_SECONDS, EXIT_HOOKS
from ppo2.system.text import say_kept

START_SECONDS = 120.0
"""Seconds that starting a process and making its environments may take."""
CLOSE_SECONDS = 5.0
"""Seconds that closing its environments may take."""
BEGINNINGS = ("reset", "restore")
"""Requests after which environments that were just made can be stepped."""
END_SECONDS = 1.0
"""Seconds that a process which hangs, or was broken off, has to close its environments."""


class WorkerLostError(EnvironmentFailureError):
    """A worker process is of no use any more; the message gives the reason."""


class ProcessWorker:
    """A process that steps its environments; another one takes its place when it dies or hangs.

    Args:
        buffers: buffers of all environments.
        control: the process's control words.
        timeout: see `HostVectorEnv`.
    """

    def __init__(self, setup: WorkerSetup, buffers: EnvBuffers, control: NDArray, timeout: float) -> None:
        self._setup, self._rows, self._control = setup, setup.rows, control
        self._buffers, self._timeout = buffers, timeout
        self._running: set[int] = set()  # groups whose command isn't done yet
        self._stale: set[int] = set()  # groups whose environments were lost with their process
        self._whose = printed(self._rows)
        self._losses, self._unreported = 0, list[EnvFailure]()
        self._arrived: dict[int, Any] = {}  # answers that nobody has asked for yet
        self.process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(WorkerLostError):  # `make_ready` tries again
            self._launch()

    # --- what a `LocalWorker` does as well ---

    def start(self, group: int, *, full: bool = False) -> None:
        if group not in self._stale:
            self._command(group, FULL_STEP if full else STEP)

    def finish(self, group: int) -> StepOutcome:
        failures, self._unreported = self._unreported, []
        if group not in self._stale:
            try:
                answer, flags = self._wait(group), int(self._control[FLAGS + group])
                if not (answer or flags or failures):
                    return PLAIN
                more, infos = answer or ([], [])
                return StepOutcome(flags, failures + more, infos)
            except WorkerLostError as lost:
                failures.append(EnvFailure(int(self._control[CURRENT]), str(lost)))
                self._relaunch()
                self._stale = set(range(len(self._rows)))
        return StepOutcome(ENDED | FAILED, failures, infos=self._begin_anew(group))

    def ask(self, method: str, arguments: Mapping[int, Any], patience: float = 1.0) -> None:
        self._request = (method, arguments, patience)
        if method in BEGINNINGS:
            self._stale -= arguments.keys()
        message = cloudpickle.dumps((method, arguments))
        # The process must be about to read: what doesn't fit into the pipe waits for it.
        self._command(min(arguments), REQUEST, patience)
        with contextlib.suppress(OSError):  # it is lost, which `answers` will see
            self._connection.send_bytes(message)

    def answers(self) -> dict[int, Any]:
        """Waits for the answers. A process that is lost is replaced, once; one that was to save, at the next step.

        What was called in a replaced one's environments is called in the new ones, which begin anew at the next step.
        """
        method, arguments, _ = self._request
        try:
            answers: dict[int, Any] = self._wait(min(arguments))
        except WorkerLostError as lost:
            if method == "save_states":
                self._running.clear()
                return {}
            if method not in BEGINNINGS:
                self._unreported = [EnvFailure(int(self._control[CURRENT]), str(lost))]
                self._stale = set(range(len(self._rows)))
            self._relaunch()
            self.ask(*self._request)
            answers = self._wait(min(arguments))
        return answers

    def close(self) -> None:
        """Lets the process close its environments, and ends it."""
        if self.process is not None and self.process.poll() is None and self._ready and not self._running:
            self._command(0, CLOSE)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSE_SECONDS)
        self._end()

    def _begin_anew(self, group: int) -> list[EnvInfo]:
        """Resets environments that were lost, with other seeds; their step has failed. Returns their infos."""
        rows, seeds = self._rows[group], self._buffers.seeds
        seeds[rows] = [seed if seed == UNSEEDED else episode_seed(seed, -self._losses) for seed in seeds[rows].tolist()]
        self._buffers.episodes[rows] = 0
        self.ask("reset", {group: ResetRequest()})
        infos: list[EnvInfo] = self._wait(group)[group]
        buffers = self._buffers.rows(rows)
        for obs, final_obs in zip(buffers.obs, buffers.final_obs, strict=True):
            final_obs[:] = obs
        buffers.rewards[:], buffers.terminated[:] = 0.0, False
        buffers.truncated[:], buffers.failed[:], buffers.missing[:] = True, True, False
        buffers.infos[:] = np.nan
        return [one._replace(final={}) for one in infos]

    # --- commands to the process ---

    def _command(self, group: int, command: int, patience: float = 1.0) -> None:
        self._seen, self._checks, self._patience = -1, 0, patience
        self._control[COMMAND + group] = command
        self._running.add(group)
        self._go.release()

    def _wait(self, group: int) -> Any:
        """Waits until a group's command is done. Returns the process's answer, if there is one, or raises its error."""
        if group not in self._running:
            return None
        self._done[group].acquire(spin=self._setup.spin, check=self._check)
        answer = self._answer_of(group) if self._control[NEWS + group] else None
        self._running.discard(group)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _answer_of(self, group: int) -> Any:
        """A group's answer; one of the other group, which has come before it, is kept."""
        while group not in self._arrived:
            whose, answer, told = self._receive()
            say_kept(told)
            self._arrived[whose] = answer
        return self._arrived.pop(group)

    def _check(self) -> None:
        """Raises WorkerLostError if the process died or hangs; called every CHECK_SECONDS of waiting.

        Time is counted in calls, so that time in which this process itself was stopped doesn't count.
        """
        assert self.process is not None
        status, env = self.process.poll(), int(self._control[CURRENT])
        if status is not None:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
            raise WorkerLostError(f"the process that steps {self._whose} {how} in environment {env}")
        self._checks = self._checks + 1 if env == self._seen else 0
        self._seen = env
        if self._checks * CHECK_SECONDS > self._timeout * self._patience:
            raise WorkerLostError(f"environment {env} hung for more than {self._timeout:g} s")

    def _receive(self) -> Any:
        assert self.process is not None
        try:
            if self._connection.poll(START_SECONDS):
                return cloudpickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError):
            status = self.process.wait()
            raise WorkerLostError(f"the process that steps {self._whose} ended with status {status}") from None
        raise WorkerLostError(f"{self._whose} took more than {START_SECONDS:g} s to start")

    # --- beginning and end of the process ---

    def make_ready(self) -> None:
        """Waits until the process has made its environments, and for what it began before an interrupt or an error."""
        self._wait_for_start()
        for group in [*self._running]:
            try:
                self._wait(group)
            except WorkerLostError:
                self._relaunch()
            except Exception:  # reported already, or of steps that nobody asks for any more
                self._running.discard(group)

    def _launch(self) -> None:
        """Starts a process, which makes its environments meanwhile."""
        self._ready = False
        self._go, self._done = Semaphore(), [Semaphore() for _ in self._rows]
        self._connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        handed = (theirs.fileno(), life, self._setup.descriptor)
        names = [semaphore.name for semaphore in (self._go, *self._done)]
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        try:
            message = cloudpickle.dumps(self._setup)
            # an environment that computes with JAX shall not take memory of a GPU, in each of these processes
            platforms = {"JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS") or "cpu"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ppo2.envs.host.worker", *map(str, handed[:2]), *names],
                pass_fds=handed,
                env={**os.environ, **platforms, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                process_group=0,  # what interrupts this process is not for that one
            )
            EXIT_HOOKS.add(self._let_go)
            self._connection.send_bytes(message)
        except Exception as error:  # of the system, or of a factory that can't travel
            self._end()
            words = f"no process could be started for {self._whose} ({type(error).__name__}: {error})"
            raise WorkerLostError(words) from error
        finally:
            theirs.close()
            os.close(life)

    def _wait_for_start(self) -> None:
        if self.process is None:
            self._launch()
        if self._ready:
            return
        answer, told = self._receive()
        say_kept(told)
        if isinstance(answer, ContractError):
            raise answer
        if isinstance(answer, Exception):
            words = str(answer) if isinstance(answer, ConstructorError) else f"{type(answer).__name__}: {answer}"
            raise WorkerLostError(f"{self._whose} could not be made in another process ({words})") from answer
        self._ready = True

    def _relaunch(self) -> None:
        """Puts another process in the place of a lost one."""
        self._end()
        self._losses += 1
        self._running.clear()
        self._arrived.clear()
        self._control[:] = 0
        self._wait_for_start()

    def _end(self) -> None:
        if self.process is not None:
            self._let_go(END_SECONDS)
            self.process.wait()
            EXIT_HOOKS.discard(self._let_go)
            self.process = None
        for semaphore in (self._go, *self._done):  # a process that had no time to remove their names
            semaphore.unlink()
        self._connection.close()

    def _let_go(self, seconds: float = 0.8 * ACTION_SECONDS) -> None:
        """Has the process close its environments and end, and kills it where that takes longer: one may hang."""
        lifeline, self._lifeline = self._lifeline, -1
        with contextlib.suppress(OSError):
            os.close(lifeline)
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
            self.process.kill()


def printed(rows: Sequence[slice]) -> str:
    """Words for the environments of some slices."""
    parts = [str(part.start) if part.stop - part.start == 1 else f"{part.start} to {part.stop - 1}" for part in rows]
    return f"environment{'s' if parts != [str(rows[0].start)] else ''} {' and '.join(parts)}"

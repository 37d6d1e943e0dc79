"""The processes that train the runs of a sweep side by side, seen from the process that called `sweep`."""

import contextlib
import functools
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from typing import Any, Self, TypeAlias

from ppo2.agent.pickling import packed, unpacked
from ppo2.agent.surroundings import Surroundings, environment_variables
from ppo2.sweeps.messages import GIVE_UP, Failed, Message, Reported, Trained
from ppo2.sweeps.plan import SweepRun
from ppo2.sweeps.screen import SweepScreen
from ppo2.system import processors
from ppo2.system.exits import ACTION_SECONDS, EXIT_HOOKS
from ppo2.system.signals import StopSignals

LOOK_SECONDS = 0.1
"""Interval of looking for a signal."""
CLOSE_SECONDS = 5.0
"""Seconds that a process has to end when it has no more work."""
END_SECONDS = 2.0
"""Seconds that it has when its work is broken off."""


Then: TypeAlias = Callable[[SweepRun], Sequence[SweepRun]]


def no_more(_: SweepRun) -> Sequence[SweepRun]:
    """Adds no run to those that were given."""
    return ()


class RunProcess:
    """A process that trains one run after another.

    Args:
        mine: the processors that it shall use.

    Attributes:
        run: the run that it trains; None where there is none.
    """

    def __init__(self, mine: Sequence[int]) -> None:
        self.run: SweepRun | None = None
        self._knows = self._has_given_up = False
        self.connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        handed = (theirs.fileno(), life)
        words = map(str, (*handed, processors.usable_processors(), *mine))
        # the models were planned to act and learn on the CPU
        variables = {**os.environ, **environment_variables(), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ppo2.sweeps.child", *words],
                pass_fds=handed,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,  # what interrupts this process is passed on
            )
        except BaseException:
            self.connection.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(life)
        EXIT_HOOKS.add(self.let_go)

    def begin(self, run: SweepRun, env: Any, surroundings: bytes) -> None:
        """Has it train a run; `surroundings` are packed."""
        self.run, run.status = run, "running"
        self._has_given_up = False
        if not self._knows:
            self._send(surroundings)
            self._knows = True
        self._send(packed((run.index, run.episodes, run.run_dir, packed((env, dict(run.settings))))))

    def interrupt(self, number: int) -> None:
        """Has it stop after its update, as this process was asked to by a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def give_up(self) -> None:
        """Has it end its run after its update, as if that were the last."""
        if not self._has_given_up:
            self._has_given_up = True
            self._send(GIVE_UP)

    def fate(self) -> str:
        """Words for how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSE_SECONDS)
        status = self.process.poll()
        if status is not None and status < 0:
            why = " (does the machine have too little memory?)" if -status == signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-status).name}{why}"
        return f"its process ended with status {status}"

    def let_go(self, seconds: float = 0.8 * ACTION_SECONDS) -> None:
        """Has it stop, and kills it where that takes longer."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.process.kill()

    def close(self) -> None:
        """Ends it, at once where it never had any work."""
        self.connection.close()
        if self.run is None and self._knows:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(CLOSE_SECONDS)
        self.let_go(END_SECONDS if self._knows else 0.0)
        self.process.wait()
        EXIT_HOOKS.discard(self.let_go)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it has died, which whoever reads its messages will see
            self.connection.send_bytes(message)


class Pool:
    """Trains runs in processes, as many at a time as there are sets of processors, which begin at once: the time in
    which they import JAX can be used. Another process takes the place of one that died. Leaving the context ends all.
    """

    def __init__(self, count: int) -> None:
        self._free = processors.shares(count)
        self._selector = selectors.DefaultSelector()
        self._processes: dict[RunProcess, list[int]] = {}
        self._is_stopping = False
        self._start(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.connection.close()  # all at once, before they are waited for
        for process in self._processes:
            process.close()
        self._processes.clear()
        self._selector.close()

    def train(
        self, env: Any, runs: Sequence[SweepRun], screen: SweepScreen, stop: StopSignals, then: Then = no_more
    ) -> None:
        """Trains all, or what is done when a signal comes: then those that run finish their updates.

        Args:
            then: called with each run that has ended; returns runs to train too.
        """
        self._env, self._waiting, self._screen, self._stop, self._then = env, list(runs), screen, stop, then
        self._surroundings = packed(Surroundings.here())
        while self._waiting or any(process.run is not None for process in self._processes):
            self._assign()
            for key, _ in self._selector.select(LOOK_SECONDS):
                is_open = key in self._selector.get_map().values()  # no earlier one of these has closed it
                if is_open and key.data() is False:
                    self._selector.unregister(key.fileobj)
            screen.tick(0)
            if stop.received is not None and not self._is_stopping:
                self._is_stopping = True
                self._waiting.clear()
                for process in self._processes:
                    process.interrupt(stop.received)

    def _start(self, count: int) -> None:
        """Starts so many processes."""
        for mine in [self._free.pop(0) for _ in range(count)]:
            process = RunProcess(mine)
            self._processes[process] = mine
            self._listen(process.connection, functools.partial(self._receive, process))
            for stream, is_error in ((process.process.stdout, False), (process.process.stderr, True)):
                assert stream is not None
                say = functools.partial(self._say, process, is_error=is_error)
                self._listen(stream, _Lines(stream.fileno(), say))

    def _assign(self) -> None:
        """Gives processes that have no run the next ones."""
        idle = sum(process.run is None for process in self._processes)
        self._start(max(0, min(len(self._waiting) - idle, len(self._free))))
        for process in self._processes:
            if process.run is None and self._waiting:
                process.begin(self._waiting.pop(0), self._env, self._surroundings)

    def _listen(self, source: Any, read: Callable[[], object]) -> None:
        self._selector.register(source, selectors.EVENT_READ, read)

    def _say(self, process: RunProcess, line: str, *, is_error: bool) -> None:
        if process.run is not None:
            self._screen.say_of(process.run, line, is_error=is_error)

    def _receive(self, process: RunProcess) -> None:
        """Reads a message of a process; its end, where it has died."""
        run, screen = process.run, self._screen
        try:
            message: Message = unpacked(process.connection.recv_bytes())
        except (EOFError, OSError):
            self._bury(process)
            return
        assert run is not None
        assert run.index == message.run
        take_note(message, run, screen, self._stop)
        if not isinstance(message, Reported):
            self._read_rest(process)
            process.run = None
            self._waiting += self._then(run)
            if isinstance(message, Trained) and message.stopped:  # it heard a signal, and ends
                self._bury(process)
        elif run.given_up:
            process.give_up()

    def _bury(self, process: RunProcess) -> None:
        """Takes note of the death of a process; its run has failed."""
        self._read_rest(process)
        run, words = process.run, process.fate()
        process.run = None
        for source in (process.connection, process.process.stdout, process.process.stderr):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(source)  # type: ignore[arg-type]
        process.close()
        self._free.append(self._processes.pop(process))
        if run is not None:
            if self._is_stopping:
                run.status = "stopped"
            else:
                run.fail(RuntimeError(words), words)
                self._screen.say_failure(run)
                self._waiting += self._then(run)

    def _read_rest(self, process: RunProcess) -> None:
        """Reads what a process has printed of its run."""
        for stream in (process.process.stdout, process.process.stderr):
            key = self._selector.get_map().get(stream) if stream is not None else None
            if key is not None:
                key.data()


class _Lines:
    """Reads what there is in a pipe, and passes on its lines, without blocking; False at its end."""

    def __init__(self, descriptor: int, say: Callable[[str], None]) -> None:
        self._descriptor, self._say, self._rest = descriptor, say, b""
        os.set_blocking(descriptor, False)

    def __call__(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._descriptor, 65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    if text := line.decode(errors="replace").rstrip():
                        self._say(text)
            return False
        return True


def take_note(message: Message, run: SweepRun, screen: SweepScreen, stop: StopSignals) -> None:
    """Takes note of what a process, or an actor, says of the run that it trains."""
    if isinstance(message, Reported):
        screen.tick(message.update - run.update)
        first = message.update + 1 - len(message.returns)
        has_row = [run.record(first + i, returns) for i, returns in enumerate(message.returns)]
        if any(has_row):
            screen.show()
    elif isinstance(message, Failed):
        run.fail(message.unpickled(), message.traceback)
        screen.say_failure(run)
    elif message.stopped and stop.received is None:
        words = "its process was asked to stop by a signal that the sweep didn't get"
        run.fail(RuntimeError(words), words)
        screen.say_failure(run)
    else:
        if message.model is not None:
            run.take_over(message.model)
        run.status = "stopped" if message.stopped else "finished"

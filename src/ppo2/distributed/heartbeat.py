"""The heartbeat of a process: tells the monitor in rank 0 that it lives and how far it has come (monitor.py).

JAX's own runtime notices a lost process late or by its own abrupt end, and a hanging one never.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import NoReturn, TypeVar

from ppo2.distributed.messages import (
    DIED,
    MonitorAddress,
    ProcessFailure,
    ProcessLocation,
    ProcessProgress,
    last_words,
    receive,
    send,
)
from ppo2.distributed.monitor import ALIKE_SECONDS, JOIN_SECONDS, Monitor
from ppo2.numerics.sharding import DataAxis
from ppo2.system.exits import EXIT_HOOKS, end
from ppo2.system.signals import SIGNAL_HOOKS

BEATS = 20
"""Signs of life sent per `heartbeat` seconds."""

COMPILING_STEPS = 2
"""First steps of an environment, in which programs may be compiled."""

T = TypeVar("T")


class Heartbeat:
    """The thread of a process that reports to the monitor, and ends the process when told to.

    Args:
        rank, size: index of the process, and number of processes.
        heartbeat: seconds without a sign of life after which a process is given up, and all end.

    Attributes:
        shows_tracebacks: True if the traceback of an error that ends all is shown.
        collectives, ticks: see `ProcessProgress`.
        pauses: number of reasons why this process may be slow; 0 if to stop is to hang.
    """

    def __init__(self, rank: int = 0, size: int = 1, heartbeat: float = 30.0) -> None:
        self.rank, self.size, self.heartbeat = rank, size, heartbeat
        self.shows_tracebacks = True
        self.collectives = self.ticks = 0
        self.pauses = 1
        self._lock = threading.Lock()
        self._heard = 0.0
        self._complete, self._alike, self._left = threading.Event(), threading.Event(), threading.Event()
        self._pid = os.getpid()
        self._monitor: Monitor | None = None
        self._first: ProcessLocation | None = None
        self._sock: socket.socket | None = None

    def listen(self, host: str) -> MonitorAddress:
        """In rank 0: starts the monitor, at any port of an interface. The others `join` it.

        Raises:
            OSError: there is no such interface here.
        """
        self._monitor = Monitor(self.size, self.heartbeat, beat=self.heartbeat / BEATS)
        address = self._monitor.listen(host)
        self._start(self._monitor.start())
        return address

    def join(self, address: MonitorAddress) -> None:
        """In the others: connects to the monitor."""
        self.heartbeat, self._first = address.heartbeat, address.location
        try:
            sock = socket.create_connection(address[:2], timeout=JOIN_SECONDS)
        except OSError as error:
            where = f"{address.host}, port {address.port}"
            end(last_words(self.rank, f"can't reach rank 0 at {where}: {error}. Ports must be open between them"))
        send(sock, {"rank": self.rank, "token": address.token, "location": ProcessLocation.here()})
        _delay_aborts()
        self._start(sock)

    def wait_for_all(self) -> None:
        """Waits until the monitor has heard of all processes; it ends them where it doesn't."""
        if self._monitor is not None:
            self._monitor.expect_all()
        self._complete.wait()

    def fail(self, words: str, status: int, *, is_secondary: bool, trace: str) -> bool:
        """Ends all processes, as this one can't go on. Returns True if all failed of the very same instead; and False
        at once where nobody watches (yet).

        Args:
            words, status, is_secondary: see `ProcessFailure`.
            trace: text that this process prints before it ends.
        """
        if not self._is_watched:
            return False
        self._alike.clear()

        def show_trace() -> None:
            os.write(2, trace.encode())

        EXIT_HOOKS.add(show_trace)
        self._send(failed=ProcessFailure(words, status, is_secondary, self.collectives, self.pauses > 0))
        if not self._alike.wait(self.heartbeat + 2 * ALIKE_SECONDS):
            end(last_words(self.rank, words), status)
        EXIT_HOOKS.discard(show_trace)
        return True

    def stopped(self, number: int) -> None:
        """Ends the other processes too where a signal ends this one at once."""
        if self._monitor is not None:
            self._monitor.end_others(128 + number)
        else:
            words = f"was stopped by {signal.Signals(number).name}"
            self._send(failed=ProcessFailure(words, 128 + number, False, self.collectives, False))

    def close(self) -> None:
        """Reports that this process needs no other any more, and waits until all processes have reported that."""
        if not self._is_watched:
            return
        self._send(left=True)
        self._left.wait()
        if self._monitor is not None:
            self._monitor.join()

    @property
    def _is_watched(self) -> bool:
        return self._sock is not None and self._pid == os.getpid()  # not in a forked child

    def _start(self, sock: socket.socket) -> None:
        sock.settimeout(None)  # silence is noticed by `_report`
        self._sock, self._heard = sock, time.monotonic()
        threading.Thread(target=self._follow_monitor, args=(sock,), daemon=True).start()
        threading.Thread(target=self._report, name="ppo2-heartbeat", daemon=True).start()

    def _follow_monitor(self, sock: socket.socket) -> None:
        """Executes the monitor's commands, and answers each message with the progress of this process."""
        with sock.makefile("rb") as lines:
            for message in receive(lines):
                self._heard = time.monotonic()
                if "end" in message:
                    end(None, int(message["end"]))
                if "complete" in message:
                    self._complete.set()
                if "alike" in message:
                    self._alike.set()
                if "left" in message:
                    self._left.set()
                    break
                self._send()
        sock.close()
        if not self._left.is_set():
            self._end_without_monitor(DIED)

    def _report(self) -> None:
        """Reports the progress of this process, and notices when the monitor is silent."""
        looked = self._heard
        while not self._left.wait(self.heartbeat / BEATS):
            self._send()
            now = time.monotonic()
            if now - looked > self.heartbeat / 2:  # this process was stopped, as all may have been
                self._heard = now
            looked = now
            if now - self._heard > self.heartbeat:
                if self._first is not None:
                    self._first.kill()
                self._end_without_monitor(f"hasn't been heard of for {self.heartbeat:g} s")

    def _end_without_monitor(self, words: str) -> NoReturn:
        end(last_words(0, words) if self.rank == 1 else None)  # of all others, one speaks

    def _send(self, **more: object) -> None:
        progress = ProcessProgress(self.collectives, self.ticks, self.pauses > 0)
        with self._lock:
            send(self._sock, {"progress": progress, **more})


_CURRENT = [Heartbeat()]


def current() -> Heartbeat:
    """The heartbeat of this process."""
    return _CURRENT[0]


def begin(heartbeat: Heartbeat) -> None:
    """Makes this the heartbeat of the process, until its end."""
    _CURRENT[0] = heartbeat
    atexit.register(heartbeat.close)  # before JAX's own end, which has less patience
    SIGNAL_HOOKS.add(heartbeat.stopped)


def at_collective(axis: DataAxis) -> None:
    """Notes that a program follows which all processes run together."""
    current().collectives += axis.processes > 1


def expect_progress() -> None:
    """Says that until `expect_pauses` this process does the same again and again: to stop is to hang."""
    current().pauses = 0


def expect_pauses() -> None:
    """Says that from now on this process may take any time, as compiling does."""
    current().pauses = 1


@contextlib.contextmanager
def allow_pause() -> Iterator[None]:
    """Context in which slowness is not a hang."""
    heartbeat = current()
    heartbeat.pauses += 1
    try:
        yield
    finally:
        heartbeat.pauses -= 1


def track_steps(steps: Iterable[T]) -> Iterator[T]:
    """The same steps of environments, each a sign of life; after the first ones, to stop in one is to hang."""
    heartbeat = current()
    before = heartbeat.pauses
    try:
        for count, step in enumerate(steps):
            heartbeat.ticks += 1
            if count == COMPILING_STEPS:
                heartbeat.pauses = 0
            yield step
    finally:
        heartbeat.pauses = before


def _delay_aborts() -> None:
    """Gives the heartbeat time to end this process as it should where rank 0 is gone, and JAX's runtime aborts.

    JAX has no switch for that, and Python's handlers don't run in an abort: so its handler is C's `sleep`, which takes
    the signal's number for 6 seconds. The abort goes on after it.
    """
    if sys.platform != "win32":
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))

"""Watching the processes of one job: where one dies, fails or hangs, all end, and one line says which and why.

JAX's own runtime notices a lost process late or by its own abrupt end, and a hanging one never. So every process has a
connection to a hub in rank 0 (hub.py), over which it tells now and then that it lives and how far it has come.
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
    MonitorAddress,
    ProcessFailure,
    ProcessLocation,
    ProcessProgress,
    lines,
    received,
    send,
)
from ppo2.distributed.monitor import ALIKE_SECONDS, JOIN_SECONDS, Monitor
from ppo2.numerics.sharding import DataAxis
from ppo2.system.exits import DIED, TRACEBACK, advised, end
from ppo2.system.signals import SIGNAL_HOOKS

LOOKS = 20
"""Beats in the time without one after which a process is given up."""

COMPILING = 2
"""Steps of an environment, from the first, in which programs may be compiled."""

T = TypeVar("T")


class Heartbeat:
    """The part of one process in the watch.

    Args:
        rank, size: which of how many.
        heartbeat: seconds without a sign after which a process is given up, and all end.

    Attributes:
        shows_tracebacks: whether the traceback of an error that ends all is shown.
    """

    def __init__(self, rank: int = 0, size: int = 1, heartbeat: float = 30.0) -> None:
        self.rank, self.size, self.heartbeat = rank, size, heartbeat
        self.shows_tracebacks = True
        self.collectives = self.ticks = 0
        self.pauses = 1
        self._lock = threading.Lock()
        self._complete, self._agreed = threading.Event(), threading.Event()
        self._pid = os.getpid()
        self._monitor: Monitor | None = None
        self._first: ProcessLocation | None = None
        self._to_monitor: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def progress(self) -> ProcessProgress:
        return ProcessProgress(self.collectives, self.ticks, self.pauses > 0)

    # --- the connection -------------------------------------------------------------------------------------------

    def listen(self, host: str) -> MonitorAddress:
        """In rank 0: waits for the other processes, at any port of an interface. Give it to their `join`.

        Raises:
            OSError: there is no such interface here.
        """
        self._monitor = Monitor(self.size, self.heartbeat, beat=self.heartbeat / LOOKS)
        address = self._monitor.listen(host)
        self._start(self._monitor.own_end())
        return address

    def join(self, address: MonitorAddress) -> None:
        """In the others: takes up the connection to rank 0."""
        self._first = address.place
        try:
            sock = socket.create_connection(address[:2], timeout=JOIN_SECONDS)
        except OSError as error:
            where = f"{address.host}, port {address.port}"
            end(advised(f"rank {self.rank} can't reach rank 0 at {where}: {error}. Ports must be open between them"))
        send(sock, {"rank": self.rank, "word": address.word, "place": ProcessLocation.here()})
        _on_abort()
        self._start(sock)

    def wait_for_all(self) -> None:
        """Until the hub has heard of all; it ends them where it doesn't."""
        if self._monitor is not None:
            self._monitor.expect_all()
        self._complete.wait()

    def _start(self, sock: socket.socket) -> None:
        self._to_monitor = sock
        self._thread = threading.Thread(target=self._report, args=(sock,), name="ppo2-heartbeat", daemon=True)
        self._thread.start()

    def _report(self, sock: socket.socket) -> None:
        """Tells of this process until all have left."""
        sock.settimeout(self.heartbeat / LOOKS)
        unread, heard, looked = b"", time.monotonic(), time.monotonic()
        while True:
            self._tell()
            given: bytes | None = None
            with contextlib.suppress(TimeoutError):
                given = received(sock)
            now = time.monotonic()
            if now - looked > self.heartbeat / 2:  # this process was stopped, as all may have been
                heard = now
            looked = now
            if given == b"":
                self._end_without_monitor(DIED)
            if given is None:
                if now - heard > self.heartbeat:
                    if self._first is not None:
                        self._first.kill()
                    self._end_without_monitor(f"hasn't been heard of for {self.heartbeat:g} s")
                continue
            heard = now
            said, unread = lines(unread + given)
            for one in said:
                if "end" in one:
                    end(None, int(one["end"]))
                if "complete" in one:
                    self._complete.set()
                if "alike" in one:
                    self._agreed.set()
                if "left" in one:
                    sock.close()
                    return

    def _end_without_monitor(self, why: str) -> NoReturn:
        end(advised(f"rank 0 {why}") if self.rank == 1 else None)  # of all others, one speaks

    def _tell(self, **more: object) -> None:
        with self._lock:
            send(self._to_monitor, {"progress": self.progress, **more})

    # --- the end --------------------------------------------------------------------------------------------------

    def fail(self, words: str, status: int, *, is_secondary: bool, trace: str) -> bool:
        """To be called where this process can't go on, and so none can: ends all, with a status. It only returns where
        all failed of the very same, which is true then; and at once where nobody watches (yet).

        Args:
            words, is_secondary: see `ProcessFailure`.
            trace: what this process says before it is ended.
        """
        if self._thread is None or self._pid != os.getpid():
            return False
        self._agreed.clear()
        TRACEBACK[:] = [trace]
        collectives, _, may_pause = self.progress
        self._tell(failed=ProcessFailure(words, status, is_secondary, collectives, may_pause))
        if not self._agreed.wait(self.heartbeat + 2 * ALIKE_SECONDS):
            end(advised(f"rank {self.rank} {words}"), status)
        TRACEBACK.clear()
        return True

    def stopped(self, number: int) -> None:
        """To be called where a signal ends this process at once; and so all."""
        if self._monitor is not None:
            self._monitor.leave(128 + number)
        elif self._thread is not None:
            words = f"was stopped by {signal.Signals(number).name}"
            count = self.collectives
            self._tell(failed=ProcessFailure(words, 128 + number, False, count, False))

    def close(self) -> None:
        """To be called where this process needs no other any more; waits until that is so of all."""
        if self._thread is None or self._pid != os.getpid():
            return
        self._tell(left=True)
        self._thread.join()
        if self._monitor is not None:
            self._monitor.join()


_CURRENT = [Heartbeat()]


def current() -> Heartbeat:
    """The guard of this process."""
    return _CURRENT[0]


def at_collective(axis: DataAxis) -> None:
    """To be called before a program that all processes run together."""
    if axis.processes > 1:
        current().collectives += 1


def expect_progress() -> None:
    """From now on, until `expect_pauses`, this process does the same again and again: to stop is to hang."""
    current().pauses = 0


def expect_pauses() -> None:
    """From now on what this process does may take any time, as compiling does."""
    current().pauses = 1


@contextlib.contextmanager
def allow_pause() -> Iterator[None]:
    """Context in which slowness is not a hang."""
    watch = current()
    watch.pauses += 1
    try:
        yield
    finally:
        watch.pauses -= 1


def track_steps(steps: Iterable[T]) -> Iterable[T]:
    """Steps of environments, each a sign of life; after the first ones, to stop in one is to hang."""
    return steps if current().size == 1 else _tracked(steps, current())


def _tracked(steps: Iterable[T], watch: Heartbeat) -> Iterator[T]:
    before = watch.pauses
    try:
        for count, step in enumerate(steps):
            watch.ticks += 1
            if count == COMPILING:
                watch.pauses = 0
            yield step
    finally:
        watch.pauses = before


def begin(guard: Heartbeat) -> None:
    """From now on, that is it."""
    _CURRENT[0] = guard
    atexit.register(guard.close)  # before JAX's own end, which has less patience
    SIGNAL_HOOKS.add(guard.stopped)


_HANDLERS: list[object] = []


def _on_abort() -> None:
    """JAX's runtime aborts the process where rank 0 is gone: gives the guard the time to end it as it should."""
    if sys.platform == "win32" or _HANDLERS:
        return

    def wait(_number: int) -> None:
        time.sleep(1.0)  # whoever aborted for another reason goes on to do so

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(wait)
    _HANDLERS.append(handler)
    set_handler = ctypes.CDLL(None).signal
    set_handler.argtypes = [ctypes.c_int, ctypes.c_void_p]
    abort = int(signal.SIGABRT)
    set_handler(abort, ctypes.cast(handler, ctypes.c_void_p))
    os.register_at_fork(after_in_child=lambda: set_handler(abort, None))  # which is SIG_DFL

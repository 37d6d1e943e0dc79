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
from typing import TypeVar

from ppo2.hub import (
    ALIKE_SECONDS,
    DIED,
    LAST_WORDS,
    Address,
    Failure,
    Hub,
    Progress,
    advised,
    end,
    lines,
    received,
    send,
)

LOOKS = 20
"""Beats in the time without one after which a process is given up."""

COMPILING = 2
"""Steps of an environment, from the first, in which programs may be compiled."""

T = TypeVar("T")


class Guard:
    """The part of one process in the watch.

    Args:
        rank, size: which of how many.
        heartbeat: seconds without a sign after which a process is given up, and all end.

    Attributes:
        shows_traces: whether the traceback of an error that ends all is shown.
    """

    def __init__(self, rank: int = 0, size: int = 1, heartbeat: float = 30.0) -> None:
        self.rank, self.size, self.heartbeat = rank, size, heartbeat
        self.shows_traces = True
        self._met = self._lived = 0
        self._patience = 1
        self._lock = threading.Lock()
        self._agreed = threading.Event()
        self._hub: Hub | None = None
        self._to_hub: socket.socket | None = None
        self._thread: threading.Thread | None = None

    # --- what the process tells -----------------------------------------------------------------------------------

    def meet(self) -> None:
        """Before anything that all processes do together."""
        self._met += 1

    def live(self) -> None:
        """Now and then while this process works by itself."""
        self._lived += 1

    def work(self) -> None:
        """From now on, until `rest`, this process is at what it does again and again: to stop there is to hang."""
        self._patience = 0

    def rest(self) -> None:
        """From now on what this process does may take any time, as compiling does."""
        self._patience = 1

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """What is done in it may take any time."""
        self._patience += 1
        try:
            yield
        finally:
            self._patience -= 1

    def stepping(self, steps: Iterable[T]) -> Iterable[T]:
        """Steps of environments, each a sign of life; after the first ones, to stop in one is to hang."""
        return steps if self.size == 1 else self._stepping(steps)

    def _stepping(self, steps: Iterable[T]) -> Iterator[T]:
        before = self._patience
        try:
            for count, step in enumerate(steps):
                self.live()
                if count == COMPILING:
                    self.work()
                yield step
        finally:
            self._patience = before

    @property
    def progress(self) -> Progress:
        return Progress(self._met, self._lived, self._patience > 0)

    # --- the connection -------------------------------------------------------------------------------------------

    def listen(self, host: str) -> Address:
        """In rank 0: waits for the other processes, at any port of an interface. Give it to their `join`.

        Raises:
            OSError: there is no such interface here.
        """
        self._hub = Hub(self.size, self.heartbeat, beat=self.heartbeat / LOOKS)
        address = self._hub.listen(host)
        self._start(self._hub.own_end())
        return address

    def join(self, address: Address) -> None:
        """In the others: takes up the connection to rank 0.

        Raises:
            OSError: it can't be reached.
        """
        sock = socket.create_connection(address[:2], timeout=self.heartbeat)
        send(sock, {"rank": self.rank, "word": address.word})
        _on_abort()
        self._start(sock)

    def _start(self, sock: socket.socket) -> None:
        self._to_hub = sock
        self._thread = threading.Thread(target=self._report, args=(sock,), name="ppo2-guard", daemon=True)
        self._thread.start()

    def _report(self, sock: socket.socket) -> None:
        """Tells of this process until all have left."""
        sock.settimeout(self.heartbeat / LOOKS)
        unread, heard = b"", time.monotonic()
        while True:
            self._tell({"progress": self.progress})
            given: bytes | None = None
            with contextlib.suppress(TimeoutError):
                given = received(sock)
            if given == b"":
                # of the others, the first one speaks
                end(advised(f"rank 0 {DIED}") if self.rank == 1 else None)
            if given is None:
                if time.monotonic() - heard > self.heartbeat:
                    end(advised(f"rank {self.rank} hasn't heard of rank 0 for {self.heartbeat:g} s"))
                continue
            heard = time.monotonic()
            said, unread = lines(unread + given)
            for one in said:
                if "end" in one:
                    end(None, int(one["end"]))
                if "alike" in one:
                    self._agreed.set()
                if "left" in one:
                    sock.close()
                    return

    def _tell(self, message: object) -> None:
        with self._lock:
            send(self._to_hub, message)

    # --- the end --------------------------------------------------------------------------------------------------

    def fail(self, failure: str, status: int, trace: str) -> None:
        """To be called where this process can't go on, and so none can: ends all, with a status. It only returns where
        all failed of the very same; and at once in a process by itself.

        Args:
            failure: what comes after "rank 1".
            trace: what this process says before it is ended.
        """
        if self._thread is None:
            return
        self._agreed.clear()
        LAST_WORDS[:] = [trace]
        met, _, patient = self.progress
        self._tell({"failed": Failure(failure, status, met, patient)})
        if not self._agreed.wait(self.heartbeat + 2 * ALIKE_SECONDS):
            end(advised(f"rank {self.rank} {failure}"), status)
        LAST_WORDS.clear()

    def close(self) -> None:
        """To be called where this process needs no other any more; waits until that is so of all."""
        if self._thread is not None:
            self._tell({"progress": self.progress, "left": True})
            self._thread.join()
        if self._hub is not None:
            self._hub.join()


_CURRENT = [Guard()]


def current() -> Guard:
    """The guard of this process."""
    return _CURRENT[0]


def begin(guard: Guard) -> None:
    """From now on, that is it."""
    _CURRENT[0] = guard
    atexit.register(guard.close)  # before JAX's own end, which has less patience


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

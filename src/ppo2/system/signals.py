"""Signals that stop training: after the update, or at once where nothing would be lost, or on the second one."""

import builtins
import contextlib
import functools
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Self

from ppo2.system.exits import end

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_SECONDS = 0.1
"""Time within which a signal that comes twice counts once: a scheduler, and a script that passes it on, may send it."""
HEAR_SECONDS = 0.5
"""Time for Python to hear of a signal that stops at once; it doesn't while a compiled program runs."""
SETUP_SECONDS = 5.0
"""The same for a first signal before anything was learned: as a rule a program is being compiled then."""
CLOSE_SECONDS = 1.0
"""Time for the listening thread to end."""
LEAVE_SECONDS = 5.0
"""Time for saving and closing environments after a signal that stops at once."""

SIGNAL_HOOKS: set[Callable[[int], object]] = set()
"""Functions called with the number of a signal that ends this process without Python's own ways."""


class Interrupted(KeyboardInterrupt):
    """Raised by a signal that stops at once; `StopSignals` turns it into the exception that the signal means.

    Never a SystemExit, which may be an environment's own failure, after which it is made anew.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopSignals:
    """Context in which SIGINT and SIGTERM are noted, for training to stop after the update; a second one stops at once.

    To stop at once is to raise `Interrupted`. Python's handlers don't run while a compiled program does, so a thread
    listens too. It ends the process with status 128 + number if the exception isn't raised in time, or the way out
    takes too long; but not in an interactive session, where a person has more to lose than this training.

    Handlers are installed in the main thread only, and put back on the way out; elsewhere nothing is noted.

    Attributes:
        received: the first signal; None so far.
        patient: False while the first signal stops at once too, as nothing was learned yet.
        is_inner: True inside of another such context, whose caller must hear of the signal too.
    """

    def __init__(self, *, patient: bool = True) -> None:
        self.received: int | None = None
        self.patient, self.is_inner = patient, False
        self.raised_at = math.inf
        self._received_at = math.inf
        self._before: dict[int, Any] = {}
        self._deferring = False
        self._due: int | None = None
        self._listener: _Listener | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self.is_inner = bool(_ENTERED)
            self._listener = _Listener(self)
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            _ENTERED.append(self)
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._listener is not None:
            _ENTERED.remove(self)
            self.put_back()
            self._listener.close()
        if isinstance(error, Interrupted):
            raise_for(error.number)

    def put_back(self) -> None:
        """Installs the handlers of before again."""
        for number, handler in self._before.items():
            if handler is not None:  # None: not installed from Python, and so not ours to put back
                signal.signal(number, handler)
        if self._listener is not None:
            self._listener.put_back()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Context of steps that belong together: a second signal is only obeyed at its end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._due is not None:
            self._raise(self._due)

    def _note(self, number: int, _frame: object) -> None:
        # Python calls once for several that came while it was busy; the listener has counted them.
        is_second = self._listener is not None and len(self._listener.times) > 1
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
        else:
            is_second |= not is_same(self.received, self._received_at, number)
        if self.raised_at < math.inf or (self.patient and not is_second):  # the way out shall not be broken off
            return
        if self._deferring and self.patient:
            self._due = number
        else:
            self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        self.raised_at = time.monotonic()
        raise Interrupted(number)


class _Listener:
    """A thread that hears of signals while Python's handlers can't run, and ends the process where it must.

    Attributes:
        times: `time.monotonic` of each signal that came.
    """

    def __init__(self, stop: StopSignals) -> None:
        self._stop = stop
        self.times: list[float] = []
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._inodes = {os.fstat(one.fileno()).st_ino for one in (self._reader, self._writer)}
        # The interpreter itself writes each signal's number here; whoever asked for that before still gets the others.
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="ppo2-signals", daemon=True)
        self._thread.start()

    def put_back(self) -> None:
        try:
            signal.set_wakeup_fd(self._before)
        except (ValueError, OSError):  # it was closed meanwhile
            signal.set_wakeup_fd(-1)

    def close(self) -> None:
        if self._is_ours(self._writer):
            with contextlib.suppress(OSError):
                self._writer.send(b"\0")
        self._thread.join(CLOSE_SECONDS)
        for one in (self._reader, self._writer):
            one.close() if self._is_ours(one) else one.detach()

    def _is_ours(self, one: socket.socket) -> bool:
        """False if an environment has closed the descriptor, which may be somebody else's file now."""
        try:
            return os.fstat(one.fileno()).st_ino in self._inodes
        except OSError:
            return False

    def _listen(self) -> None:
        last, is_patient = 0, is_interactive()
        while True:
            deadline = math.inf if is_patient else self._deadline()
            wait = deadline - time.monotonic()
            if wait <= 0:
                _end(last)
            try:
                self._reader.settimeout(None if deadline == math.inf else wait)
                numbers = self._reader.recv(64)
            except TimeoutError:
                continue
            except OSError:  # an environment has closed it
                return
            if not numbers:
                return
            for number in numbers:
                if number == 0:
                    return
                if number in SIGNALS:
                    if not self.times or not is_same(last, self.times[-1], number):
                        self.times.append(time.monotonic())
                    last = number
                elif self._before >= 0:
                    with contextlib.suppress(OSError):
                        os.write(self._before, bytes([number]))

    def _deadline(self) -> float:
        """The time at which the process is ended, as things stand."""
        stop, times = self._stop, self.times
        if len(times) > 2:
            return times[2]
        if times and stop.raised_at < math.inf:
            return stop.raised_at + LEAVE_SECONDS
        if len(times) == 2:
            return times[1] + HEAR_SECONDS
        return times[0] + SETUP_SECONDS if times and not stop.patient else math.inf


_ENTERED: list[StopSignals] = []


def _put_all_back() -> None:
    while _ENTERED:
        with contextlib.suppress(ValueError):
            _ENTERED.pop().put_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_put_all_back)  # a worker that Gymnasium forked has its signals for itself


def is_same(before: int, at: float, number: int) -> bool:
    """True if a signal that comes now is the one that came at a time of `time.monotonic`, passed on."""
    return number == before and time.monotonic() - at < SAME_SECONDS


def is_interactive() -> bool:
    """True if a person types at this interpreter, or runs cells of a notebook."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or hasattr(builtins, "__IPYTHON__")


def _end(number: int) -> NoReturn:
    words = f"ended at once by {signal.Signals(number).name}; checkpoints that were written are intact"
    end(words, 128 + number, *(functools.partial(tell, number) for tell in SIGNAL_HOOKS))


def raise_for(number: int) -> NoReturn:
    """Raises the exception that a signal means: KeyboardInterrupt for SIGINT, SystemExit (128 + number) for others."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt from None
    raise SystemExit(128 + number) from None


def signal_of(error: KeyboardInterrupt | SystemExit) -> int | None:
    """The signal for which `raise_for` raised an exception; None where the program itself called `sys.exit`."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return signal.SIGTERM if error.code == 128 + signal.SIGTERM else None

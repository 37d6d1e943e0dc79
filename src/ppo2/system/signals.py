"""Stopping on a signal: after the update, or at once where nothing would be lost by it, or where it comes twice."""

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

from ppo2.system.exits import EXIT_HOOKS

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_SECONDS = 0.1
"""Within which a signal is still the one before: a scheduler or a script that passes it on may send it twice."""
HEAR_SECONDS = 0.5
"""That Python has to hear of a signal which stops at once; it doesn't while a compiled program runs."""
SETUP_SECONDS = 5.0
"""The same for a first signal before anything was learned: as a rule a program is being compiled then."""
LEAVE_SECONDS = 5.0
"""That saving and closing environments may take after a signal which stops at once."""
LAST_SECONDS = 0.5
"""That the last acts may take."""

SIGNAL_HOOKS: set[Callable[[int], object]] = set()
"""Who is told of a signal that ends this process so."""


class Interrupted(KeyboardInterrupt):
    """Raised by a signal that stops at once; `StopSignals` makes of it what the signal means.

    No SystemExit, whatever the signal: that may be an environment's own, which is made anew then.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopSignals:
    """While entered, SIGINT and SIGTERM are noted for training to stop after the update; a second one stops at once.

    To stop at once is to raise `Interrupted`. Python's handlers don't run while a compiled program does, so a thread
    listens too: where the exception isn't raised in time, or what follows takes too long, it ends the process with
    status 128 + number. Not in an interactive session, where a person has more to lose than this training.

    Handlers are installed in the main thread only, and put back on the way out; elsewhere nothing is noted.

    Args:
        patient: False stops at once on the first signal as well: nothing was learned yet.

    Attributes:
        received: the first signal.
        patient: may be set once there is something to lose.
    """

    def __init__(self, *, patient: bool = True) -> None:
        self.received: int | None = None
        self.patient = patient
        self.raised_at = math.inf
        self._received_at = math.inf
        self._before: dict[int, Any] = {}
        self._deferring = False
        self._due: int | None = None
        self._listener: _Listener | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._listener = _Listener(self)
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            _note_forks()
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
        """The handlers as they were."""
        for number, handler in self._before.items():
            if handler is not None:  # None: not installed from Python, and so not ours to put back
                signal.signal(number, handler)
        if self._listener is not None:
            self._listener.put_back()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """What is done in it belongs together: a second signal is only obeyed at its end."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._due is not None:
            self._raise(self._due)

    def _note(self, number: int, _frame: object) -> None:
        # Python calls once for several that came while it was busy; the listener has counted them.
        counted = 0 if self._listener is None else self._listener.count
        is_second = counted > 1
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
        else:
            is_second |= not is_same(self.received, self._received_at, number)
        if self.raised_at < math.inf or (self.patient and not is_second):  # what was raised shall not be broken off
            return
        if self._deferring and self.patient:
            self._due = number
        else:
            self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        self.raised_at = time.monotonic()
        raise Interrupted(number)


class _Listener:
    """A thread that hears of signals while Python's handlers can't run, and ends the process where it must."""

    def __init__(self, stop: StopSignals) -> None:
        self._stop = stop
        self._ends = not _is_interactive()
        self._times: list[float] = []
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        # The interpreter itself writes each signal's number here; whoever asked for that before still gets the others.
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="ppo2-signals", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """How many of ours came."""
        return len(self._times)

    def put_back(self) -> None:
        try:
            signal.set_wakeup_fd(self._before)
        except (ValueError, OSError):  # it was closed meanwhile
            signal.set_wakeup_fd(-1)

    def close(self) -> None:
        self._writer.send(b"\0")
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _listen(self) -> None:
        last = 0
        while True:
            wait = self._deadline() - time.monotonic()
            if wait <= 0:
                _end(last)
            self._reader.settimeout(None if wait == math.inf else wait)
            try:
                numbers = self._reader.recv(64)
            except TimeoutError:
                continue
            for number in numbers:
                if number == 0:
                    return
                if number in SIGNALS:
                    if not self._times or not is_same(last, self._times[-1], number):
                        self._times.append(time.monotonic())
                    last = number
                elif self._before >= 0:
                    with contextlib.suppress(OSError):
                        os.write(self._before, bytes([number]))

    def _deadline(self) -> float:
        """When the process is ended, as things stand."""
        stop, times = self._stop, self._times
        if not times or not self._ends:
            return math.inf
        if len(times) > 2:
            return times[2]
        if stop.raised_at < math.inf:
            return stop.raised_at + LEAVE_SECONDS
        if len(times) == 2:
            return times[1] + HEAR_SECONDS
        return math.inf if stop.patient else times[0] + SETUP_SECONDS


_ENTERED: list[StopSignals] = []
_FORKS: list[bool] = []


def _note_forks() -> None:
    """From now on, a process that is forked off (such as a worker of Gymnasium's) has its signals for itself."""
    if not _FORKS and hasattr(os, "register_at_fork"):
        _FORKS.append(True)
        os.register_at_fork(after_in_child=_put_all_back)


def _put_all_back() -> None:
    while _ENTERED:
        with contextlib.suppress(ValueError):
            _ENTERED.pop().put_back()


def is_same(before: int, at: float, number: int) -> bool:
    """Whether a signal that comes now is the one that came before, at a time of `time.monotonic`, passed on."""
    return number == before and time.monotonic() - at < SAME_SECONDS


def _is_interactive() -> bool:
    """Whether a person types at this interpreter, or runs cells of a notebook."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or hasattr(builtins, "__IPYTHON__")


def _end(number: int) -> NoReturn:
    """Ends the process, whatever its main thread does."""
    last = threading.Thread(target=_act, args=(number,), daemon=True)  # a terminal may block for ever
    last.start()
    last.join(LAST_SECONDS)
    os._exit(128 + number)


def _act(number: int) -> None:
    words = f"ppo2: ended at once by {signal.Signals(number).name}; checkpoints that were written are intact\n"
    acts: list[Callable[[], object]] = [functools.partial(tell, number) for tell in SIGNAL_HOOKS]
    acts += [*EXIT_HOOKS, lambda: sys.stdout.flush(), lambda: os.write(2, words.encode())]
    for act in acts:
        with contextlib.suppress(Exception):
            act()


def raise_for(number: int) -> NoReturn:
    """The exception that a signal means: KeyboardInterrupt for SIGINT, SystemExit (128 + number) for others."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt from None
    raise SystemExit(128 + number) from None

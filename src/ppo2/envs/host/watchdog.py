"""Interruption of environments that hang in this very process, in whose place no other process can be put."""

import contextvars
import signal
import sys
import threading
import time
import traceback
import weakref
from types import FrameType
from typing import ClassVar, Optional

from ppo2.system.text import say_error

POLL_SECONDS = 0.5
"""Time between two looks at what is watched."""
SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)
"""The signal that interrupts: by default it does nothing. None on Windows, which has no such thing."""


class HungError(Exception):
    """Raised inside a step of an environment that takes too long."""


class Watchdog:
    """Context manager around steps of environments, each of which may take `timeout` seconds; a thread looks at them.

    A step that takes too long gets `HungError` raised in it by SIGURG, if it runs in the main thread and nobody else
    handles that signal: this ends waiting, sleeping and endless loops in Python. Elsewhere, and in compiled code, the
    hang is only reported.

    An exception in the trainer's own process is a heavy tool, but Python has no other way to get a thread out of a
    blocking call, and training must go on after a hang, also where no workers step.

    Attributes:
        current: list of one number, the index of the environment at work.
        busy: True while steps are watched.
    """

    hung: ClassVar[Optional["Watchdog"]] = None  # the one whose step the next signal interrupts

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.current = [0]
        self.busy = False
        self._steps, self._thread = 0, 0
        # Seconds are counted in looks at the same step, so that time in which the process was stopped doesn't count.
        self._seen, self._polls = (0, 0), 0
        self._reported = self.closed = False
        in_main_thread = threading.current_thread() is threading.main_thread()
        if SIGNAL and in_main_thread and signal.getsignal(SIGNAL) is signal.SIG_DFL:
            signal.signal(SIGNAL, _interrupt)  # for good: where nothing hangs it does nothing, as the default
        run = contextvars.copy_context().run  # as quiet as the call that steps
        threading.Thread(target=run, args=(_watch, weakref.ref(self)), name="ppo2-watchdog", daemon=True).start()

    def begin(self) -> None:
        """Begins to watch, until `busy` is set to False."""
        self._thread = threading.get_ident()
        self._steps += 1
        self.busy = True

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.busy = False

    @property
    def _is_same_step(self) -> bool:
        return self.busy and self._seen == (self._steps, self.current[0])

    def look(self) -> None:
        """Interrupts a step that takes too long, or reports it."""
        self._polls = self._polls + 1 if self._is_same_step else 0
        self._seen = (self._steps, self.current[0])
        excess = self._polls * POLL_SECONDS - self.timeout
        if excess <= 0:
            return
        is_main = self._thread == threading.main_thread().ident
        if SIGNAL and is_main and signal.getsignal(SIGNAL) is _interrupt:
            Watchdog.hung = self
            signal.pthread_kill(self._thread, SIGNAL)
        if not self._reported and excess > 2 * POLL_SECONDS:
            self._reported = True
            stack = "".join(traceback.format_stack(sys._current_frames().get(self._thread)))
            say_error(
                f"environment {self.current[0]} hung for more than {self.timeout:g} s in the process that trains, "
                f"which can't interrupt it. It is at:\n{stack}"
            )

    def raise_if_hung(self) -> None:
        """Raises HungError if the step that was seen is still at work."""
        if self._is_same_step:
            self._polls = 0  # what comes now, such as making the environment anew, has its own time
            raise HungError(f"hung for more than {self.timeout:g} s")


def _watch(of: "weakref.ref[Watchdog]") -> None:
    """Looks now and then, until the watchdog is closed or collected."""
    while (watchdog := of()) is not None and not watchdog.closed:
        watchdog.look()
        del watchdog
        time.sleep(POLL_SECONDS)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    hung, Watchdog.hung = Watchdog.hung, None
    if hung is not None:
        hung.raise_if_hung()

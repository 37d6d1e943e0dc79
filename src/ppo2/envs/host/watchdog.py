"""Interruption of environments that hang in this very process, in whose place no other process can be put."""

import signal
import sys
import threading
import time
import traceback
import weakref
from types import FrameType

POLL_SECONDS = 0.5
"""Time between two looks at what is watched."""
SIGNAL: signal.Signals | None = getattr(signal, "SIGURG", None)
"""The signal that interrupts: by default it does nothing. None on Windows, which has no such thing."""


class HungError(Exception):
    """Raised inside a step of an environment that takes too long."""


class StepWatch:
    """Context manager around steps of environments, each of which may take `timeout` seconds.

    Attributes:
        current: list of one number, the index of the environment at work.
        polls: how often the watchdog has seen this very step of this environment. Seconds are counted by these, so
            that time in which the whole process was stopped doesn't count.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.steps, self.current = 0, [0]
        self.busy, self.thread = False, 0
        self.seen, self.polls = (0, 0), 0
        self.reported = False

    def __enter__(self) -> None:
        self.thread = threading.get_ident()
        self.steps += 1
        self.busy = True

    def __exit__(self, *_: object) -> None:
        self.busy = False

    def look(self) -> float:
        """Seconds for which the environment at work has been seen at one step."""
        now = (self.steps, self.current[0])
        self.polls = self.polls + 1 if self.busy and self.seen == now else 0
        self.seen = now
        return self.polls * POLL_SECONDS


class Watchdog:
    """A thread that looks at steps now and then, and lives while there are any to look at.

    A step that takes too long gets `HungError` raised in it by SIGURG, if it runs in the main thread and nobody else
    handles that signal: this ends waiting, sleeping and endless loops in Python. Elsewhere, and in compiled code, the
    hang is only reported.

    An exception in the trainer's own process is a heavy tool, but Python has no other way to get a thread out of a
    blocking call, and training must go on after a hang, also where no workers step.
    """

    def __init__(self) -> None:
        self._watches: weakref.WeakSet[StepWatch] = weakref.WeakSet()
        self._lock = threading.RLock()  # an environment may be collected, and its watch removed, at any point
        self._thread: threading.Thread | None = None
        self._hung: StepWatch | None = None

    def add(self, watch: StepWatch) -> None:
        with self._lock:
            self._watches.add(watch)
            if SIGNAL and _in_main_thread() and signal.getsignal(SIGNAL) is signal.SIG_DFL:
                signal.signal(SIGNAL, self._interrupt)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ppo2-watchdog", daemon=True)
                self._thread.start()

    def remove(self, watch: StepWatch) -> None:
        with self._lock:
            self._watches.discard(watch)
            if SIGNAL and not self._watches and _in_main_thread() and self._is_installed():
                signal.signal(SIGNAL, signal.SIG_DFL)

    def _is_installed(self) -> bool:
        return SIGNAL is not None and signal.getsignal(SIGNAL) == self._interrupt

    def _run(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            with self._lock:
                if not self._watches:
                    self._thread = None
                    return
                watches = list(self._watches)
            for watch in watches:
                excess = watch.look() - watch.timeout
                if excess > 0:
                    self._end(watch, excess)

    def _end(self, watch: StepWatch, excess: float) -> None:
        if SIGNAL and watch.thread == threading.main_thread().ident and self._is_installed():
            self._hung = watch
            signal.pthread_kill(watch.thread, SIGNAL)
        if not watch.reported and excess > 2 * POLL_SECONDS:
            watch.reported = True
            stack = "".join(traceback.format_stack(sys._current_frames().get(watch.thread)))
            print(
                f"ppo2: environment {watch.current[0]} hung for more than {watch.timeout:g} s in the process that "
                f"trains, which can't interrupt it. It is at:\n{stack}",
                file=sys.stderr,
            )

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        hung, self._hung = self._hung, None
        if hung is not None and hung.busy and hung.seen == (hung.steps, hung.current[0]):
            hung.polls = 0  # what comes now, such as making the environment anew, has its own time
            raise HungError(f"hung for more than {hung.timeout:g} s")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


WATCHDOG = Watchdog()
"""One thread and one signal handler for all of a process; neither exists before something is watched."""

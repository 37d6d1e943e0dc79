"""Environments that hang in this very process: interrupted by a signal, as no other process can be put in its place."""

import signal
import sys
import threading
import time
import traceback
import weakref
from types import FrameType

LOOK_SECONDS = 0.5


class HungError(Exception):
    """Raised inside an environment's step that takes too long."""


class WatchedSteps:
    """Steps of environments, each of which may take so long.

    Args:
        timeout: seconds.

    Attributes:
        steps, place: how many steps of a group were begun, and in its first number which environment's turn it is.
        busy: whether one is under way, in `thread`.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.steps, self.place = 0, [0]
        self.busy, self.thread = False, 0
        self.seen, self.looks = (0, 0), 0
        self.told = False

    def begin(self) -> None:
        self.thread = threading.get_ident()
        self.steps += 1
        self.busy = True

    @property
    def seconds(self) -> float:
        """How long it has been seen at one environment; time in which this process was stopped isn't counted."""
        return self.looks * LOOK_SECONDS


class Watchdog:
    """Looks at steps now and then, from a thread that lives while there are any to look at.

    Where this process' main thread steps, and nobody else uses SIGURG (which does nothing by default), a step that
    takes too long gets `HungError`: that ends waiting, sleeping and endless loops in Python. Elsewhere, and in compiled
    code, it is only told of.
    """

    def __init__(self) -> None:
        self._all: weakref.WeakSet[WatchedSteps] = weakref.WeakSet()
        self._lock = threading.RLock()  # an environment may be collected, and unwatched, at any point
        self._thread: threading.Thread | None = None
        self._hung: WatchedSteps | None = None

    def watch(self, watched: WatchedSteps) -> None:
        with self._lock:
            self._all.add(watched)
            if (
                hasattr(signal, "SIGURG")
                and threading.current_thread() is threading.main_thread()
                and signal.getsignal(signal.SIGURG) is signal.SIG_DFL
            ):
                signal.signal(signal.SIGURG, self._interrupt)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="ppo2-watchdog", daemon=True)
                self._thread.start()

    def unwatch(self, watched: WatchedSteps) -> None:
        with self._lock:
            self._all.discard(watched)
            alone = not self._all and threading.current_thread() is threading.main_thread()
            if alone and hasattr(signal, "SIGURG") and signal.getsignal(signal.SIGURG) == self._interrupt:
                signal.signal(signal.SIGURG, signal.SIG_DFL)

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with self._lock:
                if not self._all:
                    self._thread = None
                    return
                every = list(self._all)
            for watched in every:
                now = (watched.steps, watched.place[0])
                watched.looks = watched.looks + 1 if watched.busy and watched.seen == now else 0
                watched.seen = now
                if watched.seconds > watched.timeout:
                    self._end(watched)

    def _end(self, watched: WatchedSteps) -> None:
        main = threading.main_thread().ident
        if watched.thread == main and hasattr(signal, "SIGURG") and signal.getsignal(signal.SIGURG) == self._interrupt:
            self._hung = watched
            signal.pthread_kill(watched.thread, signal.SIGURG)
        if not watched.told and watched.seconds > watched.timeout + 2 * LOOK_SECONDS:
            watched.told = True
            stack = "".join(traceback.format_stack(sys._current_frames().get(watched.thread)))
            print(
                f"ppo2: environment {watched.place[0]} hung for more than {watched.timeout:g} s in the process that "
                f"trains, which can't interrupt it. It is at:\n{stack}",
                file=sys.stderr,
            )

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        hung, self._hung = self._hung, None
        if hung is not None and hung.busy and hung.seen == (hung.steps, hung.place[0]):
            hung.looks = 0  # what comes now, such as making the environment again, has its own time
            raise HungError(f"hung for more than {hung.timeout:g} s")


WATCHDOG = Watchdog()
"""One thread and one signal handler do for all of a process; neither is there before something is watched."""

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


class Watched:
    """A step that may take so long; `steps` counts those begun, and `busy` is whether one is under way.

    Args:
        timeout: seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.steps = 0
        self.busy = False
        self.seen, self.since = 0, 0.0
        self.told = False


class Watchdog:
    """Looks at steps now and then, from a thread that lives while there are any to look at.

    Where this process' main thread steps, and nobody else uses SIGURG (which does nothing by default), a step that
    takes too long gets `HungError`: that ends waiting, sleeping and endless loops in Python. Elsewhere, and in compiled
    code, it is only told of.
    """

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._hung: Watched | None = None

    def watch(self, watched: Watched) -> None:
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

    def unwatch(self, watched: Watched) -> None:
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
            now = time.monotonic()
            for watched in every:
                if not watched.busy or watched.steps != watched.seen:
                    watched.seen, watched.since = watched.steps, now
                elif now - watched.since > watched.timeout:
                    self._end(watched)

    def _end(self, watched: Watched) -> None:
        main = threading.main_thread().ident
        if main is not None and hasattr(signal, "SIGURG") and signal.getsignal(signal.SIGURG) == self._interrupt:
            self._hung = watched
            signal.pthread_kill(main, signal.SIGURG)
        if not watched.told and time.monotonic() - watched.since > watched.timeout + 2 * LOOK_SECONDS:
            watched.told = True
            stack = "" if main is None else "".join(traceback.format_stack(sys._current_frames().get(main)))
            print(
                f"ppo2: an environment hung for more than {watched.timeout:g} s in the process that trains, which "
                f"can't interrupt it. The main thread is at:\n{stack}",
                file=sys.stderr,
            )

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        hung, self._hung = self._hung, None
        if hung is not None and hung.busy and hung.steps == hung.seen:
            raise HungError(f"hung for more than {hung.timeout:g} s")


WATCHDOG = Watchdog()
"""One thread and one signal handler do for all of a process; neither is there before something is watched."""

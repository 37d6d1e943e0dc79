"""Stopping on a signal, between two updates."""

import signal
import threading
from typing import Any, Self


class StopSignals:
    """While entered, SIGINT and SIGTERM are noted for training to stop after the update; a second one stops at once.

    Handlers are installed in the main thread only, and put back on the way out.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: not installed from Python, and so not ours to put back
                signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        if self.received is not None:
            raise_for(number)
        self.received = number


def raise_for(number: int) -> None:
    """The exception that a signal means: KeyboardInterrupt for SIGINT, SystemExit (128 + number) for others."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)

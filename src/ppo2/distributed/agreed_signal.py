"""The signal that all processes stop for."""

from typing import Any

import jax

from ppo2.distributed import collectives
from ppo2.system.signals import StopSignals


class AgreedSignal:
    """The first signal that came to any process, once all know of it, so that all stop after the same update.

    Attributes:
        stop: the signals of this process.
    """

    def __init__(self, stop: StopSignals) -> None:
        self.stop = stop
        self._signal: int | None = None

    def start(self) -> None:
        """Makes all processes stop together from now on; a process by itself may still stop at once."""
        self.stop.patient |= jax.process_count() > 1

    def all_gather(self, fact: Any) -> list[Any]:
        """`collectives.all_gather`, which also tells all of a signal that came."""
        gathered = collectives.all_gather([self.stop.received, fact])
        self._signal = next((signal for signal, _ in gathered if signal is not None), self._signal)
        return [fact for _, fact in gathered]

    @property
    def received(self) -> int | None:
        """The signal; None so far."""
        return self.stop.received if jax.process_count() == 1 else self._signal

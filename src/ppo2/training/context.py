"""Things that the parts of one `learn` share."""

import time
from dataclasses import dataclass
from pathlib import Path

from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.reporting.logger import Logger
from ppo2.system.signals import StopSignals
from ppo2.training.setup import Setup


@dataclass(frozen=True)
class Context:
    """Things that the parts of one `learn` share.

    Attributes:
        setup: model, environments and settings.
        run_dir: the directory to write files in; None in other processes than the first, and where nothing is written.
        logger: tells files and people.
        stop: the signals of this process.
        signal: the signal that all processes stop for.
        started: the instant (of `time.perf_counter`) of the start, as if there had been no resume.
    """

    setup: Setup
    run_dir: Path | None
    logger: Logger
    stop: StopSignals
    signal: AgreedSignal
    started: float

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.perf_counter() - self.started

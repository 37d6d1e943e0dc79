"""Checkpoints by wall time."""

import time

from ppo2.callbacks.base import Callback, Training, is_number


class CheckpointByTime(Callback):
    """Saves a checkpoint whenever so many minutes have passed since the last one that it saw, beside `save_interval`.

    Args:
        minutes: wall time between two; looks come after each update, on device environments about every second.
    """

    interval = None

    def __init__(self, minutes: float = 10.0) -> None:
        if not (is_number(minutes) and minutes > 0):
            raise ValueError(f"`minutes` (={minutes!r}) must be a number above 0.")
        self.minutes = minutes
        self._last = 0.0

    def on_start(self, training: Training) -> None:
        """Raises ValueError where training writes nothing."""
        if training.run_dir is None:
            raise ValueError("CheckpointByTime saves in `run_dir`, which is None: name a directory.")
        self._last = time.monotonic()

    def on_update(self, training: Training) -> None:
        if time.monotonic() - self._last >= 60 * self.minutes:
            training.save()
            self._last = time.monotonic()

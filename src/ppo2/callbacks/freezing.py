"""Freezing parts of a network."""

from collections.abc import Mapping
from typing import Any

from ppo2.agent.freezing import freezes_all, parts_to_freeze
from ppo2.algorithm.update import Parts
from ppo2.callbacks.base import Callback, Training


class Freeze(Callback):
    """Leaves parameters as they are while the others learn: bit for bit, with Adam's moments.

    Of the gradient's norm, which is logged and clipped, the frozen ones are no part. Statistics of observations
    (`normalize_obs`) are no parameters, and go on.

    Args:
        patterns: names of parameters or of what holds them, from any part of the path on, as in "trunk", "encoders/*",
            "layers/0" or "value_head"; `*` stands for anything. An error lists the names that there are.
        until: the update after which all learn; None: the last.

    Raises:
        ValueError, when training starts: a pattern fits no parameter, or all are frozen.
    """

    def __init__(self, *patterns: str, until: int | None = None) -> None:
        if not patterns or not all(type(pattern) is str and pattern for pattern in patterns):
            raise TypeError(f"`patterns` (={patterns!r}) must be names of parameters, as in Freeze('trunk').")
        if until is not None and (type(until) is not int or until < 1):
            raise ValueError(f"`until` (={until!r}) must be a number of updates, or None.")
        self.patterns, self.until, self.interval = patterns, until, until
        self._parts: Parts = ()

    def on_start(self, training: Training) -> None:
        names, parts = parts_to_freeze(training.model, self.patterns)
        self._parts = ()
        if not self._is_over(training):
            self._parts = parts
            training.model.frozen += parts
            if freezes_all(training.model):
                raise ValueError(
                    f"`patterns` (={self.patterns!r}) and those of the Freeze before fit all parameters together, so "
                    "that nothing would be learned: leave some out."
                )
            training.say(f"frozen    {', '.join(names)}")

    def on_update(self, training: Training) -> None:
        if self._parts and self._is_over(training):
            left = list(training.model.frozen)
            for part in self._parts:
                left.remove(part)  # once: another Freeze may have the same
            training.model.frozen = tuple(left)
            self._parts = ()
            training.say(f"update {training.update:,}: {', '.join(self.patterns)} learn from now on")

    def state_dict(self) -> Mapping[str, Any]:
        return {"patterns": list(self.patterns), "until": self.until}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError where the run froze other parameters so far."""
        before = (tuple(state["patterns"]), state["until"])
        if before != (self.patterns, self.until):
            raise ValueError(
                f"Freeze (={self.patterns!r}, until={self.until}): the run was begun with {before[0]!r}, "
                f"until={before[1]}: give the same, or begin a new run from its weights."
            )

    def _is_over(self, training: Training) -> bool:
        return self.until is not None and training.update >= self.until

"""The longest episode of an evaluation: where it is cut, and what is said of it."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ppo2.envs import AnyEnvs
from ppo2.envs.time_limit import time_limit
from ppo2.system.text import say_error
from ppo2.system.whole_numbers import is_whole

MAX_STEPS = 10_000
"""Steps after which an episode is cut unless the caller or the environment's own time limit allows more."""
PATIENCE_SECONDS = 30.0
"""Seconds without an end of an episode after which a line says so."""

PartialEpisodes: TypeAlias = Literal["count", "drop", "raise"]


class EpisodeEnd(NamedTuple):
    """An episode that is over: its environment's index here, return, length, and numbers of its last `info`.

    `partial`: it was cut.
    """

    env: int
    r: float
    length: int
    infos: Mapping[str, float] = {}
    partial: bool = False


def known_numbers(keys: Sequence[str], numbers: np.ndarray[Any, Any]) -> dict[str, float]:
    """The numbers of `info` that are there, by key."""
    return {key: value for key, value in zip(keys, numbers.tolist(), strict=False) if not math.isnan(value)}


def warn(text: str) -> None:
    """Prints a warning on standard error."""
    say_error(f"warning: {text}")


class EpisodeLimit:
    """The number of steps after which an evaluation cuts an episode, and an account of those that were cut.

    Args:
        env: environments to evaluate on, whose own time limit may be longer than MAX_STEPS.
        max_steps: see `evaluate`.
        partial: see `evaluate`.
        say: told when an episode grows long, and how many were cut.

    Attributes:
        steps: the number of steps.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        env: AnyEnvs,
        max_steps: int | None = None,
        partial: PartialEpisodes = "count",
        say: Callable[[str], None] = warn,
    ) -> None:
        if max_steps is not None:
            given: Any = max_steps
            if not is_whole(given) or given < 1:
                raise ValueError(f"`max_steps` (={max_steps!r}) must be a whole number of at least 1, or None.")
        if partial not in get_args(PartialEpisodes):
            known = ", ".join(map(repr, get_args(PartialEpisodes)))
            raise ValueError(f"`partial_episodes` (={partial!r}) must be one of {known}.")
        self.steps = max(MAX_STEPS, time_limit(env) or 0) if max_steps is None else int(max_steps)
        self._chosen, self._partial, self._say = max_steps is not None, partial, say
        self._last_end, self._has_looked_long, self._cut = time.monotonic(), False, 0

    def look(self, lengths: np.ndarray[Any, Any]) -> None:
        """Says once that the running episodes, of so many steps, are long, or take long."""
        if self._has_looked_long:
            return
        longest = int(lengths.max(initial=0))
        is_near = not self._chosen and 2 * longest >= self.steps
        if is_near or time.monotonic() - self._last_end > PATIENCE_SECONDS:
            self._has_looked_long = True
            self._say(f"an episode goes on after {longest:,} steps; it is cut after `max_steps` (={self.steps:,})")

    def counts(self, episode: EpisodeEnd) -> bool:
        """True if an episode belongs to the result.

        Raises:
            ValueError: it was cut, and the caller wants none of these.
        """
        if not episode.partial:
            self._last_end = time.monotonic()
            return True
        if self._partial == "raise":
            raise ValueError(
                f"an episode of environment {episode.env} did not end within `max_steps` (={self.steps:,}), and "
                "`partial_episodes` is 'raise'. Raise `max_steps`, or end it with a time limit."
            )
        self._cut += 1
        return self._partial == "count"

    def give_up(self, episodes: int) -> None:
        """Says that episodes are left out, as their environments can't be reset alone."""
        if episodes:
            self._say(
                f"{episodes} episodes are left out: this vector environment can't reset one of its "
                "environments alone (options['reset_mask'] of Gymnasium), after an episode was cut by `max_steps`"
            )

    def report(self) -> None:
        """Says how many episodes were cut, if any."""
        if self._cut:
            count = "an episode was" if self._cut == 1 else f"{self._cut} episodes were"
            how = "with returns so far" if self._partial == "count" else "not at all"
            self._say(
                f"{count} cut after `max_steps` (={self.steps:,}) and counted {how} (`partial_episodes`). If "
                "they never end, give the environment a time limit (gymnasium.wrappers.TimeLimit, ppo2.envs.TimeLimit)"
            )

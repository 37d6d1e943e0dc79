"""The actions of running episodes, for a resumed run to repeat."""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.runners.episodes import NDArray, steps_since_end


def kept_steps(steps: NDArray, limit: int) -> NDArray:
    """The number of actions that are kept of episodes so many steps old, (N,): all, or none beyond the limit."""
    return np.where((steps >= 0) & (steps <= limit), steps, 0)


class ActionLog(NamedTuple):
    """The actions of every environment in its running episode; never changed, so that an earlier log stays as it was.

    It keeps the arrays of whole rollouts, so that logging costs nothing in a step.

    Attributes:
        steps: (N,), steps of the running episodes so far.
        kept: actions (T, N, ...) of the last rollouts, as many as hold the running episodes.
        limit: steps of an episode beyond which its actions are no longer kept.
    """

    steps: NDArray
    kept: tuple[Any, ...]
    limit: int

    @classmethod
    def start(cls, nenvs: int, limit: int) -> "ActionLog":
        """The log before the first step."""
        return cls(np.zeros(nenvs, np.int64), (), limit)

    def with_rollout(self, actions: Any, ended: NDArray) -> "ActionLog":
        """The log after further steps: actions (T, N, ...), and where episodes ended, (T, N)."""
        steps = steps_since_end(ended, self.steps)
        kept = (*self.kept, jax.tree.map(lambda x: x[: len(ended)], actions))
        ends = list(itertools.accumulate(map(_length, kept)))
        spare = ends[-1] - int(kept_steps(steps, self.limit).max())
        return ActionLog(steps, kept[sum(end <= spare for end in ends) :], self.limit)

    def running(self, like: Any) -> Any:
        """The actions of all running episodes that are kept, one environment after another, (sum of steps, ...).

        Args:
            like: a tree of arrays (1, ...) of their dtypes.
        """
        counts = kept_steps(self.steps, self.limit)

        def concatenated(empty: NDArray, *parts: NDArray) -> NDArray:
            whole = np.concatenate(parts) if parts else empty[:0, None].repeat(len(counts), 1)
            return np.concatenate([whole[len(whole) - count :, env] for env, count in enumerate(counts)])

        return jax.tree.map(concatenated, like, *self.kept)

    def restored(self, steps: NDArray, actions: list[Any]) -> "ActionLog":
        """A log of episodes so many steps old, (N,), with the actions of each, (steps, ...); None: not kept."""
        given = {env: one for env, one in enumerate(actions) if one is not None}
        longest = max(map(_length, given.values()), default=0)

        def aligned(*parts: NDArray) -> NDArray:
            whole = np.zeros((longest, len(actions), *parts[0].shape[1:]), parts[0].dtype)
            for env, part in zip(given, parts, strict=True):
                whole[longest - len(part) :, env] = part
            return whole

        kept = (jax.tree.map(aligned, *given.values()),) if longest else ()
        return ActionLog(steps.astype(np.int64), kept, self.limit)


def _length(actions: Any) -> int:
    length: int = len(jax.tree.leaves(actions)[0])
    return length

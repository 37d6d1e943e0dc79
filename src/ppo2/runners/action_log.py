"""The actions of running episodes, for a resumed run to take again."""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

NDArray = np.ndarray[Any, Any]


class ActionLog(NamedTuple):
    """The actions of every environment in its running episode; never changed, so that an earlier log stays as it was.

    It keeps the arrays of whole rollouts, so that logging costs nothing in a step.

    Attributes:
        steps: (N,), steps of the running episodes so far.
        kept: actions (T, N, ...) of the last rollouts, as many as hold the running episodes.
        lengths: T of each of these.
        limit: steps of an episode beyond which its actions are no longer kept.
    """

    steps: NDArray
    kept: tuple[Any, ...]
    lengths: tuple[int, ...]
    limit: int

    @classmethod
    def start(cls, nenvs: int, limit: int) -> "ActionLog":
        """The log before the first step."""
        return cls(np.zeros(nenvs, np.int64), (), (), limit)

    def with_rollout(self, actions: Any, ended: NDArray) -> "ActionLog":
        """The log after further steps: actions (T, N, ...), and where episodes ended, (T, N)."""
        count = len(ended)
        steps = np.where(ended.any(axis=0), np.argmax(ended[::-1], axis=0), self.steps + count)
        kept, lengths = (*self.kept, jax.tree.map(lambda x: x[:count], actions)), (*self.lengths, count)
        spare = sum(lengths) - int(steps[steps <= self.limit].max(initial=0))
        gone = sum(passed <= spare for passed in itertools.accumulate(lengths))
        return ActionLog(steps, kept[gone:], lengths[gone:], self.limit)

    def running(self, like: Any) -> Any:
        """The actions of all running episodes that are kept, one environment after another, (sum of steps, ...).

        Args:
            like: a tree of arrays (1, ...) of their dtypes.
        """
        lengths = [steps if steps <= self.limit else 0 for steps in self.steps.tolist()]

        def joined(empty: NDArray, *parts: NDArray) -> NDArray:
            found = [empty[:0]]
            for env, wanted in enumerate(lengths):
                have = sum(self.lengths)
                for part, length in zip(parts, self.lengths, strict=True):
                    skipped = min(max(have - wanted, 0), length)  # before this episode
                    if skipped < length:
                        found.append(part[skipped:, env])
                    have -= length
            return np.concatenate(found)

        return jax.tree.map(joined, like, *self.kept)

    def restored(self, steps: NDArray, actions: list[Any]) -> "ActionLog":
        """A log of episodes so many steps old, (N,), with the actions of each, (steps, ...); None: not kept."""
        given = [one for one in actions if one is not None]
        longest = max(map(_length, given), default=0)

        def aligned(*parts: NDArray) -> NDArray:
            rows = iter(parts)
            whole = np.zeros((longest, len(actions), *parts[0].shape[1:]), parts[0].dtype)
            for env, one in enumerate(actions):
                if one is not None:
                    part = next(rows)
                    whole[longest - len(part) :, env] = part
            return whole

        kept = (jax.tree.map(aligned, *given),) if longest else ()
        return ActionLog(steps.astype(np.int64), kept, (longest,) if longest else (), self.limit)


def _length(actions: Any) -> int:
    length: int = len(jax.tree.leaves(actions)[0])
    return length

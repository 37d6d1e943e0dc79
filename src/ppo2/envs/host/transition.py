"""One step of all environments, or of a group, as a learner sees it."""

from typing import Any, NamedTuple

import numpy as np

from ppo2 import spaces
from ppo2.envs.host.buffers import EnvBuffers, from_leaves
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.episode_statistics import EpisodeEnds
from ppo2.envs.host.infos import FinalObs
from ppo2.envs.host.outcome import CUT, FAILED, TOLD


class Transition(NamedTuple):
    """One step of all environments.

    | field | shape | meaning |
    |---|---|---|
    | obs | (N, ...) | observations to act on next: after a reset, the new episode's first |
    | rewards, terminated, truncated | (N,) | as the environments gave them |
    | valid | (N,) | False for a step that only reset its environment (NEXT_STEP), or in which it failed |
    | episode_starts | (N,) | True if an episode starts with the next step; False where that only resets |
    | final_obs | by environment, or None | last observation of an episode that was truncated and reset |
    | ends | see `EpisodeEnds`, or None | what environments tell of their episodes; None: nothing |
    | is_plain | bool | True only if no episode ended, every step is valid, and environments tell of nothing |
    """

    obs: Any
    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    valid: NDArray
    episode_starts: NDArray
    final_obs: dict[int, Any] | None
    ends: EpisodeEnds | None = None
    is_plain: bool = False


class TransitionReader:
    """Reads the transitions of a `HostVectorEnv`, or of a group of it, from its buffers.

    Most steps end no episode: for all of these there is one transition, of views of the buffers.

    Args:
        space: observations of one environment.
    """

    def __init__(self, space: spaces.AnySpace, buffers: EnvBuffers) -> None:
        count = len(buffers.rewards)
        none, every = np.zeros(count, bool), np.ones(count, bool)
        is_array = not isinstance(space, spaces.COMPOSITE)
        self._buffers, self._final_obs = buffers, FinalObs(space)
        self._plain = Transition(
            obs=buffers.obs[0] if is_array else from_leaves(space, buffers.obs),
            rewards=buffers.rewards,
            terminated=none,
            truncated=none,
            valid=every,
            episode_starts=none,
            final_obs=None,
            is_plain=True,
        )

    def read(self, flags: int) -> Transition:
        """The step that was made last, given its flags (`SerialEnvs.step`)."""
        plain, buffers = self._plain, self._buffers
        if not flags:
            return plain
        terminated, truncated = buffers.terminated, buffers.truncated
        ends, valid, final_obs = None, plain.valid, None
        if flags & TOLD:
            lengths = buffers.lengths.copy()
            ends = EpisodeEnds(~np.isnan(lengths), buffers.returns.copy(), lengths, buffers.infos.copy())
        if flags & FAILED:
            valid = ~buffers.failed
            buffers.failed[:] = False
        if flags & CUT:
            final_obs = self._final_obs.read(buffers, truncated & ~terminated & valid)
        return Transition(
            obs=plain.obs,
            rewards=plain.rewards,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            episode_starts=terminated | truncated,
            final_obs=final_obs,
            ends=ends,
        )

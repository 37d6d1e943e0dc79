"""Buffers of one rollout on the host: observations, actions and outcomes, step by step."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import relative, relative_writer
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.episode_statistics import EpisodeEnds
from ppo2.envs.host.transition import Transition
from ppo2.runners.experience import Experience


class TruncatedObs(NamedTuple):
    """The observation that an episode was truncated at, by step of the rollout and environment.

    `recurrent_state` is a recurrent policy's before it; else None.
    """

    t: int
    env: int
    obs: Any
    recurrent_state: Any


def write(buffers: Any, at: Any, values: Any) -> None:
    """Writes a tree of arrays into a tree of buffers, at an index."""
    for buffer, value in zip(jax.tree.leaves(buffers), jax.tree.leaves(values), strict=True):
        buffer[at] = value


class RolloutBuffers:
    """Buffers of T steps of N environments; new ones for each rollout, as the arrays are kept.

    Args:
        origins: see `Normaliser.origins`, of the rollout's start.

    Attributes:
        experience: NumPy's arrays, T + 1 of observations, to be completed by `running_returns`, `gamma` and `lam`. As
            long as nothing else is written, steps are valid and end no episode.
        seconds: (T,), when each step ended.
        ends: statistics that environments give of their episodes, (T, N, ...).
        truncated_obs: observations at which episodes were truncated.
    """

    def __init__(
        self, model: Model, nsteps: int, nenvs: int, info_keys: int = 0, *, origins: PyTree[Any] = None
    ) -> None:
        shape, sequences = (nsteps, nenvs), model.sequences_per_env(nsteps, model.config.num_envs)
        self.experience = Experience(
            obs=spaces.zeros(model.observation_space, (nsteps + 1, nenvs)),
            actions=jax.tree.map(lambda x: np.zeros((*shape, *x.shape), x.dtype), model.distribution.action),
            rewards=np.zeros(shape),
            terminated=np.zeros(shape, bool),
            truncated=np.zeros(shape, bool),
            valid=np.ones(shape, bool),
            episode_starts=np.zeros(shape, bool) if model.is_recurrent else None,
            recurrent_state=jax.tree.map(
                lambda x: np.zeros((sequences, *x.shape), x.dtype), model.initial_state(nenvs)
            ),
            running_returns=None,
            gamma=None,
            lam=None,
        )
        self.seconds = np.zeros(nsteps)
        self.ends = EpisodeEnds(
            np.zeros(shape, bool), np.zeros(shape), np.zeros(shape), np.full((*shape, info_keys), np.nan)
        )
        self.truncated_obs: list[TruncatedObs] = []
        self._length = nsteps // sequences
        self._origins = origins

    def columns(self, rows: slice) -> "GroupBuffers":
        """The part of a group of environments."""
        return GroupBuffers(self, rows, self._origins, self._length)

    def episodes(self, returns: NDArray, lengths: NDArray) -> tuple[NDArray, NDArray]:
        """Returns and lengths of the episodes that ended: `returns` and `lengths` of the first steps, as we counted
        them, but the environments' own where these count.
        """
        steps, counts = len(returns), self.ends.counts
        if not counts.any():
            return returns, lengths
        counts, known = counts[:steps], self.ends.lengths[:steps]
        own = np.where(known > 0, known, 0).astype(int)
        return np.where(counts, self.ends.returns[:steps], returns), np.where(counts, own, lengths)

    def truncated_batches(self, space: spaces.AnySpace, size: int) -> Iterable[tuple[Any, Any, Any]]:
        """The observations at which episodes were truncated, in batches: index (t, env), `size` of them, their states.

        All are of one size, so that any number of observations takes one compiled program.
        """
        for first in range(0, len(self.truncated_obs), size):
            some = self.truncated_obs[first : first + size]
            obs = spaces.zeros(space, (size,))
            for i, one in enumerate(some):
                write(obs, i, relative(self._origins, one.obs))
            states = [one.recurrent_state for one in some]
            states += states[:1] * (size - len(some))
            index = ([one.t for one in some], [one.env for one in some])
            yield index, obs, jax.tree.map(lambda *leaves: np.stack(leaves), *states)


class GroupBuffers:
    """A group's part of a rollout's buffers, as views that take a step by its number alone.

    Args:
        whole: buffers of all environments.
        rows: indices of the group's environments.
        origins: see `RolloutBuffers`.
        length: steps of a sequence.
    """

    def __init__(self, whole: RolloutBuffers, rows: slice, origins: PyTree[Any], length: int) -> None:
        self._whole, self._first, self._origins, self._length = whole, rows.start, origins, length
        self._seconds = whole.seconds
        self._part: Experience = jax.tree.map(lambda x: x[:, rows], whole.experience)
        self._ends: EpisodeEnds = jax.tree.map(lambda x: x[:, rows], whole.ends)
        self._obs, self._actions, self._rewards = self._part.obs, self._part.actions, self._part.rewards
        self._is_array = isinstance(self._obs, np.ndarray)
        self._move = relative_writer(origins) if self._is_array and origins is not None else None

    def write_obs(self, t: int, obs: Any) -> Any:
        """Writes observations before a step. Returns them as the policy takes them, in the dtypes of the device."""
        if not self._is_array:
            write(self._obs, t, relative(self._origins, obs))
            return jax.tree.map(lambda x: x[t], self._obs)
        row = self._obs[t]
        if self._move is None:
            row[...] = obs
        else:
            self._move(row, obs)
        return row

    def write_recurrent(self, t: int, episode_starts: Any, recurrent_state: Any) -> None:
        """Writes a recurrent policy's episode starts, and its state before the first step of a sequence."""
        self._part.episode_starts[t] = episode_starts
        if t % self._length == 0:
            write(self._part.recurrent_state, t // self._length, recurrent_state)

    def write_actions(self, t: int, sampled: Any) -> Any:
        """Writes the actions of a step. Returns them as arrays of the host; waits for the device."""
        if isinstance(self._actions, np.ndarray):
            self._actions[t] = actions = np.asarray(sampled)
            return actions
        actions = jax.device_get(sampled)
        write(self._actions, t, actions)
        return actions

    def write_step(self, t: int, step: Transition, seconds: float, recurrent_state: Any) -> None:
        """Writes the outcomes of a step; `recurrent_state` is the policy's after it acted."""
        self._rewards[t] = step.rewards
        self._seconds[t] = seconds
        if step.is_plain:
            return
        part = self._part
        part.terminated[t], part.truncated[t], part.valid[t] = step.terminated, step.truncated, step.valid
        if step.ends is not None:
            write(self._ends, t, step.ends)
        for row, obs in (step.final_obs or {}).items():
            state = None
            if recurrent_state is not None:
                state = jax.tree.map(lambda x, row=row: np.asarray(x)[row], recurrent_state)
            some = TruncatedObs(t=t, env=self._first + row, obs=obs, recurrent_state=state)
            self._whole.truncated_obs.append(some)

    def write_rest(self, steps: int, obs: Any, recurrent_state: Any) -> None:
        """Writes what follows the last of `steps` steps, into all that is left of the rollout, which isn't valid."""
        write(self._obs, slice(steps, None), relative(self._origins, obs))
        self._part.valid[steps:] = False
        begun = -(-steps // self._length)
        write(self._part.recurrent_state, slice(begun, None), recurrent_state)

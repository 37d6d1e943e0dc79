"""Buffers of one rollout on the host: observations, actions and outcomes, step by step."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2 import spaces
from ppo2.distributions import ActionDistribution
from ppo2.envs.host.stepper import Transition
from ppo2.runners.episodes import Record

NDArray = np.ndarray[Any, Any]


class TruncatedObs(NamedTuple):
    """The observation that an episode was cut short at.

    Attributes:
        t, env: the step of the rollout and the environment.
        obs: the observation, of one environment.
        recurrent_state: state of a recurrent policy before it, for the environment's group; else None.
        row: the environment's row in its group.
    """

    t: int
    env: int
    obs: Any
    recurrent_state: Any
    row: int


def write(buffers: Any, at: Any, values: Any) -> None:
    """Writes a tree of arrays into a tree of buffers, at an index."""
    for buffer, value in zip(jax.tree.leaves(buffers), jax.tree.leaves(values), strict=True):
        buffer[at] = value


class RolloutBuffers:
    """Buffers of T steps of N environments; new ones for each rollout, as the arrays are kept.

    Attributes:
        obs: (T + 1, N, ...), the last ones those after the last step.
        actions: (T, N, ...), as the distribution gives them.
        record: rewards, ends and times.
        truncated_obs: observations at which episodes were cut short.
        episode_starts: (T, N); None for feed-forward policies.
        recurrent_states: states before the first step of every sequence, (N, ...) each, group by group.
        length: steps of a sequence; 0 for feed-forward policies.
    """

    def __init__(
        self,
        space: spaces.AnySpace,
        distribution: ActionDistribution,
        nsteps: int,
        nenvs: int,
        *,
        counts_episodes: bool,
        sequence_length: int,
    ) -> None:
        self.obs = spaces.zeros(space, (nsteps + 1, nenvs))
        self.actions = jax.tree.map(lambda x: np.zeros((nsteps, nenvs, *x.shape), x.dtype), distribution.action)
        self.record = Record.empty(nsteps, nenvs, counted=counts_episodes)
        self.truncated_obs: list[TruncatedObs] = []
        self.length = sequence_length
        self.episode_starts = np.zeros((nsteps, nenvs), bool) if sequence_length else None
        self.recurrent_states: list[list[Any]] = []

    def write_obs(self, t: int, rows: slice, obs: Any) -> Any:
        """Writes observations before a step. Returns them in the dtypes of the device."""
        if isinstance(self.obs, np.ndarray):
            self.obs[t, rows] = obs
            return self.obs[t, rows]
        write(self.obs, (t, rows), obs)
        return jax.tree.map(lambda buffer: buffer[t, rows], self.obs)

    def write_memory(self, t: int, rows: slice, episode_starts: Any, recurrent_state: Any) -> None:
        """Writes a recurrent policy's episode starts, and its state before the first step of a sequence."""
        if self.episode_starts is None:
            return
        self.episode_starts[t, rows] = episode_starts
        if t % self.length == 0:
            if rows.start == 0:
                self.recurrent_states.append([])
            self.recurrent_states[-1].append(recurrent_state)

    def write_actions(self, t: int, rows: slice, sampled: Any) -> Any:
        """Writes the actions of a step. Returns them as arrays of the host; waits for the device."""
        if isinstance(self.actions, np.ndarray):
            self.actions[t, rows] = actions = np.asarray(sampled)
            return actions
        actions = jax.device_get(sampled)
        write(self.actions, (t, rows), actions)
        return actions

    def write_step(self, t: int, rows: slice, step: Transition, seconds: float, recurrent_state: Any) -> None:
        """Writes the outcomes of a step.

        Args:
            recurrent_state: of the policy after it acted.
        """
        self.record.write(t, rows, step, seconds)
        if step.final_obs is not None:
            self.truncated_obs += [
                TruncatedObs(t=t, env=rows.start + row, obs=obs, recurrent_state=recurrent_state, row=row)
                for row, obs in step.final_obs.items()
            ]

    def write_rest(self, steps: int, rows: slice, obs: Any) -> None:
        """Writes the observations after the last of `steps` steps, for all that is left of the rollout."""
        write(self.obs, (slice(steps, None), rows), obs)

    def batches_of_truncated(self, space: spaces.AnySpace, size: int) -> Iterable[tuple[list[TruncatedObs], Any, Any]]:
        """The observations at which episodes were cut short, with their recurrent states, in batches of one size."""
        for first in range(0, len(self.truncated_obs), size):
            some = self.truncated_obs[first : first + size]
            obs = spaces.zeros(space, (size,))
            for i, one in enumerate(some):
                write(obs, i, one.obs)
            states = [jax.tree.map(lambda x, row=one.row: np.asarray(x)[row], one.recurrent_state) for one in some]
            states += [states[0]] * (size - len(states))
            yield some, obs, jax.tree.map(lambda *leaves: np.stack(leaves), *states)

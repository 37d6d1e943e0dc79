"""Collecting rollouts from host environments."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo2 import spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.distributed import heartbeat
from ppo2.envs.host.env_types import AnyVectorEnv
from ppo2.envs.host.stepper import Stepper
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose
from ppo2.runners.action_log import ActionLog
from ppo2.runners.episodes import Ended, Tally
from ppo2.runners.experience import Discounting, Experience
from ppo2.runners.host_program import act_program, complete_program, noise_program, values_program
from ppo2.runners.protocol import Seconds
from ppo2.runners.rollout_buffers import RolloutBuffers
from ppo2.runners.runner_state import RunnerState, new_episodes, other_actors, other_groups, restore, to_snapshot
from ppo2.runners.snapshot import Snapshot, facts_of

NDArray = np.ndarray[Any, Any]


@dataclass
class EnvGroup:
    """A group of environments, for which the policy acts at once.

    Attributes:
        rows: the environments.
        obs: observations to act on next.
        episode_starts: True where an episode starts with them; None for feed-forward policies.
        recurrent_state: state of a recurrent policy; else None.
    """

    rows: slice
    obs: Any
    episode_starts: Any
    recurrent_state: Any


class Runner:
    """Steps a vector environment with a model's policy.

    Args:
        env: Gymnasium vector environment, with any of its three autoreset modes; of several processes, this one's.
        model: acts; its config's seed seeds the environments.
        nsteps: steps of the vector environment in a rollout.
        gamma, lam: discount per step and GAE's lambda, passed on in the rollout.
        first: the global index of the first environment; None: by the process's rank, all having as many.

    Raises:
        ValueError: an unknown autoreset mode.
    """

    def __init__(
        self, *, env: AnyVectorEnv, model: Model, nsteps: int, gamma: float, lam: float, first: int | None = None
    ) -> None:
        self.env = env
        self.model = model
        self.nsteps = nsteps
        self.nenvs = env.num_envs
        self._first = sharding.first_environment(self.nenvs) if first is None else first
        self.axis = sharding.across_processes()
        self.gamma, self.lam = np.float32(gamma), np.float32(lam)
        self.rollouts = 0
        self.seconds = Seconds(0.0, 0.0)
        self._stepper = Stepper(env, model.distribution)
        self._epoch = time.perf_counter()
        self._groups: list[EnvGroup] = []
        self._running_returns = np.zeros(self.nenvs, np.float32)
        self._tally = Tally(self.nenvs)
        self._log = ActionLog.start(self.nenvs, self._stepper.host.replay_limit if self._stepper.host else 0)
        self._latest: RunnerState | None = None  # None in the middle of a rollout
        self._learned: RunnerState | None = None

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: stop after so many; the rest of the rollout is not valid.

        Raises:
            ValueError: the environment's observations are not of its space.
        """
        steps = self.nsteps if steps is None else steps
        if not self._groups:
            self._groups = self._reset_all()
        self._latest = None
        buffers = self._buffers()
        self._collect(buffers, steps)
        rollout = self._complete(buffers)
        self.rollouts += 1
        record = buffers.record
        self._running_returns = record.carry_returns(self._running_returns, float(self.gamma), steps)
        self._tally.add(record)
        self._log = self._log.with_rollout(buffers.actions, record.ended[:steps])
        self._latest = self._state()
        return rollout

    def _collect(self, buffers: RolloutBuffers, steps: int) -> None:
        """Steps all environments, and fills the buffers."""
        model, state, stepper, clock = self.model, self.model.state, self._stepper, time.perf_counter
        params, normaliser, act = state.params, state.normaliser, program(model, act_program)
        which = (np.uint32(self.rollouts), np.uint32(self._first))
        noise = np.asarray(program(model, noise_program)(state.key, *which, self.nsteps, self.nenvs))
        masked = spaces.is_masked(self.env.single_observation_space)
        acting, began = 0.0, clock()
        before = began
        # With two groups of environments the policy acts for one while workers step the other.
        for t in heartbeat.track_steps(range(steps + 1)):
            for number, group in enumerate(self._groups):
                rows = group.rows
                if t:
                    step = stepper.finish(number)
                    before = clock()
                    buffers.write_step(t - 1, rows, step, before - self._epoch, group.recurrent_state)
                    group.obs = step.obs
                    if group.episode_starts is not None:
                        group.episode_starts = step.episode_starts
                if t == steps:
                    continue
                obs = buffers.write_obs(t, rows, group.obs)
                if masked:
                    self._check_legal(obs, rows, t)
                buffers.write_memory(t, rows, group.episode_starts, group.recurrent_state)
                # Reading the actions waits for the device: one dispatch and one transfer back a step, nothing else.
                sampled, group.recurrent_state = act(
                    params, normaliser, obs, noise[t, rows], group.recurrent_state, group.episode_starts
                )
                actions = buffers.write_actions(t, rows, sampled)
                acting += clock() - before
                stepper.start(actions, number)
        for group in self._groups:
            # the environment's own memory, which it may use again
            group.obs, group.episode_starts = jax.tree.map(np.array, (group.obs, group.episode_starts))
            buffers.write_rest(steps, group.rows, group.obs)
        self.seconds = Seconds(act=acting, step=before - began - acting)

    def _check_legal(self, obs: Any, rows: slice, t: int) -> None:
        """Raises ValueError where a mask leaves no legal action."""
        illegal = np.zeros(self.nenvs, bool)
        illegal[rows] = self.model.distribution.none_legal(obs["action_mask"])
        when = f", at step {t} of rollout {self.rollouts}"
        spaces.check_legal(illegal & ~self._stepper.resetting, "`env`", when)

    def _reset_all(self) -> list[EnvGroup]:
        """Every group of environments at the start of its episodes."""
        obs = self._stepper.reset(self.model.config.seed, Purpose.ENV, start=self.rollouts, first=self._first)
        return self._grouped(obs, self._all_start(), self.model.initial_state(self.nenvs))

    def _grouped(self, obs: Any, episode_starts: Any, recurrent_state: Any) -> list[EnvGroup]:
        """The groups, given what all environments have."""
        return [
            EnvGroup(
                rows,
                *(jax.tree.map(lambda x, rows=rows: x[rows], part) for part in (obs, episode_starts, recurrent_state)),
            )
            for rows in self._stepper.groups
        ]

    def _all_start(self) -> NDArray | None:
        return np.ones(self.nenvs, bool) if self.model.is_recurrent else None

    def _buffers(self) -> RolloutBuffers:
        model = self.model
        return RolloutBuffers(
            model.observation_space,
            model.distribution,
            self.nsteps,
            self.nenvs,
            counts_episodes=self._stepper.counts_episodes,
            sequence_length=self.nsteps // model.sequences_per_env(self.nsteps, model.config.num_envs)
            if model.is_recurrent
            else 0,
        )

    def _complete(self, buffers: RolloutBuffers) -> Rollout:
        """The rollout, with the policy's figures of all that was seen and done."""
        model, state = self.model, self.model.state
        final_values = np.zeros((self.nsteps, self.nenvs), np.float32)
        bootstrapped = np.zeros(final_values.shape, bool)
        values = program(model, values_program)
        # In batches of one fixed shape, so that any number of them takes one compiled program.
        for some, obs, recurrent_state in buffers.batches_of_truncated(model.observation_space, self.nenvs):
            found = np.asarray(values(state.params, state.normaliser, obs, recurrent_state))
            for one, value in zip(some, found, strict=False):
                final_values[one.t, one.env], bootstrapped[one.t, one.env] = value, True
        record, last_state = buffers.record, self._recurrent_state()
        recurrent_states = [_concatenated(parts) for parts in buffers.recurrent_states]
        if buffers.length:
            recurrent_states += [last_state] * (self.nsteps // buffers.length - len(recurrent_states))
        rollout: Rollout = program(model, complete_program)(
            state.params,
            state.normaliser,
            Experience(
                obs=buffers.obs,
                actions=buffers.actions,
                rewards=record.rewards,
                terminated=record.terminated,
                truncated=record.truncated,
                valid=record.valid,
                episode_starts=buffers.episode_starts,
                recurrent_state=jax.tree.map(lambda *cuts: jnp.stack(cuts), *recurrent_states)
                if recurrent_states
                else None,
            ),
            last_state,
            final_values,
            bootstrapped,
            Discounting(running_returns=self._running_returns, gamma=self.gamma, lam=self.lam),
        )
        return rollout

    def _recurrent_state(self) -> Any:
        """The recurrent state of all environments."""
        return _concatenated([group.recurrent_state for group in self._groups])

    def _state(self) -> RunnerState:
        returns, lengths = self._tally.running
        return RunnerState(
            obs=_concatenated([group.obs for group in self._groups]),
            episode_starts=_concatenated([group.episode_starts for group in self._groups]),
            recurrent_state=self._recurrent_state(),
            position=self._stepper.host.position if self._stepper.host else None,
            running_returns=self._running_returns,
            returns=returns,
            lengths=lengths,
            log=self._log,
            rollouts=self.rollouts,
        )

    def mark_learned(self) -> None:
        self._learned = self._latest

    @property
    def layout(self) -> dict[str, int]:
        return {"groups": len(self._stepper.groups)}

    def snapshot(self) -> Snapshot:
        state, host = self._learned, self._stepper.host
        if state is None or host is None:
            return Snapshot({}, {"kind": "none"}, self.rollouts if state is None else state.rollouts)
        # environments save themselves as they are now, which may be later
        env_states = host.save_states() if state is self._latest else [None] * self.nenvs
        return to_snapshot(state, env_states, self.model.distribution, self.layout)

    def resume(self, saved: Checkpoint) -> list[str]:
        """See `RolloutRunner`.

        Raises:
            ValueError: the snapshot is of other environments.
        """
        facts, host = facts_of(saved), self._stepper.host
        if host is None:
            return ["`env` is a vector environment that can't be brought to where it was: it begins new episodes"]
        if not self.rollouts:
            return []  # nothing had begun
        if facts.get("kind") != "host":
            return [f"{saved.path} doesn't hold where the environments were: they begin new episodes"]
        returns, lengths = self._tally.running
        fresh = RunnerState(
            obs=host.obs,
            episode_starts=self._all_start(),
            recurrent_state=self.model.initial_state(self.nenvs),
            position=host.position,
            running_returns=self._running_returns,
            returns=returns,
            lengths=lengths,
            log=self._log,
            rollouts=self.rollouts,
        )
        state, lost = restore(saved, fresh, self._stepper, self.model.distribution)
        self._running_returns, self._log = state.running_returns, state.log
        self._tally.resume(state.returns, state.lengths)
        self._groups = self._grouped(state.obs, state.episode_starts, state.recurrent_state)
        self._learned = self._latest = self._state()
        return [
            *other_groups(facts, self.layout),
            *other_actors(facts, self.layout),
            *new_episodes({env + self._first: why for env, why in lost.items()}),
        ]

    def start_clock(self, seconds: float) -> None:
        """See `RolloutRunner`; without it, times count from the runner's birth."""
        self._epoch = seconds

    def ended(self) -> list[Ended]:
        return [Ended(step, episode._replace(env=episode.env + self._first)) for step, episode in self._tally.take()]


def _concatenated(parts: list[Any]) -> Any:
    """Arrays of groups of environments, (n, ...) each, as (N, ...)."""
    if len(parts) == 1:
        return parts[0]
    whole: Any = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    return whole

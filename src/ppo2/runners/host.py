"""Collecting rollouts from host environments."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ppo2 import spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.config.info_keys import end_keys
from ppo2.distributed import heartbeat
from ppo2.envs.host.env_types import AnyVectorEnv, NDArray
from ppo2.envs.host.stepper import Stepper
from ppo2.envs.host.vec_env import as_gymnasium
from ppo2.numerics import sharding
from ppo2.numerics.compilation import Aside, transfers_allowed
from ppo2.numerics.randomness import Purpose, host_environment_keys
from ppo2.numerics.sharding import ONE_DEVICE, REPLICATED
from ppo2.runners.acting import Actor
from ppo2.runners.action_log import ActionLog
from ppo2.runners.episodes import Ended, EpisodeQueue, RunningEpisodes, bring_into_float32
from ppo2.runners.experience import Experience
from ppo2.runners.host_program import complete_program, noise_program, step_noise_program, values_program
from ppo2.runners.protocol import Seconds
from ppo2.runners.rollout_buffers import GroupBuffers, RolloutBuffers
from ppo2.runners.runner_state import RunnerState, new_episodes, restore, to_snapshot
from ppo2.runners.snapshot import Snapshot, facts_of, layout_changes
from ppo2.system.garbage import collection_put_off


@dataclass
class EnvGroup:
    """A group of environments, for which the policy acts at once; see `RunnerState`."""

    rows: slice
    buffers: GroupBuffers
    obs: Any
    episode_starts: Any
    recurrent_state: Any


class Runner:
    """Steps a vector environment with a model's policy.

    Args:
        env: Gymnasium vector environment, with any of its three autoreset modes, or one of Stable-Baselines3 or
            SuperSuit; of several processes, this one's.
        model: acts; its config's seed seeds the environments.
        nsteps: steps of the vector environment in a rollout.
        gamma: discount per step, passed on in the rollout.
        lam: lambda of GAE, the same.
        first: the global index of the first environment; None: by the process's rank, all having as many.

    Raises:
        ValueError: an unknown autoreset mode.
    """

    def __init__(
        self, *, env: AnyVectorEnv, model: Model, nsteps: int, gamma: float, lam: float, first: int | None = None
    ) -> None:
        self.env = env = as_gymnasium(env)
        self.model = model
        self.nsteps = nsteps
        self.nenvs = env.num_envs
        self._first = sharding.first_environment(self.nenvs) if first is None else first
        self.axis = sharding.across_processes()
        self.gamma, self.lam = np.float32(gamma), np.float32(lam)
        self.rollouts = 0
        self.seconds = Seconds(act=0.0, step=0.0)
        self._stepper = Stepper(env, model.distribution, info_keys=model.config.info_keys)
        self.info_keys = self._stepper.info_keys
        self._end_keys = end_keys(self.info_keys)
        self._epoch = time.perf_counter()
        self._episodes = EpisodeQueue(self._first)
        self._latest: RunnerState | None = None  # None in the middle of a rollout
        self._learned: RunnerState | None = None
        self._acting: list[Actor] = []

    @transfers_allowed
    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: stop after so many; the rest of the rollout is not valid.

        Raises:
            ValueError: the environment's observations are not of its space.
        """
        steps = self.nsteps if steps is None else steps
        state = self._latest
        if state is None:
            seed = self.model.config.seed
            state = self._first_state(self._stepper.reset(seed, Purpose.ENV, start=self.rollouts, first=self._first))
        self._latest = None
        with self.model.acting():
            origins = self.model.acting_state().normaliser.origins()
            buffers = RolloutBuffers(self.model, self.nsteps, self.nenvs, len(self._end_keys), origins=origins)
            after = self._collect(buffers, state, steps)
        bring_into_float32(buffers.experience.rewards)
        seen = buffers.experience._replace(running_returns=state.episodes.discounted, gamma=self.gamma, lam=self.lam)
        with self.model.learning():
            rollout = self._complete(seen, buffers, after.recurrent_state)
        self.rollouts += 1
        ended = (seen.terminated | seen.truncated)[:steps]
        episodes, returns, lengths = state.episodes.with_steps(
            seen.rewards[:steps], ended, seen.valid[:steps], float(self.gamma)
        )
        returns, lengths = buffers.episodes(returns, lengths)
        infos = {key: buffers.ends.infos[..., k] for k, key in enumerate(self._end_keys)}
        self._episodes.add(returns, lengths, buffers.seconds, infos)
        self._latest = after._replace(
            position=self._stepper.host.position if self._stepper.host else None,
            episodes=episodes,
            log=state.log.with_rollout(seen.actions, ended),
            rollouts=self.rollouts,
        )
        return rollout

    def _first_state(self, obs: Any) -> RunnerState:
        """The state at the start of episodes, given their first observations, (N, ...)."""
        return RunnerState(
            obs=obs,
            episode_starts=np.ones(self.nenvs, bool) if self.model.is_recurrent else None,
            recurrent_state=self.model.initial_state(self.nenvs),
            position=self._stepper.host.position if self._stepper.host else None,
            episodes=RunningEpisodes.start(self.nenvs),
            log=ActionLog.start(self.nenvs, self._stepper.host.replay_limit if self._stepper.host else 0),
            rollouts=self.rollouts,
        )

    def _collect(self, buffers: RolloutBuffers, before: RunnerState, steps: int) -> RunnerState:
        """Steps all environments, and fills the buffers. Returns the state with what the policy acts on next."""
        policy_inputs = (before.obs, before.episode_starts, before.recurrent_state)
        groups = [
            EnvGroup(rows, buffers.columns(rows), *jax.tree.map(lambda x, rows=rows: x[rows], policy_inputs))
            for rows in self._stepper.groups
        ]
        model, stepper, clock = self.model, self._stepper, time.perf_counter
        epoch, is_recurrent = self._epoch, model.is_recurrent
        acts = [actor.begin(model.acting_state()) for actor in self._actors()]
        noise = self._noise()
        masked = spaces.is_masked(self.env.single_observation_space)
        acting, began = 0.0, clock()
        before_act = began
        # With two groups of environments the policy acts for one while workers step the other.
        for t in heartbeat.track_steps(range(steps + 1)):
            for number, group in enumerate(groups):
                own = group.buffers
                if t:
                    step = stepper.finish(number)
                    before_act = clock()
                    own.write_step(t - 1, step, before_act - epoch, group.recurrent_state)
                    group.obs = step.obs
                    if is_recurrent:
                        group.episode_starts = step.episode_starts
                if t == steps:
                    continue
                obs = own.write_obs(t, group.obs)
                if masked:
                    self._check_legal(obs, group.rows, t)
                if is_recurrent:
                    own.write_recurrent(t, group.episode_starts, group.recurrent_state)
                # Where XLA acts, reading the actions waits for the device: one dispatch and one transfer back a step.
                sampled, group.recurrent_state = acts[number](
                    obs, noise(t, group.rows), group.recurrent_state, group.episode_starts
                )
                actions = own.write_actions(t, sampled)
                acting += clock() - before_act
                stepper.start(actions, number)
        for group in groups:
            group.buffers.write_rest(steps, group.obs, group.recurrent_state)
        self.seconds = Seconds(act=acting, step=before_act - began - acting)
        # Copies, as the environment may use its memory again.
        obs, episode_starts, recurrent_state = jax.tree.map(
            lambda *parts: np.concatenate(parts),
            *((group.obs, group.episode_starts, group.recurrent_state) for group in groups),
        )
        return before._replace(obs=obs, episode_starts=episode_starts, recurrent_state=recurrent_state)

    def _actors(self) -> list[Actor]:
        """An actor for each group."""
        if not self._acting or self._acting[0].acts_with != self.model.acts_with:
            self._acting = [Actor(self.model, rows.stop - rows.start) for rows in self._stepper.groups]
        return self._acting

    @collection_put_off()
    def _noise(self) -> Callable[[int, slice], Any]:
        """The noise of this rollout's actions, by step and environments."""
        model, keys = self.model, self._noise_keys()
        whole = np.asarray(program(model, noise_program)(keys, self.nsteps))
        if whole.ndim > 1:
            return lambda t, rows: whole[t, rows]
        drawn = program(model, step_noise_program)
        by_rows: dict[int, Any] = {}  # the environments of each group
        return lambda t, rows: drawn(by_rows.setdefault(rows.start, keys[rows]), whole[t])

    def _noise_keys(self) -> Any:
        """A key for each environment's noise of this rollout."""
        envs = np.arange(self._first, self._first + self.nenvs, dtype=np.uint32)
        return host_environment_keys(self.model.acting_state().key, Purpose.ACT, self.rollouts, envs)

    def _check_legal(self, obs: Any, rows: slice, t: int) -> None:
        """Raises ValueError where a mask leaves no legal action."""
        illegal = np.zeros(self.nenvs, bool)
        illegal[rows] = self.model.distribution.none_legal(obs["action_mask"])
        when = f", at step {t} of rollout {self.rollouts}"
        spaces.check_legal(illegal & ~self._stepper.resetting, "`env`", when)

    @collection_put_off()  # the first call makes a program
    def _complete(self, seen: Experience, buffers: RolloutBuffers, last_state: Any) -> Rollout:
        """The rollout, with the policy's figures of all that was seen and done."""
        model, state = self.model, self.model.state
        final_values, bootstrapped = self._no_final_values()
        values = program(model, values_program)
        for index, obs, recurrent_state in buffers.truncated_batches(model.observation_space, self.nenvs):
            found = np.asarray(values(state.params, state.normaliser, obs, recurrent_state))
            final_values[index], bootstrapped[index] = found[: len(index[0])], True
        axis = model.completing_axis(self.nsteps, self.nenvs)
        known = (state.params, state.normaliser, _in_float32(seen), last_state, final_values, bootstrapped)
        completed = program(model, complete_program, axis)(*sharding.to_global(known, axis, REPLICATED))
        rollout: Rollout = sharding.to_local(completed, axis, REPLICATED)
        return rollout

    def _no_final_values(self) -> tuple[NDArray, NDArray]:
        """Values of truncated episodes' last observations, (T, N), and where there are some: nowhere."""
        return np.zeros((self.nsteps, self.nenvs), np.float32), np.zeros((self.nsteps, self.nenvs), bool)

    def prepare(self, aside: Aside) -> Any:
        """Has the programs that collect a rollout compiled. Returns the shapes of the rollout, or None where several
        devices complete it: they want arguments that are bound to them.
        """
        model, state, start = self.model, self.model.state, RunningEpisodes.start(self.nenvs)
        aside(program(model, noise_program), self._noise_keys(), self.nsteps)
        axis = model.completing_axis(self.nsteps, self.nenvs)
        if axis != ONE_DEVICE:
            return None
        seen = RolloutBuffers(model, self.nsteps, self.nenvs).experience
        seen = seen._replace(running_returns=start.discounted, gamma=self.gamma, lam=self.lam)
        last_state = model.initial_state(self.nenvs)
        known = (state.params, state.normaliser, _in_float32(seen), last_state)
        return aside(program(model, complete_program, axis), *known, *self._no_final_values())

    def mark_learned(self) -> None:
        self._learned = self._latest

    @property
    def layout(self) -> dict[str, int]:
        return {"groups": len(self._stepper.groups)}

    def snapshot(self) -> Snapshot:
        state, host = self._learned, self._stepper.host
        if state is None or host is None:
            return Snapshot({}, {"kind": "none"}, self.rollouts if state is None else state.rollouts)
        # Environments save their state as it is now, which may be later.
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
            return []  # the run hadn't begun
        if facts.get("kind") != "host":
            return [f"{saved.path} doesn't hold where the environments were: they begin new episodes"]
        fresh = self._first_state(host.obs)  # with the shapes and dtypes to expect
        state, lost = restore(saved, fresh, self._stepper, self.model.distribution)
        self._learned = self._latest = state
        lost = {env + self._first: why for env, why in lost.items()}
        return [*layout_changes(facts, self.layout), *new_episodes(lost)]

    def start_clock(self, seconds: float) -> None:
        """See `RolloutRunner`; without it, times count from when the runner was made."""
        self._epoch = seconds

    def ended(self) -> Ended:
        return self._episodes.take()


def _in_float32(seen: Experience) -> Experience:
    with np.errstate(all="ignore"):  # what 32 bits can't hold becomes infinite, which learning reports
        return seen._replace(rewards=seen.rewards.astype(np.float32))

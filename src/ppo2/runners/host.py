"""Collecting experience from host environments."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

from ppo2 import networks, spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.distributed import heartbeat
from ppo2.envs.host.env_types import AnyVectorEnv
from ppo2.envs.host.replay import EpisodePosition, EpisodeReplay
from ppo2.envs.host.stepper import Stepper
from ppo2.numerics import sharding
from ppo2.numerics.randomness import Purpose, environment_keys
from ppo2.runners.episodes import Ended, Record, Tally
from ppo2.runners.experience import Discounting, Experience, complete
from ppo2.runners.protocol import Seconds
from ppo2.runners.snapshot import ActionLog, Snapshot, facts_of, named, states_of, taken

NDArray = np.ndarray[Any, Any]


class Between(NamedTuple):
    """Where everything stood after a rollout, whatever the next one runs into.

    Attributes:
        obs, episode_starts, recurrent_state: of all environments; see `Turn`.
        position: of environments that can be brought back to where they were, else None.
        episodes: discounted returns of the running episodes, and what `Tally` has of them.
        log: their actions.
        rollouts: how many there were.
    """

    obs: Any
    episode_starts: Any
    recurrent_state: Any
    position: EpisodePosition | None
    episodes: tuple[NDArray, NDArray, NDArray]
    log: ActionLog
    rollouts: int


class Final(NamedTuple):
    """The observation that an episode was cut short at, and what a recurrent policy remembers by then.

    Attributes:
        first, env: of the environment's group, the first one; and which it is in the group, as in `recurrent_state`.
    """

    t: int
    first: int
    env: int
    obs: Any
    recurrent_state: Any


@dataclass
class Turn:
    """A group of environments, for which the policy acts at once.

    Attributes:
        rows: which they are.
        obs, episode_starts: what to act on next, and whether an episode begins with it (recurrent policies only).
        recurrent_state: what the policy remembers of them.
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
        self._stepper = Stepper(env, squash=model.distribution.squashes)
        self._clock = time.perf_counter
        self._epoch = self._clock()
        self._turns: list[Turn] = []
        self._running_returns = np.zeros(self.nenvs, np.float32)
        self._tally = Tally(self.nenvs)
        self._log = ActionLog.start(self.nenvs, self._stepper.replay_limit)
        self._now: Between | None = None  # None in the middle of a rollout
        self._settled: Between | None = None

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: stop after so many; the rest of the rollout is not valid.

        Raises:
            ValueError: the environment's observations are not of its space.
        """
        steps = self.nsteps if steps is None else steps
        if not self._turns:
            self._turns = self._begun()
        self._now = None
        model, state = self.model, self.model.state
        params, normaliser, act = state.params, state.normaliser, program(model, act_program)
        which = (np.uint32(self.rollouts), np.uint32(self._first))
        noise = np.asarray(program(model, noise_program)(state.key, *which, self.nsteps, self.nenvs))
        all_obs, all_actions, record = self._room()
        final: list[Final] = []
        is_recurrent = self.model.is_recurrent
        all_begins = np.zeros((self.nsteps, self.nenvs), bool) if is_recurrent else None
        length = self.nsteps // self.model.slices(self.nsteps) if is_recurrent else 0
        all_recurrent_states: list[list[Any]] = []
        masked = spaces.is_masked(self.env.single_observation_space)
        clock, epoch, stepper = self._clock, self._epoch, self._stepper
        acting, began = 0.0, clock()
        before = began
        # With two groups of environments the policy acts for one while workers step the other.
        for t in heartbeat.track_steps(range(steps + 1)):
            for number, turn in enumerate(self._turns):
                if t:
                    step = stepper.finish(number)
                    before = clock()
                    record.write(t - 1, turn.rows, step, before - epoch)
                    if step.final_obs is not None:
                        final += [
                            Final(t - 1, turn.rows.start, i, obs, turn.recurrent_state)
                            for i, obs in step.final_obs.items()
                        ]
                    turn.obs = step.obs
                    if all_begins is not None:
                        turn.episode_starts = step.episode_starts
                if t == steps:
                    continue
                seen = _filled(all_obs, (t, turn.rows), turn.obs)
                if masked:
                    no_legal_action = np.zeros(self.nenvs, bool)
                    no_legal_action[turn.rows] = self.model.distribution.none_legal(seen["action_mask"])
                    spaces.check_legal(
                        no_legal_action & ~stepper.resetting, "`env`", f", at step {t} of rollout {self.rollouts}"
                    )
                if all_begins is not None:
                    all_begins[t, turn.rows] = turn.episode_starts
                    if t % length == 0:
                        all_recurrent_states += [[]] if number == 0 else []
                        all_recurrent_states[-1].append(turn.recurrent_state)
                # Reading the actions waits for the device: one dispatch and one transfer back a step, nothing else.
                sampled, turn.recurrent_state = act(
                    params, normaliser, seen, noise[t, turn.rows], turn.recurrent_state, turn.episode_starts
                )
                actions = _keep(all_actions, (t, turn.rows), sampled)
                acting += clock() - before
                stepper.start(actions, number)
        for turn in self._turns:
            turn.obs, turn.episode_starts = jax.tree.map(
                np.array, (turn.obs, turn.episode_starts)
            )  # the environment's own memory
            rest = (slice(steps, None), turn.rows)
            jax.tree.map(lambda all_, last, rest=rest: all_.__setitem__(rest, last), all_obs, turn.obs)
        recurrent_states = [_joined(parts) for parts in all_recurrent_states]
        if is_recurrent:
            recurrent_states += [self._recurrent_state()] * (self.nsteps // length - len(recurrent_states))
        rollout = self._complete(all_obs, all_actions, record, final, all_begins, recurrent_states)
        self.rollouts += 1
        self._running_returns = record.carry_returns(self._running_returns, float(self.gamma), steps)
        self._tally.add(record)
        self._log = self._log.with_rollout(all_actions, record.ended[:steps])
        self._now = self._between()
        self.seconds = Seconds(act=acting, step=before - began - acting)
        return rollout

    def _begun(self) -> list["Turn"]:
        """Every group of environments at the start of its episodes."""
        obs = self._stepper.reset(self.model.config.seed, Purpose.ENV, start=self.rollouts, first=self._first)
        episode_starts = np.ones(self.nenvs, bool) if self.model.is_recurrent else None
        turns = []
        for rows in self._stepper.groups:
            own_obs, own_begins = jax.tree.map(lambda x, rows=rows: x[rows], (obs, episode_starts))
            turns.append(Turn(rows, own_obs, own_begins, self.model.initial_state(rows.stop - rows.start)))
        return turns

    def _between(self) -> Between:
        obs, episode_starts = (
            _joined([getattr(turn, name) for turn in self._turns]) for name in ("obs", "episode_starts")
        )
        episodes = (self._running_returns, *self._tally.running)
        return Between(
            obs, episode_starts, self._recurrent_state(), self._stepper.position, episodes, self._log, self.rollouts
        )

    def mark_learned(self) -> None:
        """The last rollout was learned from: it is after this one that a snapshot is."""
        self._settled = self._now

    @property
    def layout(self) -> dict[str, int]:
        """What the last bits of its figures depend on, beside the settings."""
        return {"groups": len(self._stepper.groups)}

    def snapshot(self) -> Snapshot:
        """The environments and their episodes when the model last learned, for `resume`."""
        at = self._settled
        if at is None or at.position is None:
            return Snapshot({}, {"kind": "none"}, self.rollouts if at is None else at.rollouts)
        # what they save themselves is of now, which may be later
        states = self._stepper.save_states() if at is self._now else [None] * self.nenvs
        arrays: dict[str, Any] = {
            "obs": at.obs,
            "memory": (at.recurrent_state, at.episode_starts),
            "position": at.position,
            "episodes": at.episodes,
            "steps": at.log.steps,
            "actions": at.log.running(self._action_like()),
        }
        tensors = {name: tensor for kind, tree in arrays.items() for name, tensor in named(kind, tree).items()}
        fields: list[list[str] | None] = []
        for env, state in enumerate(states):
            fields.append(None if state is None else sorted(state))
            if state is not None:
                tensors |= named(f"states/{env}", [state[key] for key in sorted(state)])
        return Snapshot(tensors, {"kind": "host", "states": fields, "limit": at.log.limit, **self.layout}, at.rollouts)

    def resume(self, saved: Checkpoint) -> list[str]:
        """Brings the environments to where a snapshot left them; what can't be as it was, in words.

        Every environment takes the actions of its running episode again, unless it saved its state itself; where that
        doesn't lead to the observation that it led to before, it begins a new episode.

        Raises:
            ValueError: they are other environments.
        """
        facts, position = facts_of(saved), self._stepper.position
        if position is None:
            return ["`env` is a vector environment that can't be brought to where it was: it begins new episodes"]
        if not self.rollouts:
            return []  # nothing had begun
        if facts.get("kind") != "host":
            return [f"{saved.path} doesn't hold where the environments were: they begin new episodes"]
        obs = taken(saved, "obs", self._stepper.obs)
        episode_starts = np.ones(self.nenvs, bool) if self.model.is_recurrent else None
        recurrent_state, episode_starts = taken(saved, "memory", (self.model.initial_state(self.nenvs), episode_starts))
        running_returns, *tally = taken(saved, "episodes", (self._running_returns, *self._tally.running))
        steps = taken(saved, "steps", self._log.steps)
        actions = self._saved_actions(saved, steps, facts)
        states = states_of(saved, facts, self.nenvs)
        replays = [
            EpisodeReplay(int(n), float(returns), None if one is None else self._stepper.leaves_of(one), state)
            for n, returns, one, state in zip(steps, tally[0], actions, states, strict=True)
        ]
        obs, lost = self._stepper.restore(EpisodePosition(*taken(saved, "position", tuple(position))), replays, obs)
        obs, gone = jax.tree.map(np.array, obs), sorted(lost)
        for array in (steps, running_returns, *tally):
            array[gone] = 0
        if episode_starts is not None:
            episode_starts[gone] = True
        self._running_returns = running_returns
        self._tally.resume(*tally)
        mine = [None if env in lost else one for env, one in enumerate(actions)]
        self._log = self._log.going_on(steps, mine)
        self._turns = [
            Turn(
                rows,
                *(jax.tree.map(lambda x, rows=rows: x[rows], part) for part in (obs, episode_starts, recurrent_state)),
            )
            for rows in self._stepper.groups
        ]
        self._settled = self._now = self._between()
        return [
            *_other_groups(facts, self.layout),
            *other_actors(facts, self.layout),
            *_new_episodes({env + self._first: why for env, why in lost.items()}),
        ]

    def _action_like(self) -> Any:
        """One action of the policy's, in a batch."""
        return jax.tree.map(lambda x: np.zeros((1, *x.shape), x.dtype), self.model.distribution.action)

    def _saved_actions(self, saved: Checkpoint, steps: NDArray, facts: Mapping[str, Any]) -> list[Any]:
        """The actions of each environment's episode; None where they weren't kept."""
        whole = taken(saved, "actions", self._action_like(), (-1,))
        limit = facts.get("limit")
        limit = limit if isinstance(limit, int) else 0
        kept = [n if 0 <= n <= limit else None for n in steps.tolist()]
        if sum(n or 0 for n in kept) != len(jax.tree.leaves(whole)[0]):
            raise ValueError(f"the checkpoint {saved.path} is damaged: its actions aren't as many as its steps.")
        actions, at = [], 0
        for n in kept:
            actions.append(None if n is None else jax.tree.map(lambda x, at=at, n=n: x[at : at + n], whole))
            at += n or 0
        return actions

    def _recurrent_state(self) -> Any:
        """What the policy remembers of all environments."""
        return _joined([turn.recurrent_state for turn in self._turns])

    def start_clock(self, seconds: float) -> None:
        """Sets the instant (of `time.perf_counter`) from which episodes' times count; else it is the runner's birth."""
        self._epoch = seconds

    def ended(self) -> list[Ended]:
        """The episodes that ended since the last call, in the order in which they ended."""
        return [Ended(step, episode._replace(env=episode.env + self._first)) for step, episode in self._tally.take()]

    def _room(self) -> tuple[NDArray, Any, Record]:
        """Where a rollout's observations (one more than steps), actions and outcomes go: new for each, as they stay."""
        space, distribution = self.model.observation_space, self.model.distribution
        obs = spaces.room(space, (self.nsteps + 1, self.nenvs))
        actions = jax.tree.map(lambda x: np.zeros((self.nsteps, self.nenvs, *x.shape), x.dtype), distribution.action)
        return obs, actions, Record.empty(self.nsteps, self.nenvs, counted=self._stepper.counts_episodes)

    def _complete(
        self,
        obs: Any,
        actions: Any,
        record: Record,
        final: list[Final],
        episode_starts: NDArray | None,
        recurrent_states: list[Any],
    ) -> Rollout:
        """Adds what the policy makes of it all."""
        state, nenvs = self.model.state, self.nenvs
        final_values = np.zeros((self.nsteps, nenvs), np.float32)
        bootstrapped = np.zeros(final_values.shape, bool)
        values = program(self.model, values_program)
        # In batches of one fixed shape, so that any number of them takes one compiled program.
        for first in range(0, len(final), nenvs):
            some = final[first : first + nenvs]
            batch = spaces.room(self.model.observation_space, (nenvs,))
            for i, one in enumerate(some):
                jax.tree.map(lambda all_, x, i=i: all_.__setitem__(i, x), batch, one.obs)
            recurrent_state = self._remembered(some)
            for one, value in zip(
                some, np.asarray(values(state.params, state.normaliser, batch, recurrent_state)), strict=False
            ):
                final_values[one.t, one.first + one.env], bootstrapped[one.t, one.first + one.env] = value, True
        rollout: Rollout = program(self.model, complete_program)(
            state.params,
            state.normaliser,
            Experience(
                obs,
                actions,
                record.rewards,
                record.terminated,
                record.truncated,
                record.valid,
                episode_starts,
                jax.tree.map(lambda *cuts: jnp.stack(cuts), *recurrent_states) if recurrent_states else None,
            ),
            self._recurrent_state(),
            final_values,
            bootstrapped,
            Discounting(self._running_returns, self.gamma, self.lam),
        )
        return rollout

    def _remembered(self, some: list[Final]) -> Any:
        """What a recurrent policy remembers at each of some observations, (N, ...); else None."""
        rows = [jax.tree.map(lambda x, env=one.env: np.asarray(x)[env], one.recurrent_state) for one in some]
        rows += [rows[0]] * (self.nenvs - len(rows))
        stacked: Any = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
        return stacked


def _other_groups(facts: Mapping[str, Any], layout: Mapping[str, int]) -> list[str]:
    before, now = facts.get("groups"), layout["groups"]
    if before == now:
        return []
    return [f"this run acted for {before} groups of environments, and now for {now}: it goes on to float tolerance"]


def other_actors(facts: Mapping[str, Any], layout: Mapping[str, int]) -> list[str]:
    """A line where other actors than now held the environments of a run; without any, this process is one."""
    before, now = facts.get("actors", 1), layout.get("actors", 1)
    if before == now:
        return []
    return [f"this run's environments were held by {before} actors, and now by {now}: it goes on to float tolerance"]


def _new_episodes(lost: Mapping[int, str]) -> list[str]:
    """A line for each reason why environments begin new episodes."""
    words = []
    for why in dict.fromkeys(lost.values()):
        who = [str(env) for env in sorted(lost) if lost[env] == why]
        begin = "environment {} begins a new episode" if len(who) == 1 else "environments {} begin new episodes"
        words.append(f"{begin.format(', '.join(who))}: {why}")
    return words


def _filled(room: Any, at: tuple[int, slice], obs: Any) -> Any:
    """Writes the observations of a step down, and gives what was written, in the dtypes of the device."""
    if isinstance(room, np.ndarray):
        room[at] = obs
        return room[at]
    jax.tree.map(lambda all_, now: all_.__setitem__(at, now), room, obs)
    return jax.tree.map(lambda all_: all_[at], room)


def _keep(room: Any, at: tuple[int, slice], sampled: Any) -> Any:
    """Writes the actions of a step down, and gives them back as arrays of the host; waits for the device."""
    if isinstance(room, np.ndarray):
        room[at] = actions = np.asarray(sampled)
        return actions
    actions = jax.device_get(sampled)
    jax.tree.map(lambda all_, now: all_.__setitem__(at, now), room, actions)
    return actions


def _joined(parts: list[Any]) -> Any:
    """What groups of environments have, (n, ...) each, as (N, ...)."""
    if len(parts) == 1:
        return parts[0]
    whole: Any = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    return whole


def act_program(model: Model) -> Callable[..., tuple[PyTree[Shaped[Array, "N ..."]], networks.State]]:
    """An action for each observation: nothing but what stepping the environments waits for."""

    def act(params: Float[Array, " P"], *of: Any) -> tuple[PyTree[Shaped[Array, "N ..."]], networks.State]:
        return model.policy_of(params).act(*of)

    return jax.jit(act)


def noise_program(model: Model) -> Callable[..., Float[Array, "T N p"]]:
    """`Model.acting_noise`."""

    def noise(
        key: PRNGKeyArray, rollout: Int[Array, ""], first: Int[Array, ""], steps: int, nenvs: int
    ) -> Float[Array, "T N p"]:
        indices = first + jnp.arange(nenvs, dtype=jnp.uint32)
        return model.acting_noise(environment_keys(key, [Purpose.ACT], rollout, indices)[0], steps)

    return jax.jit(noise, static_argnums=(3, 4))


def values_program(model: Model) -> Callable[..., Float[Array, " N"]]:
    """V of a batch of observations."""

    def final_values(params: Float[Array, " P"], *of: Any) -> Float[Array, " N"]:
        return model.policy_of(params)(*of).values

    return jax.jit(final_values)


def complete_program(model: Model) -> Callable[..., Rollout]:
    """`complete`, for observations (T + 1, N, ...) of which the last are what comes next, seen with that memory."""

    def completed(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        experience: Experience,
        recurrent_state: networks.State,
        final_values: Float[Array, "T N"],
        bootstrapped: Bool[Array, "T N"],
        discounting: Discounting,
    ) -> Rollout:
        obs = experience.obs
        # after the last step comes what the last observation is worth, unless an episode was cut short there
        coming = jax.tree.map(lambda x: x[-1], obs)
        last = model.policy_of(params)(normaliser, coming, recurrent_state).values
        final_values = final_values.at[-1].set(jnp.where(bootstrapped[-1], final_values[-1], last))
        bootstrapped = bootstrapped.at[-1].set(True)
        whole = experience._replace(obs=jax.tree.map(lambda x: x[:-1], obs))
        return complete(model, params, normaliser, whole, final_values, bootstrapped, discounting)

    return jax.jit(completed)

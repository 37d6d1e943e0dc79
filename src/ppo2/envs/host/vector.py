"""A Gymnasium vector environment whose environments are stepped by this process and workers beside it, if any."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ppo2 import spaces
from ppo2.config.info_keys import end_keys
from ppo2.envs.host import contract
from ppo2.envs.host.buffers import EnvBuffers, from_leaves
from ppo2.envs.host.env_types import AnyEnv, Factory, NDArray, traits_of
from ppo2.envs.host.episode_statistics import EPISODE, EpisodeEnds
from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.process_worker import ProcessWorker
from ppo2.envs.host.replay import REPLAY_LIMIT, UNSEEDED, EpisodePosition, EpisodeReplay, State
from ppo2.envs.host.serial_envs import ENDED, TOLD
from ppo2.envs.host.worker_pool import WorkerPool, split_evenly

StepResult: TypeAlias = tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]


class HostVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector environment with SAME_STEP autoreset, stepped over shared memory by this process and workers beside it.

    Every episode is reset with a seed of its own, so that environments do the same whichever process they are in; every
    observation is checked against the declared space, and an error names the environment.

    `infos` holds `final_obs` where episodes ended; the entries that were asked for (NaN: none); `episode`, as
    Gymnasium's RecordEpisodeStatistics gives it, of environments that count episodes themselves (`EpisodeReader`); and
    `failed` where a step was no experience because its environment raised, hung or lost its process; it has begun anew
    then, as after a truncation.

    Args:
        factories: each makes one environment; to workers they travel by cloudpickle.
        workers: number of processes besides this one.
        groups: 1 or 2, so that one can be stepped (`start`, `finish`) while something else is done with the other.
            With 2 and workers, this process steps none.
        copy: True returns arrays that stay as they are; False those that the next step overwrites.
        env_timeout: seconds that a step or reset of one environment may take. Its worker is replaced then; in this
            process it is interrupted, if it can be (see `Watchdog`).
        info_keys: entries of `info`, numbers, to hand on.
        owned: True makes an environment that failed anew and closes all in the end; False leaves the user's own open.
        replay_limit: steps of an episode up to which a resumed run brings it back by its actions.

    Attributes:
        groups: indices of each group's environments.
        info_keys: the argument.
        traits: traits of the first environment's factory.
        max_episode_steps: steps after which every episode is truncated, where that is known; else None.
        failures: reports failures and raises when there are too many.

    Raises:
        ValueError: environments of different spaces, or an argument that doesn't fit.
        TypeError: a space that isn't supported.
        EnvironmentFailureError (`step`): environments failed too often (see `FailureLog`).
    """

    def __init__(
        self,
        factories: Sequence[Factory],
        *,
        workers: int = 0,
        groups: int = 1,
        copy: bool = True,
        env_timeout: float = 60.0,
        info_keys: Sequence[str] = (),
        owned: bool = True,
        replay_limit: int = REPLAY_LIMIT,
    ) -> None:
        self.num_envs = len(factories)
        _check_arguments(self.num_envs, workers, groups, env_timeout, info_keys, replay_limit)
        self.copy, self.replay_limit, self.info_keys = copy, int(replay_limit), tuple(info_keys)
        self.groups = split_evenly(slice(0, self.num_envs), groups)
        self._flags = [0] * groups
        self.traits = traits_of(factories[0])
        self.failures = FailureLog()
        self._steps = 0
        self._pool = pool = WorkerPool(
            factories, self.groups, workers, timeout=env_timeout, info_keys=self.info_keys, owned=owned
        )
        self.buffers = pool.buffers
        self._can_step = False
        # isinstance of Gymnasium's Tuple or Dict takes a microsecond
        self._obs_is_array, self._action_is_array = (not isinstance(space, spaces.COMPOSITE) for space in pool.spaces)
        self.single_observation_space, self.single_action_space = pool.spaces
        self.observation_space, self.action_space = (batch_space(space, self.num_envs) for space in pool.spaces)
        self.metadata = {**pool.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode, self.max_episode_steps = pool.render_mode, pool.max_episode_steps

    @property
    def stepped_by(self) -> str:
        """Words that say which processes step the environments."""
        count = sum(isinstance(worker, ProcessWorker) for worker in self._pool.workers)
        here = ["this process"] if self.envs else []
        workers = [f"{count} worker{'s' if count > 1 else ''}"] if count else []
        return " and ".join(here + workers) + (", half by half" if len(self.groups) > 1 else "")

    @property
    def envs(self) -> list[AnyEnv]:
        """Environments that this process steps."""
        return self._pool.local_envs

    # --- episodes ---

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all; `seed` is one for each, or one number from which they count up, as in Gymnasium.

        With options["reset_mask"], (N,) of bool, only those where it is True, each for its next episode.
        """
        options = dict(options or {})
        mask = _checked_mask(options.pop("reset_mask"), self.num_envs) if "reset_mask" in options else None
        if mask is not None and not self._can_step:
            self._check_open()
            raise ResetNeeded("call reset() without a `reset_mask` first: these environments have not begun.")
        self._make_ready()
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"`seed` has {len(seed)} numbers for {self.num_envs} environments; give one for each.")
        contract.check_seeds(seed)
        seeds = np.array([UNSEEDED if one is None else int(one) for one in seed])
        if mask is None:
            self.buffers.seeds[:] = seeds
            self._pool.ask("reset", lambda _: options or None)
        else:
            renewed = mask & (seeds != UNSEEDED)
            self.buffers.seeds[renewed], self.buffers.episodes[renewed] = seeds[renewed], -1
            self._pool.ask("reset_some", lambda rows: (mask[rows], options or None))
        return self._begin(), {}

    def save_states(self) -> list[State | None]:
        """States of the environments that can save them (see `SavableEnv`); None for the others."""
        states: list[State | None] = [None] * self.num_envs
        for first, some in self._pool.ask("save_states", lambda _: None).items():
            states[first : first + len(some)] = some
        return states

    def restore(
        self, position: EpisodePosition, replays: Sequence[EpisodeReplay], obs: Any
    ) -> tuple[Any, dict[int, str]]:
        """Brings all environments to their places in episodes; those that can't be brought there begin their next.

        Args:
            position: their seeds and the numbers of their episodes.
            replays: directions to each one's place in its episode.
            obs: (N, ...), the observations there.

        Returns:
            The observations to go on from, and the reasons of environments that couldn't be brought to their places.
        """
        self._make_ready()
        self.buffers.seeds[:], self.buffers.episodes[:] = position
        for leaf, given in zip(self.buffers.obs, spaces.leaves(self.single_observation_space, obs), strict=True):
            leaf[:] = given
        patience = max(1.0, *(replay.steps for replay in replays))
        answers = self._pool.ask("restore", lambda rows: replays[rows], patience)
        return self._begin(), {env: reason for some in answers.values() for env, reason in some.items()}

    @property
    def position(self) -> EpisodePosition:
        """Place of the environments in their sequences of episodes, for `restore`."""
        return EpisodePosition(self.buffers.seeds.copy(), self.buffers.episodes.copy())

    @property
    def obs(self) -> Any:
        """The last observations, (N, ...)."""
        return self._obs_of(self.buffers)

    def _make_ready(self) -> None:
        self._check_open()
        self._can_step = False
        self._pool.make_ready()

    def _begin(self) -> Any:
        """Observations to begin with, now that all environments can be stepped."""
        self.buffers.failed[:] = False
        self._can_step = True
        return self.obs

    # --- steps ---

    def step(self, actions: Any) -> StepResult:
        """One action for each environment: a batch of the action space, or a list of actions."""
        self._write_actions(self.buffers, actions)
        for group in range(len(self.groups)):
            self._pool.start(group)
        for group in range(len(self.groups)):
            self._finish(group)
        return self._result(self.buffers, self._flags_of(None))

    def start(self, actions: Any, group: int = 0) -> None:
        """Starts a step of a group, with an action for each of its environments; `finish` must follow.

        Raises:
            gymnasium.error.ResetNeeded: the environments were not reset, or a step before was broken off by an error.
        """
        self._write_actions(self._pool.group_buffers[group], actions)
        self._pool.start(group)

    def _write_actions(self, buffers: EnvBuffers, actions: Any) -> None:
        """Writes actions into the buffers of all environments or of a group, which must be ready for a step."""
        if not self._can_step:
            self._check_open()
            raise ResetNeeded(
                "call reset() first: these environments have not begun, or a step of theirs was broken off."
            )
        space = self.single_action_space
        if self._action_is_array:
            if getattr(actions, "shape", None) == buffers.actions[0].shape:  # the usual case, 2 microseconds sooner
                np.copyto(buffers.actions[0], actions, casting="same_kind")
                return
            leaves = [actions]
        elif isinstance(actions, list):
            leaves = [np.stack(part) for part in zip(*(spaces.leaves(space, one) for one in actions), strict=True)]
        else:
            leaves = spaces.leaves(space, actions)
        for leaf, given in zip(buffers.actions, map(np.asarray, leaves), strict=True):
            if given.shape != leaf.shape:
                raise ValueError(
                    f"`actions` have the shape {given.shape}; for {len(leaf)} environments with actions of {space} it "
                    f"must be {leaf.shape}."
                )
            np.copyto(leaf, given, casting="same_kind")

    def finish(self, group: int = 0) -> StepResult:
        """Waits for a group's step; arrays of as many rows as it has environments."""
        self._finish(group)
        return self._result(self._pool.group_buffers[group], self._flags[group])

    def episode_ends(self, group: int | None = None) -> EpisodeEnds | None:
        """Statistics of the last step, of all environments or of a group; None where environments tell of none."""
        if not self._flags_of(group) & TOLD:
            return None
        buffers = self.buffers if group is None else self._pool.group_buffers[group]
        lengths = buffers.lengths.copy()
        return EpisodeEnds(~np.isnan(lengths), buffers.returns.copy(), lengths, buffers.infos.copy())

    def _flags_of(self, group: int | None) -> int:
        """Flags of the last step, of all environments or of a group."""
        return functools.reduce(operator.or_, self._flags) if group is None else self._flags[group]

    def _finish(self, group: int) -> None:
        """Waits for a group's step."""
        could_step, self._can_step = self._can_step, False  # until all of it is done
        self._flags[group], failures = self._pool.finish(group)
        if failures:
            self.failures.note(failures, self._steps)
        self._steps += group == 0
        self._can_step = could_step

    def _result(self, buffers: EnvBuffers, flags: int) -> StepResult:
        """Return values of Gymnasium's `step`, from the buffers of all environments or of a group."""
        outcome = (buffers.rewards, buffers.terminated, buffers.truncated)
        rewards, terminated, truncated = [part.copy() for part in outcome] if self.copy else outcome
        infos: dict[str, Any] = {key: buffers.infos[:, k].copy() for k, key in enumerate(self.info_keys)}
        if flags & TOLD:
            infos |= _infos_of_counted(buffers)
        if flags & ENDED:
            infos |= self._infos_of_ends(buffers)
            if buffers.failed.any():
                infos["failed"] = buffers.failed.copy()
                buffers.failed[:] = False
        return self._obs_of(buffers), rewards, terminated, truncated, infos

    def _infos_of_ends(self, buffers: EnvBuffers) -> dict[str, Any]:
        """Final observations, and where there are any."""
        over = buffers.terminated | buffers.truncated
        infos: dict[str, Any] = {"final_obs": np.full(len(over), None, dtype=object), "_final_obs": over}
        for i in np.flatnonzero(over & ~buffers.missing).tolist():
            leaves = [leaf[i].copy() for leaf in buffers.final_obs]
            infos["final_obs"][i] = from_leaves(self.single_observation_space, leaves)
        return infos

    def _obs_of(self, buffers: EnvBuffers) -> Any:
        leaves = [leaf.copy() for leaf in buffers.obs] if self.copy else buffers.obs
        return leaves[0] if self._obs_is_array else from_leaves(self.single_observation_space, leaves)

    # --- the rest of Gymnasium's interface ---

    def render(self) -> tuple[Any, ...] | None:
        """Frames of all environments.

        Raises:
            ValueError: workers step some of them.
        """
        if len(self.envs) < self.num_envs:
            raise ValueError("environments in workers can't be drawn from here; make them with workers=0.")
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **_: Any) -> None:
        self._pool.close()

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("these environments were closed; make new ones.")


def _checked_mask(mask: Any, count: int) -> NDArray:
    """The `reset_mask` of Gymnasium's options; raises ValueError where it is none."""
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (count,) or not mask.any():
        raise ValueError(f"`options['reset_mask']` (={mask!r}) must be an array of {count} bool, not all False.")
    return mask


def _infos_of_counted(buffers: EnvBuffers) -> dict[str, Any]:
    """The episodes that environments counted themselves, as RecordEpisodeStatistics gives them; none if none ended."""
    counted = buffers.lengths > 0
    if not counted.any():
        return {}
    lengths = np.where(counted, buffers.lengths, 0).astype(int)
    return {EPISODE: {"r": np.where(counted, buffers.returns, 0.0), "l": lengths}, f"_{EPISODE}": counted}


def check_info_keys(asked: Sequence[str], made_with: Sequence[str], name: str) -> None:
    """Raises ValueError where environments, the argument `name`, were made without some keys that are asked for."""
    if missing := [key for key in asked if key not in end_keys(made_with)]:
        raise ValueError(
            f"`info_keys` (={list(asked)!r}): `{name}` was made without {', '.join(map(repr, missing))}, which is said "
            f"when it is made: ppo2.make(..., info_keys={list(asked)!r})."
        )


def _check_arguments(
    count: int, workers: int, groups: int, env_timeout: float, info_keys: Sequence[str], replay_limit: Any
) -> None:
    """Raises ValueError for an argument of `HostVectorEnv` that doesn't fit `count` environments."""
    if isinstance(replay_limit, bool) or not isinstance(replay_limit, int | np.integer) or replay_limit < 0:
        raise ValueError(f"`replay_limit` (={replay_limit!r}) must be a whole number of steps, 0 or more.")
    if isinstance(groups, bool) or groups not in (1, 2) or groups > count:
        raise ValueError(f"`groups` (={groups!r}) must be 1 or 2, of at least one environment each (of {count}).")
    most = count - 1 if groups == 1 else count // 2
    if not 0 <= workers <= most:
        raise ValueError(
            f"`workers` (={workers!r}) must be a whole number from 0 to {most}: each steps one of the {count} "
            f"environments at least{', of each group' if groups > 1 else ', and this process too'}."
        )
    if isinstance(env_timeout, bool | str | None) or not env_timeout > 0:
        raise ValueError(f"`env_timeout` (={env_timeout!r}) must be a number of seconds above 0.")
    if isinstance(info_keys, str) or not all(isinstance(key, str) for key in info_keys):
        raise ValueError(f"`info_keys` (={info_keys!r}) must be names, as in ('is_success',).")

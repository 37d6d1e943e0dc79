"""A vector environment whose environments are stepped by this process and, if there are any, workers beside it."""

import itertools
import mmap
import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from ppo2 import spaces
from ppo2.envs.host.buffers import ALIGNED, EnvBuffers, buffer_specs, buffers_at, buffers_size, control_rows_at, memory
from ppo2.envs.host.env_types import AnyEnv, Factory, traits_of
from ppo2.envs.host.failures import EnvFailure, FailureLog
from ppo2.envs.host.replay import REPLAY_LIMIT, UNSEEDED, EpisodePosition, EpisodeReplay, State
from ppo2.envs.host.serial_envs import SerialEnvs, split_actions
from ppo2.envs.host.serve import RESET, RESTORE, SAVE
from ppo2.envs.host.workers import LocalWorker, ProcessWorker, Worker, WorkerLostError, WorkerSettings
from ppo2.system.processors import usable_processors
from ppo2.system.text import printable

NDArray = np.ndarray[Any, Any]
Outcomes = tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]


class HostVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector environment with SAME_STEP autoreset, stepped over shared memory: nothing is pickled in a step.

    This process takes a share of the environments, each worker one of the others. A worker is a fresh interpreter: it
    imports neither JAX nor the script that started it, ends with this process, and leaves nothing behind. Every episode
    is reset with a seed of its own, so that environments do the same whichever process they are in; every observation
    is checked against the declared space, and an error says whose it was.

    `infos` holds `final_obs` where episodes ended; the entries that were asked for (NaN: none); `episode`, as
    Gymnasium's RecordEpisodeStatistics gives it, of environments that count episodes themselves; and `failed` where a
    step was no experience because its environment raised, hung or lost its process; it has begun anew then, as after a
    truncation.

    With two groups the environments of one can be stepped (`start`, `finish`) while something else is done with the
    other.

    Args:
        factories: each makes one environment; to workers they travel by cloudpickle.
        workers: how many processes besides this one.
        groups: 1 or 2. With 2 and workers, this process takes no share.
        copy: return arrays that stay as they are; False hands out those that the next step overwrites.
        env_timeout: seconds that a step or reset of one environment may take. Its worker is replaced then; in this
            process it is interrupted, if it can be (see `Watchdog`).
        info_keys: entries of `info` that are numbers, to hand on.
        owned: whether the environments are ours: one that failed is made anew, and all are closed in the end.
        replay_limit: steps of an episode up to which a run that is resumed brings it back, by its actions.

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
        self.replay_limit = _whole_steps(replay_limit)
        self.num_envs, self.copy, self._info_keys = len(factories), copy, tuple(info_keys)
        self._factories, self._owned, self._timeout = list(factories), owned, env_timeout
        self._check_arguments(workers, groups, env_timeout, info_keys)
        self.groups = _parts(slice(0, self.num_envs), groups)
        """Which environments each group has."""
        self.counts_episodes = traits_of(factories[0]).counts_episodes
        """Whether only `infos["episode"]` tells of episodes that ended, as others end for training's sake alone."""
        self.failures = FailureLog()
        self._begun = False
        self._failed: set[int] = set()  # groups whose last step has failures on the board
        mine = groups == 1 or not workers
        shares = [_parts(rows, workers + mine) for rows in self.groups]
        own = [self._group(part[0]) for part in shares] if mine else []
        pattern = own[0] if mine else self._group(slice(0, 1))
        self._take_over(pattern)
        made = buffer_specs(pattern.observation_space, pattern.action_space, self.num_envs, len(self._info_keys))
        size = buffers_size(made) + workers * ALIGNED
        descriptor = memory(size) if workers else -1
        buffer = mmap.mmap(descriptor, size)
        self.buffers = buffers_at(buffer, made)
        self._group_buffers = [self.buffers] if groups == 1 else [self.buffers.rows(rows) for rows in self.groups]
        for group, part in zip(own, shares, strict=False):
            group.attach(self.buffers.rows(part[0]))
        if not mine:
            pattern.close()
        self._shares: list[Worker] = [LocalWorker(own, env_timeout)] if mine else []
        self._rows = [[part[i] for part in shares] for i in range(workers + mine)]
        self._workers: list[ProcessWorker] = []
        self._finalizer = weakref.finalize(self, _close, self._shares, descriptor)
        if workers:
            common = WorkerSettings(
                buffers=self.buffers,
                buffer_specs=made,
                descriptor=descriptor,
                size=size,
                spaces=(pattern.observation_space, pattern.action_space),
                spin=workers + 1 <= usable_processors(),
                info_keys=self._info_keys,
                timeout=env_timeout,
            )
            try:
                self._hire(common, control_rows_at(buffer, size, buffers_size(made)))
            except BaseException:
                self._finalizer()
                raise

    @property
    def stepped_by(self) -> str:
        """Who steps the environments, for people."""
        workers = len(self._workers)
        others = f"{workers} worker{'s' if workers > 1 else ''}"
        mine = (
            "this process" if not workers else f"this process and {others}" if len(self._shares) > workers else others
        )
        return mine if len(self.groups) == 1 else f"{mine}, half by half"

    @property
    def has_workers(self) -> bool:
        return bool(self._workers) or len(self._shares) > 1

    def _hire(self, common: WorkerSettings, control: NDArray) -> None:
        """Starts the workers, whose environments are there when they are first needed."""
        for number, rows in enumerate(self._rows[len(self._shares) :]):
            factories = [self._factories[part] for part in rows]
            try:
                self._workers.append(ProcessWorker(common, factories, rows, control[number], number))
                self._shares.append(self._workers[-1])
            except WorkerLostError as lost:
                self._shares.append(self._stand_in(rows, lost))
        for worker in [*self._workers]:
            try:
                worker.wait_until_held()
            except WorkerLostError as lost:
                self._adopt(worker, lost)

    def _check_arguments(self, workers: int, groups: int, env_timeout: float, info_keys: Sequence[str]) -> None:
        count = self.num_envs
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

    @property
    def envs(self) -> list[AnyEnv]:
        """Those that this process steps."""
        return [env for share in self._shares if isinstance(share, LocalWorker) for g in share.groups for env in g.envs]

    def _group(self, rows: slice) -> SerialEnvs:
        return SerialEnvs(self._factories[rows], first=rows.start, info_keys=self._info_keys, owned=self._owned)

    def _take_over(self, group: SerialEnvs) -> None:
        """Spaces and metadata."""
        first = group.envs[0]
        self.single_observation_space, self.single_action_space = group.observation_space, group.action_space
        self.observation_space = batch_space(group.observation_space, self.num_envs)
        self.action_space = batch_space(group.action_space, self.num_envs)
        self.metadata = {**first.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = first.render_mode
        self._one_leaf = not isinstance(group.action_space, spaces.COMPOSITE)
        # an array whose rows are actions as they should be
        self._is_apart = self._one_leaf and bool(group.action_space.shape)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets all; `seed` is one for each, or one number from which they count up, as in Gymnasium."""
        self._prepare()
        self.buffers.seeds[:] = [UNSEEDED if one is None else one for one in self._seeds(seed)]
        self._ask(RESET, lambda _: options)
        self.buffers.failed[:] = False
        self._failed.clear()
        self._begun = True
        return self._out(self.buffers), {}

    def save_states(self) -> list[State | None]:
        """What those environments save of themselves that can (see `SavableEnv`); None for others."""
        saved: list[State | None] = [None] * self.num_envs
        for first, states in self._ask(SAVE, lambda _: None).items():
            saved[first : first + len(states or ())] = states or ()
        return saved

    def restore(
        self, position: EpisodePosition, replays: Sequence[EpisodeReplay], obs: Any
    ) -> tuple[Any, dict[int, str]]:
        """Brings all environments to where they were; those that don't come there begin their next episodes.

        Args:
            position: in their sequences of episodes.
            replays: how to bring each to where it was in its episode.
            obs: (N, ...), what they showed there.

        Returns:
            The observations to go on from, and why, of those that didn't come there.
        """
        self._prepare()
        self.buffers.seeds[:], self.buffers.episodes[:] = position
        for leaf, given in zip(self.buffers.obs, spaces.leaves(self.single_observation_space, obs), strict=True):
            leaf[:] = given
        patience = max(1.0, *(replay_of.steps for replay_of in replays))
        answers = self._ask(RESTORE, lambda rows: replays[rows], patience)
        self.buffers.failed[:] = False
        self._failed.clear()
        self._begun = True
        return self._out(self.buffers), {env: why for each in answers.values() for env, why in each.items()}

    @property
    def obs(self) -> Any:
        """(N, ...), what they showed last."""
        return self._out(self.buffers)

    @property
    def position(self) -> EpisodePosition:
        """Where the environments are, for `restore`."""
        return EpisodePosition(self.buffers.seeds.copy(), self.buffers.episodes.copy())

    def _prepare(self) -> None:
        """Waits for workers, and for what was broken off."""
        self._check_open()
        self._begun = False
        for worker in [*self._workers]:
            try:
                worker.wait_until_ready()
                worker.drain()
            except WorkerLostError as lost:
                self._adopt(worker, lost)

    def _ask(self, what: int, argument: Callable[[slice], Any], patience: float = 1.0) -> dict[int, Any]:
        """Asks all groups of all shares; the answers by their first environment. `argument`: for which environments."""
        every = [*zip(self._shares, self._rows, strict=True)]
        for share, rows in reversed(every):  # the workers first
            for group, part in enumerate(rows):
                share.ask(group, what, argument(part), patience)
        return {part.start: share.answer(group) for share, rows in every for group, part in enumerate(rows)}

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            return [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"`seed` has {len(seed)} numbers for {self.num_envs} environments; give one for each.")
        return [None if one is None else int(one) for one in seed]

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("these environments were closed; make new ones.")

    def _adopt(self, worker: ProcessWorker, lost: WorkerLostError) -> None:
        """Takes over from a worker that could not start."""
        worker.close()
        self._workers.remove(worker)
        at = self._shares.index(worker)
        self._shares[at] = self._stand_in(self._rows[at], lost)

    def _stand_in(self, rows: Sequence[slice], lost: WorkerLostError) -> LocalWorker:
        """Makes environments of a worker in this process."""
        print(f"ppo2: {printable(lost)}, so that this process steps them itself.", file=sys.stderr)
        groups = [self._group(part) for part in rows]
        for group, part in zip(groups, rows, strict=True):
            group.attach(self.buffers.rows(part))
        return LocalWorker(groups, self._timeout)

    def step(self, actions: Any) -> Outcomes:
        """One action for each environment: a batch of the action space, or a list of actions."""
        if len(self.groups) == 1:
            self.start(actions)
            return self.finish()
        for group, rows in enumerate(self.groups):
            one = actions[rows] if isinstance(actions, list) else self._rows_of(actions, rows)
            self.start(one, group)
        ended = [self._finish(group) for group in range(len(self.groups))]
        return self._outcome(self.buffers, ended=any(ended))

    def start(self, actions: Any, group: int = 0) -> None:
        """Begins a step of a group, with an action for each of its environments; `finish` must follow.

        Raises:
            gymnasium.error.ResetNeeded: the environments were not reset, or a step before was broken off by an error.
        """
        if not self._begun:
            self._check_open()
            raise ResetNeeded(
                "call reset() first: these environments have not begun, or a step of theirs was broken off."
            )
        if group in self._failed:
            self._group_buffers[group].failed[:] = False
            self._failed.discard(group)
        if not self.has_workers:
            self._shares[0].start(group, self._apart(actions))
            return
        buffers, first = self._group_buffers[group], self.groups[group].start
        if isinstance(actions, list):
            actions = _batch(self.single_action_space, actions)
        leaves = [actions] if self._one_leaf else spaces.leaves(self.single_action_space, actions)
        for leaf, given in zip(buffers.actions, leaves, strict=True):
            if np.shape(given) != leaf.shape:
                raise ValueError(
                    f"`actions` have the shape {np.shape(given)}; for {len(leaf)} environments with actions of "
                    f"{self.single_action_space} it must be {leaf.shape}."
                )
            np.copyto(leaf, given, casting="same_kind")
        for share, rows in zip(reversed(self._shares), reversed(self._rows), strict=True):
            if isinstance(share, LocalWorker):
                mine = slice(rows[group].start - first, rows[group].stop - first)
                share.start(group, self._apart(self._rows_of(actions, mine)))
            else:
                share.start(group, None)

    def _apart(self, actions: Any) -> Iterable[Any]:
        return actions if self._is_apart else split_actions(self.single_action_space, actions)

    def finish(self, group: int = 0) -> Outcomes:
        """What the step of a group gave; arrays of as many rows as it has environments."""
        return self._outcome(self._group_buffers[group], ended=self._finish(group), group=group)

    def _finish(self, group: int) -> bool:
        """Whether an episode of the group ended."""
        ended = False
        failures: list[EnvFailure] = []
        error: Exception | None = None
        begun, self._begun = self._begun, False  # until all of it is done
        for share in self._shares:  # this process' own first: the workers are busy meanwhile
            try:
                outcome = share.finish(group)
            except Exception as raised:
                error = error or raised
                continue
            ended = ended or outcome.ended
            if outcome.failures:
                failures += outcome.failures
        if error is not None:
            raise error
        if failures:
            self.failures.note(failures)
        self._begun = begun
        return ended

    def _rows_of(self, batch: Any, rows: slice) -> Any:
        return batch[rows] if self._one_leaf else spaces.mapped(lambda _, x: x[rows], self.single_action_space, batch)

    def _outcome(self, buffers: EnvBuffers, *, ended: bool, group: int | None = None) -> Outcomes:
        outcome = (buffers.rewards, buffers.terminated, buffers.truncated)
        rewards, terminated, truncated = (part.copy() for part in outcome) if self.copy else outcome
        infos: dict[str, Any] = {key: buffers.infos[:, k].copy() for k, key in enumerate(self._info_keys)}
        if ended:
            over = buffers.terminated | buffers.truncated
            infos["final_obs"], infos["_final_obs"] = np.full(len(over), None, dtype=object), over
            for i in np.flatnonzero(over).tolist():
                parts = iter([leaf[i].copy() for leaf in buffers.final_obs])
                infos["final_obs"][i] = spaces.mapped(lambda _, parts=parts: next(parts), self.single_observation_space)
            if self.counts_episodes:
                told = over & ~np.isnan(buffers.returns)
                infos["episode"] = {
                    "r": np.where(told, buffers.returns, 0.0),
                    "l": np.where(told, buffers.lengths, 0).astype(int),
                }
                infos["_episode"] = told
            if buffers.failed.any():
                infos["failed"] = buffers.failed.copy()
                self._failed |= set(range(len(self.groups))) if group is None else {group}
        return self._out(buffers), rewards, terminated, truncated, infos

    def _out(self, buffers: EnvBuffers) -> Any:
        if len(buffers.obs) == 1 and not isinstance(self.single_observation_space, spaces.COMPOSITE):
            return buffers.obs[0].copy() if self.copy else buffers.obs[0]
        rows = iter(buffers.obs)
        return spaces.mapped(lambda _: next(rows).copy() if self.copy else next(rows), self.single_observation_space)

    def render(self) -> tuple[Any, ...] | None:
        """A frame of each.

        Raises:
            ValueError: workers step some of them.
        """
        if self.has_workers:
            raise ValueError("environments in workers can't be drawn from here; make them with workers=0.")
        return tuple(env.render() for env in self.envs)

    def close_extras(self, **_: Any) -> None:
        self._finalizer()


def _whole_steps(replay_limit: Any) -> int:
    try:
        steps = -1 if isinstance(replay_limit, bool) else operator.index(replay_limit)
    except TypeError:
        steps = -1
    if steps < 0:
        raise ValueError(f"`replay_limit` (={replay_limit!r}) must be a whole number of steps, 0 or more.")
    return steps


def _parts(rows: slice, count: int) -> list[slice]:
    """Consecutive parts, as equal as can be."""
    size = rows.stop - rows.start
    cuts = [rows.start + size * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(cuts)]


def _batch(space: spaces.AnySpace, actions: list[Any]) -> Any:
    parts = zip(*(spaces.leaves(space, action) for action in actions), strict=True)
    leaves = iter([np.stack(part) for part in parts])
    return spaces.mapped(lambda _: next(leaves), space)


def _close(shares: list[Worker], descriptor: int) -> None:
    for share in shares:
        share.close()
    if descriptor >= 0:
        os.close(descriptor)

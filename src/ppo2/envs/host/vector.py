"""A Gymnasium vector environment whose environments are stepped by this process and workers beside it, if any."""

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ppo2 import spaces
from ppo2.envs.host import contract
from ppo2.envs.host.actions import ActionWriter
from ppo2.envs.host.buffers import EnvBuffers, from_leaves
from ppo2.envs.host.env_types import AnyEnv, Factory, NDArray, traits_of
from ppo2.envs.host.infos import EnvInfo, FinalObs, gathered, infos_of_counted
from ppo2.envs.host.outcome import ENDED, FAILED, TOLD
from ppo2.envs.host.process_worker import ProcessWorker
from ppo2.envs.host.replay import REPLAY_LIMIT, UNSEEDED, EpisodePosition, EpisodeReplay
from ppo2.envs.host.transition import Transition, TransitionReader
from ppo2.envs.host.vector_arguments import check_arguments, check_reset_mask
from ppo2.envs.host.vector_requests import VectorRequests
from ppo2.envs.host.worker_envs import ResetRequest
from ppo2.envs.host.worker_pool import WorkerPool, split_evenly

StepResult: TypeAlias = tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]


class HostVectorEnv(VectorRequests):
    """A vector environment with SAME_STEP autoreset, stepped over shared memory by this process and workers beside it.

    Every episode is reset with a seed of its own, so that environments do the same whichever process they are in; every
    observation is checked against the declared space, and an error names the environment.

    `step` and `reset` keep Gymnasium's contract of vector environments; `advance`, `start` and `finish` are for a
    learner: they take actions on trust, and give a `Transition` of arrays that the next step overwrites.

    `infos` holds what the environments gave, as Gymnasium has it (see `gathered`): of an episode that ended,
    `final_obs` and `final_info`. Beside that, `info_keys` of the step itself, also of an episode's last (NaN: none);
    `episode` where an environment counted an episode itself, as Gymnasium's RecordEpisodeStatistics does; and `failed`
    where a step was no experience because its environment raised, hung or lost its process; it has begun anew then, as
    after a truncation.

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
        spec: the registered environment, if all are of it (`vectorize`); else None.
        info_keys: the argument.
        factory: makes another environment like these.
        traits: its traits.
        max_episode_steps: steps after which every episode is truncated, where that is known; else None.

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
        check_arguments(self.num_envs, workers, groups, env_timeout, info_keys, replay_limit)
        self.copy, self.replay_limit, self.info_keys = copy, int(replay_limit), tuple(info_keys)
        self.groups = split_evenly(slice(0, self.num_envs), groups)
        self.factory, self.traits = factories[0], traits_of(factories[0])
        super().__init__(
            WorkerPool(factories, self.groups, workers, timeout=env_timeout, info_keys=self.info_keys, owned=owned)
        )
        pool = self._pool
        self.buffers = pool.buffers
        self._steps = 0
        self._writer = ActionWriter(pool.spaces.action)
        self._final_obs = FinalObs(pool.spaces.observation)
        self.single_observation_space, self.single_action_space = pool.spaces
        # isinstance of Gymnasium's Tuple or Dict takes a microsecond
        self._obs_is_array = not isinstance(self.single_observation_space, spaces.COMPOSITE)
        is_array = not isinstance(self.single_action_space, spaces.COMPOSITE)
        self._action_kind = self.buffers.actions[0].dtype.kind if is_array else None
        # of each group, and of all
        parts = (*pool.group_buffers, self.buffers)
        self._readers = [TransitionReader(self.single_observation_space, part) for part in parts]
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
        """Resets environments.

        Args:
            seed: one for each, or one number from which they count up, as in Gymnasium.
            options: for the environments; `reset_mask`, (N,), says which are reset while the others go on (None: all).
                One that has a seed and gets no new one then begins its next episode.

        Raises:
            gymnasium.error.ClosedEnvironmentError: after `close`.
        """
        self._check_open()
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"`seed` has {len(seed)} numbers for {self.num_envs} environments; give one for each.")
        contract.check_seeds(seed)
        which = None
        if options and (which := options.get("reset_mask")) is not None:
            check_reset_mask(which, self.num_envs)
        options = options and {key: value for key, value in options.items() if key != "reset_mask"}
        if not self._can_step:
            if which is not None and not which.all():
                raise ResetNeeded("reset all environments first: they have not begun, or a step was broken off.")
            which = None
        self._make_ready()
        seeds, episodes = self.buffers.seeds, self.buffers.episodes
        for i, one in enumerate(seed):
            if which is None or (which[i] and one is not None):
                seeds[i], episodes[i] = UNSEEDED if one is None else int(one), 0
            elif which[i]:
                episodes[i] += 1
        answers = self._pool.ask("reset", lambda rows: ResetRequest(options, None if which is None else which[rows]))
        infos: list[EnvInfo] = [*itertools.chain(*answers.values())]
        return self._begin(), gathered(infos, self.num_envs)

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
        leaves = [leaf.copy() for leaf in self.buffers.obs] if self.copy else self.buffers.obs
        return leaves[0] if self._obs_is_array else from_leaves(self.single_observation_space, leaves)

    def _begin(self) -> Any:
        """Observations to begin with, now that all environments can be stepped."""
        self.buffers.failed[:] = False
        self._can_step = True
        return self.obs

    # --- steps ---

    def step(self, actions: Any) -> StepResult:
        """Steps all environments.

        Args:
            actions: a batch of the action space, or a list of one action for each environment.

        Raises:
            TypeError, ValueError: actions that no environment could take; see `ActionWriter`.
            gymnasium.error.ResetNeeded: the environments were not reset, or a step before was broken off by an error.
        """
        self._check_ready()
        self._writer.write(self.buffers.actions, actions)
        flags, infos = self._step(full=True)
        return self._result(infos, flags)

    def advance(self, actions: Any) -> Transition:
        """`step` for a learner, whose actions are of the space."""
        self._check_ready()
        self._write_actions(self.buffers, actions)
        flags, _ = self._step(full=False)
        return self._readers[-1].read(flags)

    def _step(self, *, full: bool) -> tuple[int, list[EnvInfo]]:
        """Steps all environments; returns the step's flags and infos."""
        flags = 0
        infos: list[EnvInfo] = []
        for group in range(len(self.groups)):
            self._pool.start(group, full=full)
        for group in range(len(self.groups)):
            more, some = self._finish(group)
            flags |= more
            infos += some
        return flags, infos

    def start(self, actions: Any, group: int = 0) -> None:
        """Starts a step of a group, with an action for each of its environments; `finish` must follow.

        Raises:
            gymnasium.error.ResetNeeded: see `step`.
        """
        if not self._can_step:
            self._check_ready()
        self._write_actions(self._pool.group_buffers[group], actions)
        self._started.add(group)
        self._pool.start(group)

    def _check_ready(self) -> None:
        if not self._can_step:
            self._check_open()
            raise ResetNeeded(
                "call reset() first: these environments have not begun, or a step of theirs was broken off."
            )

    def _write_actions(self, buffers: EnvBuffers, actions: Any) -> None:
        """Writes actions into the buffers of all environments or of a group."""
        row, kind = buffers.actions[0], self._action_kind
        if type(actions) is np.ndarray and actions.dtype.kind == kind and actions.shape == row.shape:
            row[...] = actions  # the usual case, microseconds sooner
        else:
            self._writer.write(buffers.actions, actions)

    def finish(self, group: int = 0) -> Transition:
        """Waits for a group's step; arrays of as many rows as it has environments, which its next step overwrites."""
        self._started.discard(group)
        flags, _ = self._finish(group)
        return self._readers[group].read(flags)

    def _finish(self, group: int) -> tuple[int, Sequence[EnvInfo]]:
        """Waits for a group's step; returns its flags and infos."""
        could_step, self._can_step = self._can_step, False  # until all of it is done
        flags, failures, infos = self._pool.finish(group)
        if failures:
            self.failures.note(failures, self._steps)
        self._steps += not group
        self._can_step = could_step
        return flags, infos

    def _result(self, given: Sequence[EnvInfo], flags: int) -> StepResult:
        """Return values of Gymnasium's `step`."""
        buffers = self.buffers
        outcome = (buffers.rewards, buffers.terminated, buffers.truncated)
        rewards, terminated, truncated = [part.copy() for part in outcome] if self.copy else outcome
        infos: dict[str, Any] = gathered(given, self.num_envs) if given else {}
        for k, key in enumerate(self.info_keys):
            infos[key] = buffers.infos[:, k].copy()
            infos[f"_{key}"] = ~np.isnan(infos[key])
        if flags & TOLD:
            infos = {**infos_of_counted(buffers), **infos}
        if flags & ENDED:
            over, final_obs = buffers.terminated | buffers.truncated, np.full(self.num_envs, None, dtype=object)
            for i, one in self._final_obs.read(buffers, over & ~buffers.missing).items():
                final_obs[i] = one
            infos = {"final_obs": final_obs, "_final_obs": over, **infos}
        if flags & FAILED:
            infos["failed"] = buffers.failed.copy()
            buffers.failed[:] = False
        return self.obs, rewards, terminated, truncated, infos

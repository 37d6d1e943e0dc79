"""Environments of one process, stepped one after another; without JAX, for the workers."""

import math
import traceback
from collections.abc import Iterable, MutableSequence, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.buffers import EnvBuffers
from ppo2.envs.host.env_types import AnyEnv, Factory, NDArray, traits_of
from ppo2.envs.host.failures import MAX_FAILURES, ContractError, EnvFailure, EnvironmentFailureError
from ppo2.envs.host.replay import (
    UNSEEDED,
    EpisodeReplay,
    ReplayError,
    State,
    episode_seed,
    replay_actions,
    savable_env,
    saved_state,
)

Place = MutableSequence[int] | NDArray

NEVER = float("inf")
NO_EPISODE = {"r": float("nan"), "l": float("nan")}
ENV_ERRORS = (Exception, SystemExit)
"""What an environment may raise and be made anew for; an interrupt is the user's."""


class SerialEnvs:
    """Environments whose observations and outcomes are written into a board.

    Every episode is reset with a seed of its own, so that what an environment does is told by its first seed and its
    actions alone. An environment that raises is made and reset anew; that step failed.

    Args:
        factories: each makes one environment; see `EnvTraits`.
        first: the index of the first, for messages.
        info_keys: entries of `info` that are numbers, to be written to the board.
        owned: whether the environments are ours: one that raised is made anew, and all are closed in the end. Else it
            is only reset.

    Raises:
        ValueError: environments of different spaces.
        TypeError: a space that isn't supported.
    """

    def __init__(
        self, factories: Sequence[Factory], *, first: int = 0, info_keys: Sequence[str] = (), owned: bool = True
    ) -> None:
        self.envs: list[AnyEnv] = []
        self.failures: list[EnvFailure] = []
        self._factories, self._first, self._info_keys, self._owned = list(factories), first, tuple(info_keys), owned
        try:
            for factory in factories:
                self.envs.append(factory())
            self.observation_space = self.envs[0].observation_space
            self.action_space = self.envs[0].action_space
            spaces.check_observation_space(self.observation_space)
            for i, env in enumerate(self.envs):
                self.check_alike(i, env)
        except BaseException:
            self.close()
            raise
        space = self.observation_space
        self._composite = isinstance(space, spaces.COMPOSITE)
        self._shape, self._dtype = space.shape or (), space.dtype
        traits = [traits_of(factory) for factory in factories]
        self._limits = [traits.max_episode_steps for traits in traits]
        self._reseeds, self._counts = traits[0].reseeds, traits[0].counts_episodes
        self._deadlines: list[float] = [NEVER] * len(self.envs)
        self._clock = 0

    def check_alike(self, i: int, env: AnyEnv) -> None:
        """Raises ValueError if an environment has other spaces than the first."""
        for name in ("observation_space", "action_space"):
            if getattr(env, name) != getattr(self, name):
                raise ValueError(
                    f"`env`: its environments differ in {name}: number {self._first} has {getattr(self, name)}, number "
                    f"{self._first + i} {getattr(env, name)}. All must be alike."
                )

    def attach(self, buffers: EnvBuffers) -> None:
        """From now on reads and writes `buffers`, of as many rows as there are environments."""
        self._buffers = buffers
        self._single = None if self._composite else buffers.obs[0]

    def reset(self, options: dict[str, Any] | None = None, at: Place | None = None) -> None:
        """Resets all, with the seeds on the board; what they raise is the caller's. `at`: as for `step`."""
        self.failures = []
        self._buffers.episodes[:] = 0
        for i in range(len(self.envs)):
            if at is not None:
                at[0] = self._first + i
            obs, _ = self._begin(i, self._seed(i), options)
            self._put(self._buffers.obs, i, self._checked(obs, i, "the first observation of"))

    def save_states(self, _: None = None, at: Place | None = None) -> list[State | None]:
        """What those environments save of themselves that can. `at`: as for `step`."""
        saved: list[State | None] = []
        for i, env in enumerate(self.envs):
            if at is not None:
                at[0] = self._first + i
            saved.append(saved_state(env))
        return saved

    def restore(self, replays: Sequence[EpisodeReplay], at: Place | None = None) -> dict[int, str]:
        """Brings all to where the board says that they were: seeds, episodes, and the observations to go on from.

        An environment that doesn't come there begins its next episode instead.

        Args:
            replays: for each environment.
            at: as for `step`.

        Returns:
            Why, of those that didn't.
        """
        self.failures = []
        why: dict[int, str] = {}
        for i, replay in enumerate(replays):
            if at is not None:
                at[0] = self._first + i
            try:
                self._restore_one(i, replay)
            except ReplayError as unreachable:
                why[self._first + i] = str(unreachable)
            except ENV_ERRORS as error:
                why[self._first + i] = f"it raised {type(error).__name__}: {error}"
                if self._owned:
                    self._close(i)
                    self.envs[i] = self._factories[i]()
            else:
                continue
            obs, _ = self._begin(i, self._next_seed(i))
            self._put(self._buffers.obs, i, self._checked(obs, i, "the first observation of"))
        return why

    def _restore_one(self, i: int, replay: EpisodeReplay) -> None:
        """Raises ReplayError where an environment doesn't come to where it was."""
        env, buffers = self.envs[i], self._buffers
        if replay.state is not None:
            keeper = savable_env(env)
            if keeper is None:
                raise ReplayError("it can't take up the state that it saved")
            keeper.load_state(replay.state)
            self._limit(i, replay.steps)
            return
        if replay.actions is None:
            raise ReplayError("its episode had become too long for its actions to be kept (`replay_limit`)")
        if buffers.episodes[i] and not self._reseeds:
            raise ReplayError("its episodes have no seeds of their own")
        obs, returns = replay_actions(
            env,
            lambda: self._begin(i, self._seed(i))[0],
            replay.actions,
            lambda batch: split_actions(self.action_space, batch),
        )
        self._limit(i, replay.steps)
        found = spaces.leaves(self.observation_space, self._checked(obs, i, "an observation of"))
        differs = any(np.asarray(x).tobytes() != leaf[i].tobytes() for leaf, x in zip(buffers.obs, found, strict=True))
        if differs or not (self._counts or math.isclose(returns, replay.returns, rel_tol=1e-5, abs_tol=1e-5)):
            raise ReplayError("it isn't deterministic: the same seed and actions led it elsewhere")

    def step(self, actions: Iterable[Any], at: Place | None = None) -> bool:
        """One action for each; whether an episode ended.

        Args:
            at: where to say, in its first number, which environment's turn it is.
        """
        buffers, shape, dtype, single, deadlines = (
            self._buffers,
            self._shape,
            self._dtype,
            self._single,
            self._deadlines,
        )
        self._clock = clock = self._clock + 1
        # lists, written to the board at once: to write an array number by number costs more
        rewards, terminated, truncated = [], [], []
        first, ended = self._first, False
        if self.failures:
            self.failures = []
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if at is not None:
                at[0] = first + i
            try:
                obs, reward, over, cut, info = env.step(action)
            except ContractError:
                raise
            except ENV_ERRORS:
                obs, reward, over, cut, info = None, 0.0, False, True, {}
                ended = True
                self._begin_anew(i)
            if clock >= deadlines[i]:
                cut = True
            rewards.append(reward)
            terminated.append(over)
            truncated.append(cut)
            if self._info_keys:
                buffers.infos[i] = [_number(info.get(key)) for key in self._info_keys]
            if obs is None:
                continue
            if over or cut:
                ended = True
                self._put(buffers.final_obs, i, self._checked(obs, i, "an observation of"))
                if self._counts:
                    episode = info.get("episode", NO_EPISODE)
                    buffers.returns[i], buffers.lengths[i] = episode["r"], episode["l"]
                try:
                    obs, _ = self._begin(i, self._next_seed(i))
                except ContractError:
                    raise
                except ENV_ERRORS:
                    rewards[i], terminated[i], truncated[i] = 0.0, False, True
                    self._begin_anew(i)
                    continue
            if single is None:
                self._put(buffers.obs, i, self._checked(obs, i, "an observation of"))
            elif type(obs) is np.ndarray and obs.shape == shape and obs.dtype == dtype:
                single[i] = obs
            else:
                single[i] = self._checked(obs, i, "an observation of")
        self._write(buffers.rewards, rewards, "reward")
        self._write(buffers.terminated, terminated, "terminated")
        self._write(buffers.truncated, truncated, "truncated")
        return ended

    def _write(self, row: NDArray, given: list[Any], what: str) -> None:
        try:
            row[:] = given
        except (TypeError, ValueError) as error:
            wrong = next((i for i, one in enumerate(given) if np.ndim(one) or not np.isreal(one)), 0)
            raise ValueError(
                f"`env` gave {what} = {given[wrong]!r} in environment {self._first + wrong}; it must be one number."
            ) from error

    def _begin(self, i: int, seed: int | None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._limit(i)
        return self.envs[i].reset(seed=seed, options=options)

    def _limit(self, i: int, steps: int = 0) -> None:
        """Sets the time limit of an episode so many steps old."""
        limit = self._limits[i]
        self._deadlines[i] = NEVER if limit is None else self._clock + limit - steps

    def _begin_anew(self, i: int) -> None:
        """Notes what environment i raised, and makes it again; what it raises then is noted as well.

        Raises:
            EnvironmentFailureError: it can't be made again.
        """
        buffers = self._buffers
        buffers.failed[i], buffers.returns[i], buffers.lengths[i] = True, np.nan, np.nan
        text = traceback.format_exc()
        for _ in range(MAX_FAILURES):
            self.failures.append(EnvFailure(self._first + i, text))
            try:
                if self._owned:
                    self._close(i)
                    self.envs[i] = self._factories[i]()
                    self.check_alike(i, self.envs[i])
                obs, _ = self._begin(i, self._next_seed(i, anew=True))
            except ENV_ERRORS:
                text = traceback.format_exc()
                continue
            obs = self._checked(obs, i, "the first observation of")
            for rows in (buffers.obs, buffers.final_obs):
                self._put(rows, i, obs)
            return
        raise EnvironmentFailureError(
            f"environment {self._first + i} failed, and could not be made again {MAX_FAILURES} times. Mend it; "
            f"its last words:\n{text}"
        )

    def _next_seed(self, i: int, *, anew: bool = False) -> int | None:
        self._buffers.episodes[i] += 1
        return self._seed(i) if self._reseeds or anew else None

    def _seed(self, i: int) -> int | None:
        """Of the running episode."""
        seed = int(self._buffers.seeds[i])
        return None if seed == UNSEEDED else episode_seed(seed, int(self._buffers.episodes[i]))

    def _put(self, rows: list[NDArray], i: int, obs: Any) -> None:
        for leaf, part in zip(rows, spaces.leaves(self.observation_space, obs), strict=True):
            leaf[i] = part

    def _checked(self, obs: Any, i: int, what: str) -> Any:
        what = f"{what} environment {self._first + i}"
        if not self._composite and type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype == self._dtype:
            return obs
        batch, is_one = spaces.observation(self.observation_space, obs, what)
        if not is_one:
            raise ValueError(
                f"{what} has the shape {np.shape(obs)}, but `env` declares {self.observation_space}. Mend its "
                "observation_space, or what it returns."
            )
        return spaces.mapped(lambda _, x: x[0], self.observation_space, batch)

    def _close(self, i: int) -> None:
        if not self._owned:
            return
        try:
            self.envs[i].close()
        except Exception:
            traceback.print_exc()

    def close(self) -> None:
        for i in range(len(self.envs)):
            self._close(i)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def separate(space: spaces.AnySpace, buffers: EnvBuffers) -> Any:
    """The actions of a board, to be taken one by one."""
    rows = (leaf.copy() for leaf in buffers.actions)  # an environment may keep the last one
    actions = spaces.mapped(lambda _: next(rows), space)
    return split_actions(space, actions)


def split_actions(space: spaces.AnySpace, actions: Any) -> Iterable[Any]:
    """A batch of actions, taken apart."""
    if isinstance(actions, list):
        return actions
    # Many environments assert that an action is in their space, which is answered fastest of Python's integers for
    # those that `SpecFactory` makes (Gymnasium 1.4's own Discrete answers a little faster of NumPy's).
    if isinstance(space, gym.spaces.Discrete):
        integers: list[int] = np.asarray(actions).tolist()
        return integers
    apart: Iterable[Any] = spaces.separate(space, actions)
    return apart

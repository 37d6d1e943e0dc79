"""Environments of one process, stepped one after another; without JAX, for the workers."""

import itertools
import math
import traceback
from collections.abc import Mapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ppo2 import spaces
from ppo2.config.info_keys import end_keys
from ppo2.envs.host import contract
from ppo2.envs.host.actions import splitter
from ppo2.envs.host.buffers import EnvBuffers, Spaces
from ppo2.envs.host.constructors import made_by
from ppo2.envs.host.contract import NUMBERS
from ppo2.envs.host.env_types import AnyEnv, Factory, NDArray, traits_of
from ppo2.envs.host.episode_statistics import NONE_ENDED, UNCOUNTED, EpisodeReader, number
from ppo2.envs.host.failures import MAX_FAILURES, ContractError, EnvFailure, EnvironmentFailureError
from ppo2.envs.host.identity import check_not_in_training
from ppo2.envs.host.infos import EnvInfo, kept
from ppo2.envs.host.outcome import CUT, ENDED, FAILED, PLAIN, TOLD, StepOutcome
from ppo2.envs.host.replay import UNSEEDED, episode_seed
from ppo2.envs.host.watchdog import HungError
from ppo2.spaces import MASK_KEY, MASK_METHOD

NEVER = 2**62
"""A step that never comes."""
ENV_ERRORS = (Exception, SystemExit)
"""Exceptions after which an environment is made anew; an interrupt is the user's."""


class SerialEnvs:
    """Environments of one worker and one group, which read actions from buffers and write what they return to them.

    An environment that raises is made and reset anew; that step has failed.

    Args:
        factories, info_keys, owned: see `HostVectorEnv`.
        first: global index of the first environment, for messages.
        expected: spaces that all must have, those of environment 0; None: it is among these.

    Attributes:
        current: memory of one number, into which the index of the environment that is at work is written.

    Raises:
        ContractError: environments of different spaces.
        TypeError: a space that isn't supported.
    """

    def __init__(
        self,
        factories: Sequence[Factory],
        *,
        first: int = 0,
        info_keys: Sequence[str] = (),
        owned: bool = True,
        expected: Spaces | None = None,
    ) -> None:
        self.envs: list[AnyEnv] = []
        self.current: MutableSequence[int] | NDArray = [first]
        self._factories, self._first, self._info_keys, self._owned = list(factories), first, tuple(info_keys), owned
        try:
            for i, factory in enumerate(factories, start=first):
                env = made_by(factory, f"`env`: environment {i}", "Pass a function that gives its arguments.")
                check_not_in_training(env)
                self.envs.append(env)
                contract.check_members(env)
            self.spaces = expected or Spaces(self.envs[0].observation_space, self.envs[0].action_space)
            spaces.check_observation_space(self.spaces.observation)
            for i in range(len(self.envs)):
                self._check_spaces(i)
        except BaseException:
            self.close()
            raise
        space, traits = self.spaces.observation, traits_of(factories[0])
        self._is_masked = spaces.is_masked(space)
        self._split = splitter(self.spaces.action, python_integers=traits.python_integers)
        self._is_array, self._shape, self._dtype = not isinstance(space, spaces.COMPOSITE), space.shape, space.dtype
        self._reseeds, self._declared = traits.reseeds, traits.counts_episodes
        self._readers = [EpisodeReader(env, declared=self._declared) for env in self.envs]
        self._end_keys = end_keys(self._info_keys)
        self._limits = [traits_of(factory).max_episode_steps or NEVER for factory in factories]
        self._deadlines = [NEVER] * len(self.envs)
        self._saves = [True] * len(self.envs)
        self._clock = 0
        self._info: Mapping[str, Any] = {}  # of the last reset

    def _check_spaces(self, i: int) -> None:
        contract.check_alike(self.envs[i], self.spaces._asdict(), self._first + i)

    def attach(self, buffers: EnvBuffers) -> None:
        """Sets the buffers, of as many rows as there are environments."""
        self._buffers = buffers
        # a view of each row and a memoryview, to which writing takes half the time
        self._obs_rows = [buffers.obs[0][i, ...] if self._is_array else None for i in range(len(self.envs))]
        self._rewards, self._has_flags = buffers.rewards.data, True
        buffers.lengths[:] = [NONE_ENDED if reader.counts else UNCOUNTED for reader in self._readers]

    def step(self, *, full: bool = False) -> StepOutcome:
        """Steps every environment with its action in the buffers.

        Args:
            full: True hands on infos, and takes an error for the caller's whose action isn't of the space.
        """
        buffers, rewards, shape, dtype = self._buffers, self._rewards, self._shape, self._dtype
        deadlines, first, current, is_masked = self._deadlines, self._first, self.current, self._is_masked
        info_keys = self._info_keys if full else ()
        if self._has_flags:  # of the step before
            buffers.terminated[:], buffers.truncated[:], self._has_flags = False, False, False
        self._clock = clock = self._clock + 1
        flags = 0
        failures: list[EnvFailure] = []
        infos: list[EnvInfo] = []
        actions, array = self._split(buffers.actions), np.ndarray
        rows = zip(itertools.count(), self.envs, actions, self._readers, self._obs_rows)
        for i, env, action, reader, row in rows:
            current[0] = first + i
            try:
                returned: Any = env.step(action)
                try:
                    obs, reward, over, cut, info = returned
                except (TypeError, ValueError):
                    raise contract.step_error(env, returned) from None
                # by identity: a microsecond less for 8 environments
                if over is not False or cut is not False or type(reward) not in NUMBERS or type(info) is not dict:
                    _, reward, over, cut, info = contract.checked_step(env, returned, first + i)
                if info and not is_masked and (MASK_KEY in info or MASK_METHOD in info):
                    contract.check_not_forgotten(env, info, "step")
                if clock >= deadlines[i]:
                    cut = True
                if info_keys:
                    buffers.infos[i, : len(info_keys)] = [number(info.get(key)) for key in info_keys]
                if over or cut:
                    self._write_end(i, over, cut)
                    buffers.missing[i] = missing = obs is None and bool(over)  # which nobody needs
                    if not missing:
                        self._write(buffers.final_obs, i, obs, truncated=True)
                    final = kept(info) if info and full else {}
                    obs, told = self._end_episode(i, info)
                    flags |= ENDED | told if over else ENDED | told | CUT
                    if full:
                        infos.append(EnvInfo(first + i, self._info, final))
                else:
                    if reader.counts:
                        flags |= self._read_episode(i, info)
                    if full and info:
                        infos.append(EnvInfo(first + i, info))
                if row is not None and type(obs) is array and obs.dtype is dtype and obs.shape == shape:
                    row[...] = obs
                else:
                    self._write(buffers.obs, i, obs)
            except ContractError:
                raise
            except ENV_ERRORS as error:
                if full:
                    contract.check_action(env, action, self.spaces.action, first + i, error)
                reward, flags = 0.0, flags | ENDED | FAILED
                self._write_end(i, False, True)
                failures += self._begin_anew(i, error)
                if full:
                    infos.append(EnvInfo(first + i, self._info, {}))
            try:
                rewards[i] = reward
            except ValueError:  # a memoryview's word for an OverflowError
                raise ContractError(
                    "`env` gave as its reward a whole number that no float can hold: scale its rewards down."
                ) from None
        return StepOutcome(flags, failures, infos) if flags or infos else PLAIN

    def _write_end(self, i: int, over: bool, cut: bool) -> None:
        """Writes that an episode of environment i ended."""
        self._buffers.terminated[i], self._buffers.truncated[i], self._has_flags = over, cut, True

    def _read_episode(self, i: int, info: dict[str, Any]) -> int:
        """Writes the episode that environment i has counted, if any, though none ended for us; returns flags."""
        episode = self._readers[i].read(info, ended=False)
        if episode is None:
            self._buffers.lengths[i] = NONE_ENDED
            return 0
        self._buffers.returns[i], self._buffers.lengths[i] = episode
        self._buffers.infos[i] = [number(info.get(key)) for key in self._end_keys]
        return TOLD

    def _end_episode(self, i: int, info: dict[str, Any]) -> tuple[Any, int]:
        """Writes the statistics of an episode and resets environment i; returns the first observation, and flags."""
        buffers, reader = self._buffers, self._readers[i]
        if not info and not reader.counts:
            buffers.infos[i] = math.nan
            return self._next_episode(i), 0
        numbers = [number(info.get(key)) for key in self._end_keys]
        episode = reader.read(info, ended=True)
        obs = self._next_episode(i)
        if episode is None:
            episode = reader.after_reset()
        buffers.infos[i] = numbers
        buffers.returns[i], buffers.lengths[i] = episode
        is_told = reader.counts or not all(map(math.isnan, numbers))
        return obs, TOLD if is_told else 0

    def _write(self, rows: list[NDArray], i: int, obs: Any, *, first: bool = False, truncated: bool = False) -> None:
        """Writes an observation of environment i; `first` and `truncated` are for messages.

        Raises:
            ContractError: it isn't of the declared space.
        """
        if self._is_array and type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype == self._dtype:
            rows[0][i] = obs
            return
        space = self.spaces.observation
        what = f"{'the first' if first else 'an'} observation of environment {self._first + i}"
        if obs is None:
            when = " It was truncated: the value of what it would have gone on with counts." if truncated else ""
            raise ContractError(
                f"{what} is None; `env` declares {space}.{when} Return an observation; None will only do where an "
                "episode is terminated."
            )
        try:
            batch, is_one = spaces.observation(space, obs, what)
        except ValueError as error:
            raise ContractError(str(error)) from None
        if not is_one:
            raise ContractError(
                f"{what} has the shape {np.shape(obs)}, but `env` declares {space}. Fix its observation_space, or "
                "what it returns."
            )
        for row, leaf in zip(rows, spaces.leaves(space, batch), strict=True):
            row[i] = leaf[0]

    def _next_episode(self, i: int, *, anew: bool = False) -> Any:
        """Resets environment i for its next episode; returns the first observation."""
        self._buffers.episodes[i] += 1
        return self._reset(i, seeded=self._reseeds or anew)

    def _reset(self, i: int, *, seeded: bool = True, options: dict[str, Any] | None = None) -> Any:
        """Resets environment i, with the seed of the episode in the buffers; returns the first observation."""
        self._set_deadline(i)
        seed = int(self._buffers.seeds[i])
        seed_of_episode = episode_seed(seed, int(self._buffers.episodes[i])) if seeded and seed != UNSEEDED else None
        env = self.envs[i]
        obs, info = contract.unpack_reset(env, env.reset(seed=seed_of_episode, options=options))
        if info and not self._is_masked:
            contract.check_not_forgotten(env, info, "reset")
        self._info = info
        return obs

    def _set_deadline(self, i: int, steps: int = 0) -> None:
        """Sets when the time limit ends an episode that is so many steps old."""
        self._deadlines[i] = self._clock + self._limits[i] - steps

    def _begin_anew(self, i: int, error: BaseException) -> list[EnvFailure]:
        """Makes environment i anew; returns what it has just raised, and raised meanwhile."""
        buffers, failures, text = self._buffers, list[EnvFailure](), traceback.format_exc()
        buffers.failed[i], buffers.missing[i], buffers.infos[i] = True, False, np.nan
        buffers.lengths[i] = NONE_ENDED if self._readers[i].counts else UNCOUNTED
        for _ in range(MAX_FAILURES):
            known = error if isinstance(error, Exception) and not isinstance(error, HungError) else None
            failures.append(EnvFailure(self._first + i, text, known))
            try:
                self._make(i)
                obs = self._next_episode(i, anew=True)
            except ContractError:
                raise
            except ENV_ERRORS as another:
                text, error = traceback.format_exc(), another
                continue
            for rows in (buffers.obs, buffers.final_obs):
                self._write(rows, i, obs, first=True)
            return failures
        raise EnvironmentFailureError(
            f"environment {self._first + i} failed, and could not be made again {MAX_FAILURES} times. Fix it; "
            f"its last words:\n{text}"
        ) from error

    def _make(self, i: int) -> None:
        """Puts a new environment in the place of one that raised, unless it is the user's own."""
        if self._owned:
            _close(self.envs[i])
            self.envs[i] = self._factories[i]()
            self._check_spaces(i)
            self._readers[i] = EpisodeReader(self.envs[i], declared=self._declared)

    def close(self) -> None:
        """Closes the environments, unless they are the user's own."""
        for env in self.envs if self._owned else ():
            _close(env)


def _close(env: AnyEnv) -> None:
    try:
        env.close()
    except Exception:
        traceback.print_exc()

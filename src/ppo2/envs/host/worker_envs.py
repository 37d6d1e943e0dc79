"""Environments of one worker and the requests to them between steps; without JAX, for the workers."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from ppo2.envs.host import contract
from ppo2.envs.host.attributes import Assignment, Call, assign, called
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.infos import EnvInfo
from ppo2.envs.host.replay import EpisodeReplay, ReplayError, State, bring_to_place, save_state
from ppo2.envs.host.serial_envs import ENV_ERRORS, SerialEnvs


class ResetRequest(NamedTuple):
    """Options of a reset, and which environments are reset, (n,); None: all."""

    options: dict[str, Any] | None = None
    which: NDArray | None = None


class WorkerEnvs(SerialEnvs):
    """Environments of one worker and one group: steps, and requests by the names of these methods."""

    def _one_by_one(self) -> Iterator[int]:
        """Index of each environment, which is at work until the next is asked for."""
        for i in range(len(self.envs)):
            self.current[0] = self._first + i
            yield i

    def reset(self, request: ResetRequest) -> list[EnvInfo]:
        """Resets environments for the episodes in the buffers; what they raise is the caller's. Returns their infos."""
        infos: list[EnvInfo] = []
        for i in self._one_by_one():
            if request.which is None or request.which[i]:
                # without a seed some (Atari) would go on with an episode that isn't over
                obs = self._reset(i, options=request.options)
                self._write(self._buffers.obs, i, obs, first=True)
                infos.append(EnvInfo(self._first + i, self._info))
        return infos

    def call(self, call: Call) -> list[Any]:
        """Calls a method of each environment, or reads an attribute; what they raise is the caller's."""
        return [called(self.envs[i], call) for i in self._one_by_one()]

    def set_attr(self, assignment: Assignment) -> None:
        """Sets an attribute of each environment."""
        for i in self._one_by_one():
            assign(self.envs[i], assignment.name, assignment.values[i])

    def save_states(self, _: None = None) -> list[State | None]:
        """States of the environments that can save them; None for the others."""
        states = [save_state(self.envs[i]) if self._saves[i] else None for i in self._one_by_one()]
        self._saves = [state is not None for state in states]  # the methods of others serve another purpose
        return states

    def restore(self, replays: Sequence[EpisodeReplay]) -> dict[int, str]:
        """Brings all environments to their places: the seeds, episodes and observations that the buffers hold.

        Returns:
            Reasons, by index, of those that couldn't be brought there, and began their next episodes.
        """
        reasons: dict[int, str] = {}
        for i in self._one_by_one():
            try:
                self._restore_one(i, replays[i])
                continue
            except ReplayError as error:
                reasons[self._first + i] = str(error)
            except ENV_ERRORS as error:
                reasons[self._first + i] = f"it raised {type(error).__name__}: {error}"
                self._make(i)
            self._write(self._buffers.obs, i, self._next_episode(i), first=True)
        return reasons

    def _restore_one(self, i: int, replay: EpisodeReplay) -> None:
        """Raises ReplayError if environment i can't be brought to its place."""
        bring_to_place(self.envs[i], replay.state, partial(self._is_there, i), partial(self._repeat, i, replay))
        self._set_deadline(i, replay.steps)

    def _repeat(self, i: int, replay: EpisodeReplay) -> None:
        """Repeats the actions of environment i's episode; raises ReplayError if that doesn't bring it to its place."""
        buffers, env = self._buffers, self.envs[i]
        if replay.actions is None:
            raise ReplayError("its episode had become too long for its actions to be kept (`replay_limit`)")
        if buffers.episodes[i] and not self._reseeds:
            raise ReplayError("its episodes have no seeds of their own")
        obs, returns, steps = self._reset(i), 0.0, len(replay.actions[0])
        for done, action in enumerate(self._split(replay.actions), start=1):
            obs, reward, over, cut, _ = contract.checked_step(env, env.step(action), self._first + i)
            returns += reward
            if over or cut:
                raise ReplayError(f"its episode ended at step {done} of {steps} when its actions were repeated")
        if not self._is_there(i, obs) or not (
            self._declared or math.isclose(returns, replay.returns, rel_tol=1e-5, abs_tol=1e-5)
        ):
            raise ReplayError("it isn't deterministic: the same seed and actions led it elsewhere")

    def _is_there(self, i: int, obs: Any) -> bool:
        """True if an observation has the same bits as the one that environment i shall have."""
        buffers = self._buffers
        self._write(buffers.final_obs, i, obs)
        pairs = zip(buffers.obs, buffers.final_obs, strict=True)
        return all(there[i].tobytes() == here[i].tobytes() for there, here in pairs)

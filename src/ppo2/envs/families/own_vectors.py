"""Vector environments of packages' own, which are opt-in, as they are stepped by their own rules."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from ppo2.envs.families.atari import MAX_FRAMES
from ppo2.envs.families.ids import ENVPOOL, check_id, spec_of
from ppo2.envs.host.constructors import made_by
from ppo2.envs.host.env_types import AnyVectorEnv, NDArray
from ppo2.numerics.randomness import Purpose, environment_seeds


def make(env_id: str, num_envs: int, seed: int | None = None, **kwargs: Any) -> AnyVectorEnv:
    """Makes EnvPool's environments of an id, or the vector environment of its own that a registered id names.

    Raises:
        ValueError: it names none; or what its constructor raised.
    """
    how = f"Give its arguments by name: ppo2.make({env_id!r}, own_vector=True, NAME=...)."
    vector: AnyVectorEnv = made_by(lambda: _make(env_id, num_envs, seed, kwargs), f"`env` (={env_id!r})", how)
    return vector


def _make(env_id: str, num_envs: int, seed: int | None, kwargs: Mapping[str, Any]) -> AnyVectorEnv:
    """See `make`."""
    first_seed: dict[str, Any] = {} if seed is None else {"seed": environment_seeds(seed, Purpose.ENV, 1)[0]}
    vector: AnyVectorEnv
    if env_id.startswith(ENVPOOL):
        check_id(env_id)
        import envpool  # where it is installed

        # it is seeded when it is made, and never again
        vector = envpool.make_gymnasium(env_id.removeprefix(ENVPOOL), num_envs=num_envs, **{**first_seed, **kwargs})
    else:
        spec = spec_of(env_id)
        if str(spec.entry_point).startswith("ale_py"):
            vector = AleVectorEnv(spec, num_envs, kwargs)
        elif spec.vector_entry_point is not None:
            vector = gym.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **kwargs)
        else:
            raise ValueError(
                f"`env_id` (={spec.id!r}, own_vector=True) has no vector form of its own; leave own_vector out."
            )
    if first_seed:
        vector.reset(**first_seed)
    return vector


class AleVectorEnv(gym.vector.VectorWrapper):
    """ale-py's vector environment of a game, in C++, stepped by threads; SAME_STEP autoreset.

    Frames, rewards and ends are those of `AtariTreatment`, bit for bit (tests/envs/families/test_atari.py), but for an
    episode's start: FIRE is held for one frame instead of two actions, and after the loss of a life the game goes on
    without it. `infos["episode"]` has the games' own returns.
    """

    counts_episodes = True

    def __init__(self, spec: EnvSpec, num_envs: int, kwargs: Mapping[str, Any]) -> None:
        from ale_py.vector_env import AtariVectorEnv  # comes with the extra

        own: dict[str, Any] = {name: spec.kwargs[name] for name in ("repeat_action_probability", "full_action_space")}
        own |= {"life_loss_info": True, **kwargs}
        self._clip = own.pop("reward_clipping", True)
        self.max_episode_steps = own.get("max_num_frames_per_episode", MAX_FRAMES) // own.get("frameskip", 4)
        env = AtariVectorEnv(
            spec.kwargs["game"], num_envs, autoreset_mode=AutoresetMode.SAME_STEP, reward_clipping=False, **own
        )
        super().__init__(env)
        space: Any = env.single_observation_space
        self.single_observation_space = gym.spaces.Box(0, 255, (*space.shape[1:3], space.shape[0]), np.uint8)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, int)
        self._frame = np.zeros(num_envs, int)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, infos = self.env.reset(seed=seed, options=options)
        self._returns[:], self._lengths[:] = 0.0, 0
        self._frame = infos["episode_frame_number"].copy()
        return _last_axis(obs), infos

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self.env.step(np.asarray(actions))
        self._returns += rewards
        self._lengths += 1
        ended = terminated | truncated
        frame = infos["episode_frame_number"]
        over, self._frame = ended & (frame < self._frame), frame.copy()  # a new game counts frames from 0
        if ended.any():
            final = infos["final_obs"]
            infos = {**infos, "final_obs": np.full(len(ended), None, dtype=object), "_final_obs": ended}
            for i in np.flatnonzero(ended).tolist():
                last = final[i] if over[i] else obs[i]  # after the loss of a life `final_obs` holds nothing
                infos["final_obs"][i] = _last_axis(last[None])[0]
        if over.any():
            infos["episode"] = {"r": np.where(over, self._returns, 0.0), "l": np.where(over, self._lengths, 0)}
            infos["_episode"] = over
            self._returns[over], self._lengths[over] = 0.0, 0
        rewards = np.sign(rewards) if self._clip else rewards
        return _last_axis(obs), rewards, terminated, truncated, infos


def _last_axis(obs: NDArray) -> NDArray:
    """(n, stack, height, width) as (n, height, width, stack)."""
    return np.ascontiguousarray(np.moveaxis(obs, 1, -1))

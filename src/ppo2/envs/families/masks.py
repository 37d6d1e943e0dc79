"""Action masks from `info["action_mask"]`, made part of the observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from ppo2 import spaces
from ppo2.envs.host.env_types import AnyEnv, AnyVectorEnv, NDArray
from ppo2.envs.host.failures import ContractError

MASK_KEY = "action_mask"
ALL_LEGAL = object()
"""Placeholder of a mask under which all actions are legal."""


def read_mask(space: spaces.AnySpace, mask: Any, what: str = f"info[{MASK_KEY!r}]") -> Any:
    """Reads a mask as arrays of 0 and 1 (legal), int8, in the structure of the action space.

    Args:
        mask: for a Discrete n numbers, not 0 where legal; for a MultiDiscrete choice by choice, side by side or as a
            tuple; for a Tuple a tuple of these, for a Dict a dict, which may leave parts out. Parts of a Tuple that are
            no choice take anything, None too.
        what: name of the mask, for errors.

    Raises:
        ContractError: it is none of these.
    """

    def error(expected: str) -> ContractError:
        return ContractError(f"`env` gave {what} = {mask!r}; expected {expected}.")

    match space:
        case gym.spaces.Dict():
            mask = {} if mask is ALL_LEGAL else mask
            if not isinstance(mask, Mapping) or not set(mask) <= set(space.spaces):
                raise error(f"a dict of masks, by {', '.join(space.spaces)}")
            return {k: read_mask(part, mask.get(k, ALL_LEGAL), f"{what}[{k!r}]") for k, part in space.spaces.items()}
        case gym.spaces.Tuple():
            mask = [ALL_LEGAL] * len(space.spaces) if mask is ALL_LEGAL else mask
            if not isinstance(mask, Sequence | np.ndarray) or len(mask) != len(space.spaces):
                raise error(f"a tuple of {len(space.spaces)} masks")
            pairs = enumerate(zip(space.spaces, mask, strict=True))
            return tuple(read_mask(part, own, f"{what}[{i}]") for i, (part, own) in pairs)
        case gym.spaces.Discrete():
            count = int(space.n)
        case gym.spaces.MultiDiscrete():
            count = int(space.nvec.sum())
            if isinstance(mask, tuple | list) and all(np.ndim(choice) == 1 for choice in mask):
                mask = np.concatenate(mask)
        case _:
            return np.ones(1, np.int8)
    array = np.ones(count) if mask is ALL_LEGAL else np.asarray(mask)
    if array.dtype.kind not in "biuf" or array.shape != (count,) or np.isnan(array).any():
        raise error(f"{count} numbers, for the actions of {space}, not 0 where legal")
    return (array != 0).astype(np.int8)


def _masked_space(space: spaces.AnySpace, mask: Any) -> gym.spaces.Dict:
    """The space of observations with a mask."""

    def of(mask: Any) -> spaces.AnySpace:
        match mask:
            case dict():
                return gym.spaces.Dict({key: of(part) for key, part in mask.items()})
            case tuple():
                return gym.spaces.Tuple([of(part) for part in mask])
        return gym.spaces.Box(0, 1, mask.shape, np.int8)

    return gym.spaces.Dict({"observation": space, MASK_KEY: of(mask)})


class MaskedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Makes the observations of an environment {"observation": ..., "action_mask": ...}.

    Raises:
        ContractError: a step without a mask, unless it ends the episode, where it isn't used; or see `read_mask`.
    """

    def __init__(self, env: AnyEnv) -> None:
        super().__init__(env)
        self._all = read_mask(env.action_space, ALL_LEGAL)
        self.observation_space = _masked_space(env.observation_space, self._all)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info, over=False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(obs, info, over=bool(terminated or truncated)), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: dict[str, Any], *, over: bool) -> dict[str, Any]:
        if MASK_KEY not in info and not over:
            raise ContractError(
                f"`env` gave no info[{MASK_KEY!r}] at a step, but did at its first reset: give it at every one."
            )
        return {"observation": obs, MASK_KEY: self._all if over else read_mask(self.action_space, info[MASK_KEY])}


class MaskedVectorEnv(gym.vector.VectorWrapper):
    """`MaskedEnv` for a vector environment; its masks are (N, n)."""

    def __init__(self, env: AnyVectorEnv) -> None:
        super().__init__(env)
        self._all = read_mask(env.single_action_space, ALL_LEGAL)
        self._masks = [self._all] * env.num_envs
        space = _masked_space(env.single_observation_space, self._all)
        self._mask_space, self.single_observation_space = space[MASK_KEY], space
        self.observation_space = batch_space(space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        # copied before the reset, which takes it out of the options
        which = np.array((options or {}).get("reset_mask", np.ones(self.num_envs, bool)), bool)
        obs, infos = self.env.reset(seed=seed, options=options)
        return self._with_masks(obs, infos, which), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = self.env.step(actions)
        ended = np.asarray(terminated, bool) | np.asarray(truncated, bool)
        if self.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP:  # a new episode's first observation
            obs = self._with_masks(obs, infos, np.ones(self.num_envs, bool))
        else:
            self._masks = [self._all if over else mask for mask, over in zip(self._masks, ended, strict=True)]
            obs = self._with_masks(obs, infos, ~ended)
        if "final_obs" in infos:
            infos = {**infos, "final_obs": infos["final_obs"].copy()}
            for i in np.flatnonzero(ended):
                infos["final_obs"][i] = {"observation": infos["final_obs"][i], MASK_KEY: self._all}
        return obs, rewards, terminated, truncated, infos

    def _with_masks(self, obs: Any, infos: dict[str, Any], which: NDArray) -> dict[str, Any]:
        """Observations with masks: new ones for the environments in `which`, (N,), the last ones for the others."""
        given = np.asarray(infos.get(f"_{MASK_KEY}", np.full(self.num_envs, MASK_KEY in infos)), bool)
        for i in np.flatnonzero(which).tolist():
            what = f"infos[{MASK_KEY!r}]"
            if not given[i]:
                raise ContractError(f"`env` gave no {what} for environment {i}: give it at every reset and step.")
            mask = _row(infos[MASK_KEY], i)
            self._masks[i] = read_mask(self.single_action_space, mask, f"{what} of environment {i}")
        masks: Any = create_empty_array(self._mask_space, self.num_envs)
        return {"observation": obs, MASK_KEY: concatenate(self._mask_space, self._masks, masks)}


def _row(given: Any, i: int) -> Any:
    """Entry of environment i in a vector environment's infos, where Gymnasium makes dicts of arrays of dicts."""
    if isinstance(given, Mapping):
        return {key: _row(value, i) for key, value in given.items() if f"_{key}" in given}
    return given[i]

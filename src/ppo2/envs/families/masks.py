"""Action masks from `info["action_mask"]`, made part of the observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from ppo2 import spaces
from ppo2.envs.host import contract
from ppo2.envs.host.env_types import AnyEnv, AnyVectorEnv, NDArray
from ppo2.envs.host.failures import ContractError
from ppo2.spaces import MASK_KEY, MASK_METHOD

METHOD = f"{MASK_METHOD}()"
"""Name of the method that gives masks, for errors."""
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

    Args:
        by_method: True asks the environment's `action_masks()`; False reads info["action_mask"].

    Raises:
        ContractError: a step without a mask, unless it ends the episode, where it isn't used; or see `read_mask`.
    """

    def __init__(self, env: AnyEnv, *, by_method: bool = False) -> None:
        super().__init__(env)
        self.by_method = by_method
        self._all = read_mask(env.action_space, ALL_LEGAL)
        self.observation_space = _masked_space(env.observation_space, self._all)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        obs, info = contract.unpack_reset(self.env, self.env.reset(seed=seed, options=options))
        return self._with_mask(obs, info, over=False), info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = contract.unpack_step(self.env, self.env.step(action))
        over = bool(np.any(terminated) or np.any(truncated))
        return self._with_mask(obs, info, over=over), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: Any, *, over: bool) -> dict[str, Any] | None:
        if obs is None:  # an error where it is needed
            return None
        if over:
            return {"observation": obs, MASK_KEY: self._all}
        if self.by_method:
            return {"observation": obs, MASK_KEY: read_mask(self.action_space, asked_mask(self.env), METHOD)}
        if not isinstance(info, Mapping) or MASK_KEY not in info:
            raise ContractError(
                f"`env` gave no info[{MASK_KEY!r}] at a step, but did at its first reset: give it at every one."
            )
        return {"observation": obs, MASK_KEY: read_mask(self.action_space, info[MASK_KEY])}


def has_method(env: Any) -> bool:
    """True if an environment, or each one of a vector environment, has a method or an attribute `action_masks`."""
    if not isinstance(env, gym.vector.VectorEnv):
        return bool(env.has_wrapper_attr(MASK_METHOD))
    if hasattr(env, MASK_METHOD):
        return True
    if not isinstance(env.unwrapped, gym.vector.SyncVectorEnv | gym.vector.AsyncVectorEnv):
        return False
    call: Any = env.unwrapped.call
    return any(call("has_wrapper_attr", MASK_METHOD))


def asked_mask(env: Any) -> Any:
    """The legal actions by an environment's `action_masks`; of a vector environment a sequence of N."""
    if isinstance(env, gym.vector.VectorEnv) and not hasattr(env, MASK_METHOD):
        call: Any = env.unwrapped.call  # type: ignore[attr-defined]
        return call(MASK_METHOD)
    given = getattr(env, MASK_METHOD) if isinstance(env, gym.vector.VectorEnv) else env.get_wrapper_attr(MASK_METHOD)
    return given() if callable(given) else given


class MaskedVectorEnv(gym.vector.VectorWrapper):
    """`MaskedEnv` for a vector environment; its masks are (N, n)."""

    def __init__(self, env: AnyVectorEnv, *, by_method: bool = False) -> None:
        super().__init__(env)
        self.by_method = by_method
        self._all = read_mask(env.single_action_space, ALL_LEGAL)
        self._masks = [self._all] * env.num_envs
        space = _masked_space(env.single_observation_space, self._all)
        self._mask_space, self.single_observation_space = space[MASK_KEY], space
        self.observation_space = batch_space(space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        # copied before the reset, which takes it out of the options
        which = np.array((options or {}).get("reset_mask", np.ones(self.num_envs, bool)), bool)
        obs, infos = contract.unpack_reset(self.env, self.env.reset(seed=seed, options=options))
        return self._with_masks(obs, infos, which), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, rewards, terminated, truncated, infos = contract.unpack_step(self.env, self.env.step(actions))
        terminated = contract.to_flags(terminated, self.num_envs, "terminated")
        truncated = contract.to_flags(truncated, self.num_envs, "truncated")
        ended = terminated | truncated
        if self.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP:  # a new episode's first observation
            obs = self._with_masks(obs, infos, np.ones(self.num_envs, bool))
        else:
            self._masks = [self._all if over else mask for mask, over in zip(self._masks, ended, strict=True)]
            obs = self._with_masks(obs, infos, ~ended)
        if "final_obs" in infos:
            infos = {**infos, "final_obs": infos["final_obs"].copy()}
            for i in np.flatnonzero(ended):
                last = infos["final_obs"][i]
                infos["final_obs"][i] = None if last is None else {"observation": last, MASK_KEY: self._all}
        return obs, rewards, terminated, truncated, infos

    def _with_masks(self, obs: Any, infos: Mapping[str, Any], which: NDArray) -> dict[str, Any]:
        """Observations with masks: new ones for the environments in `which`, (N,), the last ones for the others."""
        what, masks = f"infos[{MASK_KEY!r}]", infos.get(MASK_KEY)
        given = np.asarray(infos.get(f"_{MASK_KEY}", np.full(self.num_envs, MASK_KEY in infos)), bool)
        if self.by_method:
            what, masks, given = METHOD, asked_mask(self.env), np.ones(self.num_envs, bool)
        if isinstance(masks, np.ndarray | Sequence) and len(masks) != self.num_envs:
            raise ContractError(f"`env` gave {what} of {len(masks)} environments; it has {self.num_envs}.")
        for i in np.flatnonzero(which).tolist():
            if not given[i]:
                raise ContractError(f"`env` gave no {what} for environment {i}: give it at every reset and step.")
            self._masks[i] = read_mask(self.single_action_space, _row(masks, i), f"{what} of environment {i}")
        batch: Any = create_empty_array(self._mask_space, self.num_envs)
        return {"observation": obs, MASK_KEY: concatenate(self._mask_space, self._masks, batch)}


def _row(given: Any, i: int) -> Any:
    """Entry of environment i in a vector environment's infos, where Gymnasium makes dicts of arrays of dicts."""
    if isinstance(given, Mapping):
        return {key: _row(value, i) for key, value in given.items() if f"_{key}" in given}
    return given[i]

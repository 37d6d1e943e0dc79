"""Vector environments in the form of Baselines, Stable-Baselines3 (VecEnv) and SuperSuit, as Gymnasium's; without JAX.

They declare the spaces of one environment, reset in the step that ends an episode, and give a list of infos, in which
`terminal_observation` is an episode's last.
"""

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from ppo2.envs.host import contract
from ppo2.envs.host.env_types import NDArray
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.infos import EnvInfo, gathered
from ppo2.spaces import MASK_METHOD
from ppo2.system.text import say_error

LAST_OBS, CUT = "terminal_observation", "TimeLimit.truncated"
"""Keys of an info at an episode's end: the last observation, and whether a time limit ended it."""


def is_vec_env(env: object) -> bool:
    """True for a vector environment in this form whose spaces are Gymnasium's."""
    if isinstance(env, gym.Env | type) or isinstance(getattr(env, "single_observation_space", None), gym.Space):
        return False
    if not all(isinstance(getattr(env, name, None), gym.Space) for name in ("observation_space", "action_space")):
        return False
    methods = ("reset", "step", "step_async", "step_wait")
    return isinstance(getattr(env, "num_envs", None), int | np.integer) and all(hasattr(env, name) for name in methods)


def as_gymnasium(env: Any) -> Any:
    """A vector environment in this form as one of Gymnasium's; anything else as it is."""
    return VecEnvAdapter(env) if is_vec_env(env) else env


def is_made(env: object) -> bool:
    """True if `env` is an environment of the host, or several, that the user has made: it is there once."""
    return isinstance(env, gym.Env | gym.vector.VectorEnv) or is_vec_env(env)


class VecEnvAdapter(gym.vector.VectorEnv):
    """A vector environment in the form of the module, in Gymnasium's; SAME_STEP autoreset.

    Args:
        venv: the vector environment; `step` returns (obs, rewards, dones, infos), or terminated and truncated apart.

    Raises:
        ContractError (`reset`, `step`): it returned something else.
    """

    def __init__(self, venv: Any) -> None:
        self.venv = venv
        self.num_envs = int(venv.num_envs)
        self.single_observation_space, self.single_action_space = venv.observation_space, venv.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        metadata = getattr(venv, "metadata", None)
        own = metadata if isinstance(metadata, Mapping) else {}
        self.metadata = {**own, "autoreset_mode": AutoresetMode.SAME_STEP}
        mode = getattr(venv, "render_mode", None)
        self.render_mode = mode if isinstance(mode, str) else None
        self._takes_seed, self._has_warned = _takes_seed(venv), False
        if _has_masks(venv):
            self.action_masks = lambda: venv.env_method(MASK_METHOD)

    @property
    def unwrapped(self) -> Any:
        """The vector environment inside all wrappers, which stepping this moves: by it `identity` knows this."""
        return getattr(self.venv, "unwrapped", self.venv)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._takes_seed:
            returned = self.venv.reset(seed=seed, options=options)
        else:
            if seed is not None:
                self._seed(seed)
            returned = self.venv.reset()
        obs: Any = returned
        infos: Any = getattr(self.venv, "reset_infos", None)
        if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], list | tuple | dict):
            obs, infos = returned
        if not self._is_list_of_infos(infos):  # SuperSuit's of other processes are in a form of their own
            return obs, {}
        return obs, gathered([EnvInfo(i, info) for i, info in enumerate(infos)], self.num_envs)

    def _seed(self, seed: Any) -> None:
        try:
            self.venv.seed(seed)
        except AttributeError:  # also of a wrapper around what has no seed
            if not self._has_warned:
                self._has_warned = True
                name = type(self.venv).__name__
                say_error(f"`env` ({name}) takes no seed, so that the same `seed` doesn't give the same run twice")

    def step(self, actions: Any) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        returned = self.venv.step(actions)
        count, several = self.num_envs, isinstance(returned, tuple | list)
        if not several or len(returned) not in (4, 5) or not self._is_list_of_infos(returned[-1]):
            raise ContractError(
                f"`env`: {type(self.venv).__name__}.step() must return (observations, rewards, dones, infos), or "
                f"terminated and truncated in the place of dones, with a list of {count} dicts as infos; it returned "
                f"{f'{len(returned)} values' if several else type(returned).__name__}. Fix what it returns."
            )
        obs, rewards, *flags, infos = returned
        if len(flags) == 1:
            ended = contract.to_flags(flags[0], count, "dones")
            truncated = ended & np.array([bool(info.get(CUT, False)) for info in infos], bool)
            terminated = ended & ~truncated
        else:
            terminated = contract.to_flags(flags[0], count, "terminated")
            truncated = contract.to_flags(flags[1], count, "truncated")
            ended = terminated | truncated
        if not ended.any():
            return obs, rewards, terminated, truncated, gathered(_each(infos, ended, None), count)
        final_obs = np.full(count, None, dtype=object)
        for i in np.flatnonzero(ended).tolist():
            # where dones are told apart, an agent that ended before the others has no new episode yet
            final_obs[i] = infos[i].get(LAST_OBS, None if len(flags) == 1 else _row(obs, i))
        found = gathered(_each(infos, ended, getattr(self.venv, "reset_infos", None)), count)
        return obs, rewards, terminated, truncated, {**found, "final_obs": final_obs, "_final_obs": ended}

    def render(self) -> Any:
        return self.venv.render()

    def close_extras(self, **kwargs: Any) -> None:
        self.venv.close()

    def _is_list_of_infos(self, infos: Any) -> bool:
        if not isinstance(infos, list | tuple) or len(infos) != self.num_envs:
            return False
        return all(isinstance(info, Mapping) for info in infos)


def _each(infos: Sequence[Mapping[str, Any]], ended: NDArray, resets: Any) -> list[EnvInfo]:
    """Infos of all environments: of those whose episode ended, the last one, and the new one's first where it shows."""
    is_apart = isinstance(resets, list | tuple) and len(resets) == len(infos)
    found = []
    for i, (info, over) in enumerate(zip(infos, ended.tolist(), strict=True)):
        plain = {key: value for key, value in info.items() if key != LAST_OBS}
        first = resets[i] if is_apart and over and isinstance(resets[i], Mapping) else plain
        found.append(EnvInfo(i, first, plain if over else None))
    return found


def _row(obs: Any, i: int) -> Any:
    """The observation of environment i in a batch."""
    if isinstance(obs, dict):
        return {key: _row(part, i) for key, part in obs.items()}
    return tuple(_row(part, i) for part in obs) if isinstance(obs, tuple) else np.array(obs[i])


def _has_masks(venv: Any) -> bool:
    """True if each environment has a method that gives masks."""
    with contextlib.suppress(AttributeError):  # also of a wrapper around what can't be asked
        return bool(venv.has_attr(MASK_METHOD))
    return False


def _takes_seed(venv: Any) -> bool:
    """True if the environments are reset as Gymnasium's are."""
    try:
        inspect.signature(venv.reset).bind(seed=0, options=None)
    except (TypeError, ValueError):
        return False
    return isinstance(venv, gym.vector.VectorEnv)

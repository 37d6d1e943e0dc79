"""Presets: arguments of `learn` that suit an environment, by its family and by its observations."""

import contextlib
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import jax

from ppo2 import networks, spaces
from ppo2.envs.construction import resolve
from ppo2.envs.device.env import is_device_env
from ppo2.envs.families.ids import check_id
from ppo2.envs.families.keywords import NOT_OF_ONE
from ppo2.envs.families.registry import DEFAULT, IMAGES, TWO_MLPS, family_of
from ppo2.system import runtime

NOT_SEEN = ("max_episode_steps", "reward_scale", "info_keys", "env_timeout", "replay_limit", "verbose")
"""Arguments of `ppo2.make` that change nothing of observations."""
CONVOLUTIONAL = "cnn"
"""Part of the names of networks that want images."""


def preset(env: Any, env_kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of `learn` that suit an environment; the command line starts from them.

    They are those of the family of its id. Where its observations may be others than the family's (an id of a package
    that no family has; `env_kwargs`; wrappers that it is registered with) it is made once, to look at them: images get
    a convolutional network, other observations none; only floats are normalised.

    Args:
        env: an id, or an environment in any other form that `learn` takes; of one that exists already, `num_envs` is
            left out.
        env_kwargs: arguments of the environment, on which its observations may depend: see `learn`.

    Raises:
        ValueError: no environment of this id is registered.
    """
    if isinstance(env, str):
        check_id(env)
        settings = family_of(env).preset(env)
        return settings if is_known(env, env_kwargs) else suited(settings, _space_of(env, env_kwargs))
    env_id = getattr(getattr(env, "spec", None), "id", None)
    settings = family_of(env_id).preset(env_id) if isinstance(env_id, str) else dict(DEFAULT.settings)
    settings = suited(settings, _space_of(env, env_kwargs))
    if isinstance(env, gym.Env | gym.vector.VectorEnv):
        settings.pop("num_envs", None)
    return settings


def suited(settings: Mapping[str, Any], space: spaces.AnySpace | None) -> dict[str, Any]:
    """A family's preset with the networks that observations of a space want; as it is where that isn't known."""
    if space is None:
        return dict(settings)
    found, convolves = for_images(space), CONVOLUTIONAL in settings["network"]
    if found:
        return {**(settings if convolves else IMAGES.settings), **found}
    leaves = spaces.leaves(spaces.unmasked(space), spaces.tree(spaces.unmasked(space)))
    normalised = {"normalize_obs": True} if any(map(spaces.has_statistics, leaves)) else {}
    if convolves:
        return {**settings, **TWO_MLPS, **normalised}
    return dict(settings) if normalised else {k: v for k, v in settings.items() if k != "normalize_obs"}


def for_images(space: spaces.AnySpace | None) -> dict[str, Any]:
    """The networks for observations that are an image, or have images among their parts; none where there is none."""
    if space is None:
        return {}
    found = jax.tree.leaves_with_path(spaces.tree(spaces.unmasked(space)))
    parts = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}
    images = {path: networks.for_images(leaf.shape) for path, leaf in parts.items() if _is_image(leaf)}
    encoders = {path: name for path, name in images.items() if name is not None}
    if not encoders or "" in encoders:
        return {"network": encoders[""]} if encoders else {}
    numbers = any(spaces.has_statistics(leaf) for leaf in parts.values())
    return {"network": "mlp", "encoders": encoders, **({"normalize_obs": True} if numbers else {})}


def _is_image(space: spaces.AnySpace) -> bool:
    """True for a picture: what is declared as one, or bytes of three axes."""
    return spaces.is_image(space) or (
        isinstance(space, gym.spaces.Box) and space.dtype == "uint8" and len(space.shape) == 3
    )


def is_known(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> bool:
    """True for an id whose family, or package, says what its observations are, made with these arguments."""
    if {*(env_kwargs or {})} - {*NOT_OF_ONE, *NOT_SEEN}:
        return False
    spec = gym.registry.get(env_id.rpartition(":")[2])
    if spec is not None and spec.additional_wrappers:
        return False
    return family_of(env_id) is not DEFAULT


def _space_of(env: Any, env_kwargs: Mapping[str, Any] | None) -> spaces.AnySpace | None:
    """The space of an environment's observations; None where it can't be made, which training will tell."""
    if is_device_env(env):
        return env.observation_space  # type: ignore[no-any-return]
    space = getattr(env, "single_observation_space", None) or getattr(env, "observation_space", None)
    if isinstance(space, gym.Space):
        return space
    runtime.begin()  # constructors of environments may compute
    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
        of_one = {name: value for name, value in (env_kwargs or {}).items() if name not in NOT_OF_ONE}
        made = resolve(env, 1, env_kwargs=of_one)
        try:
            return made.env.single_observation_space
        finally:
            if made.owned:
                made.env.close()
    return None

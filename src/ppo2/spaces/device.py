"""Observations on the device, and encoded for a network."""

import functools
import itertools
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree, Shaped

from ppo2.spaces.checks import device_dtype, integer_range
from ppo2.spaces.images import ENCODING, is_scaled
from ppo2.spaces.parts import AnySpace, tree


def on_device(space: AnySpace, obs: Any) -> PyTree[Array]:
    """An observation as arrays of the dtypes that it has on the device; pure."""
    return jax.tree.map(lambda leaf, x: jnp.asarray(x, device_dtype(leaf)), tree(space), obs)


def all_finite(obs: PyTree[Shaped[Array, "..."]], batch_axes: int) -> Bool[Array, "..."]:
    """True for observations without NaN and infinity; the first axes are the batch's."""
    leaves = jax.tree.leaves(obs)
    finite = jnp.ones(leaves[0].shape[:batch_axes], bool)
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            finite &= jnp.all(jnp.isfinite(leaf), axis=tuple(range(batch_axes, leaf.ndim)))
    return finite


def not_finite_part(obs: PyTree[Shaped[Array, "..."]], batch_axes: int) -> Int[Array, "..."]:
    """The first part of each observation that is NaN or infinite, as its index in `part_names`; -1 for none."""
    leaves = jax.tree.leaves(obs)
    found = jnp.full(leaves[0].shape[:batch_axes], -1, jnp.int32)
    for i, leaf in reversed([*enumerate(leaves)]):
        found = jnp.where(all_finite(leaf, batch_axes), found, i)
    return found


def part_names(space: AnySpace) -> list[str]:
    """The names of an observation's parts, such as "['pose']"; "" of one that has none."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree(space))]


def encode(
    space: AnySpace, obs: PyTree[Shaped[Array, "*shape"]], encoding: int = ENCODING
) -> PyTree[Shaped[Array, "*encoded"]]:
    """One observation as networks see it: part by part.

    Discrete is one-hot, MultiDiscrete the one-hots side by side, MultiBinary 0.0 and 1.0; a Box is float32, of an image
    between 0 and 1. An image of 8 bits stays as it is, for the network to convert (`ppo2.networks.layers.as_float`).

    Args:
        encoding: see `ppo2.spaces.images`.
    """
    return jax.tree.map(lambda leaf, x: _encode(leaf, x, encoding), tree(space), obs)


def _encode(space: AnySpace, obs: Shaped[Array, "*shape"], encoding: int) -> Shaped[Array, "*encoded"]:
    match space:
        case gym.spaces.Discrete():
            return jax.nn.one_hot(obs - int(space.start), int(space.n), dtype=jnp.float32)
        case gym.spaces.MultiDiscrete():
            choices, encoded, first = (obs - space.start.astype(obs.dtype)).ravel(), [], 0
            for n, equal in itertools.groupby(space.nvec.ravel().tolist()):  # one operation for those of one size
                last = first + sum(1 for _ in equal)
                encoded.append(jax.nn.one_hot(choices[first:last], n, dtype=jnp.float32).ravel())
                first = last
            return jnp.concatenate(encoded)
        case gym.spaces.Box() if is_scaled(space, encoding):
            return obs if obs.dtype == jnp.uint8 else obs.astype(jnp.float32) / 255.0
    return obs.astype(jnp.float32)


def out_of_range(space: AnySpace, obs: PyTree[Shaped[Array, "T N *shape"]]) -> Bool[Array, "T N"]:
    """True for observations of a rollout that are no members of a space of integers."""
    wrong: list[Bool[Array, "T N"]] = jax.tree.leaves(jax.tree.map(_out_of_range, tree(space), obs))
    return functools.reduce(jnp.logical_or, wrong)


def _out_of_range(space: AnySpace, obs: Shaped[Array, "T N *shape"]) -> Bool[Array, "T N"]:
    if isinstance(space, gym.spaces.Box):
        return jnp.zeros(obs.shape[:2], bool)
    # of the dtype and rank of the observations, which hold both
    low, high = (
        np.broadcast_to(bound, space.shape or ()).astype(obs.dtype)[None, None] for bound in integer_range(space)
    )
    wrong = (obs < low) | (obs > high)
    return jnp.any(wrong, axis=tuple(range(2, wrong.ndim)))

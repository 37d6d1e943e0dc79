"""Leaves of pytrees as NumPy arrays that files and messages can hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_key(leaf: object) -> bool:
    """True for an array of random keys."""
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def to_storable(leaf: Any) -> np.ndarray[Any, Any]:
    """The array of a leaf: keys as their words, a dtype that isn't NumPy's own, such as bfloat16, as its bits."""
    array = np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def from_storable(array: Any, like: Any) -> Any:
    """The inverse of `to_storable`, given a leaf of the same dtype."""
    if is_key(like):
        return jax.random.wrap_key_data(jax.device_put(array), impl=jax.random.key_impl(like))
    dtype = np.asarray(like).dtype
    return array.view(dtype) if dtype.kind == "V" else array

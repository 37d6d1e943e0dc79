"""Leaves as arrays that files can hold, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.storable import from_storable, is_key, to_storable

LEAVES = [
    np.arange(3.0),
    jnp.arange(3, dtype=jnp.bfloat16),
    jax.random.key(3),
    jax.random.split(jax.random.key(3), 2),
    jnp.float32(0.5),
]


@pytest.mark.parametrize("leaf", LEAVES, ids=["float64", "bfloat16", "key", "keys", "scalar"])
def test_leaves_are_stored_as_arrays_of_numpy_and_restored(leaf):
    stored = to_storable(leaf)
    assert stored.dtype.kind in "fu"
    restored = from_storable(stored, leaf)
    assert restored.dtype == leaf.dtype
    assert restored.shape == leaf.shape
    if is_key(leaf):
        restored, leaf = jax.random.key_data(restored), jax.random.key_data(leaf)
    np.testing.assert_array_equal(restored, leaf)


def test_bfloat16_is_stored_as_its_bits():
    # 1.0 is sign 0, exponent 127, mantissa 0: the upper half of float32's 0x3f800000
    assert to_storable(jnp.ones(1, jnp.bfloat16)).tolist() == [0x3F80]


def test_arrays_of_keys_are_recognised():
    assert is_key(jax.random.key(0))
    assert not is_key(jax.random.key_data(jax.random.key(0)))
    assert not is_key(np.zeros(2, np.uint32))

"""Arrays as one flat vector: the same as JAX's own, on the host without a compiled program."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from tests.support.compiling import compilations

from ppo2.numerics.flat import Packed, ravelled

TREE = {"a": np.float32([[1, 2, 3], [4, 5, 6]]), "b": (np.float32(7), np.float32([8, 9]))}


def test_flat_vector_is_jaxs_and_the_inverse_gives_the_arrays_back():
    flat, unravel = ravelled(TREE)
    np.testing.assert_array_equal(flat, ravel_pytree(TREE)[0])
    for make in (np.asarray, jnp.asarray):
        jax.tree.map(np.testing.assert_array_equal, unravel(make(flat)), TREE)
    jax.tree.map(np.testing.assert_array_equal, jax.jit(unravel)(flat), TREE)


def test_dtypes_come_back():
    tree = [jnp.bfloat16([1.5, 2]), np.float32([0.1])]
    flat, unravel = ravelled(tree)
    assert flat.dtype == np.float32
    assert [x.dtype for x in unravel(flat)] == [jnp.bfloat16, np.float32]


def test_empty_tree():
    flat, unravel = ravelled({})
    assert flat.shape == (0,)
    assert unravel(flat) == {}


def test_nothing_is_compiled_on_the_host():
    with compilations() as programs:
        flat, unravel = ravelled(jax.device_put(TREE))
        unravel(flat)
    assert programs == []


def test_scalars_are_packed_by_dtype_and_come_back():
    tree = {"a": np.float32(1.5), "n": np.int32(2**24 + 1), "rows": np.arange(3.0), "b": np.float32(-2), "none": None}
    packed = jax.jit(Packed.of)(tree)
    assert {name: x.shape for name, x in packed.scalars.items()} == {"float32": (2,), "int32": (1,)}
    found = packed.unpacked()
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    assert [type(found[name]) for name in "anb"] == [np.ndarray] * 3
    assert found["n"].dtype == np.int32


def test_packing_is_the_same_program_in_every_process():
    """The order of a set of names differs, and another program isn't found among those on the disk."""
    dtypes = ["int32", "float32", "bool", "uint8", "int8", "float16", "uint32"]
    assert list(Packed.of([np.zeros((), dtype) for dtype in dtypes]).scalars) == dtypes

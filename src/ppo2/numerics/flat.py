"""The arrays of a tree as one flat vector, and back; on the host, where nothing is compiled for it."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


@dataclass(frozen=True)
class Unravel:
    """Makes the arrays of a tree from a flat vector of them: NumPy's of NumPy's, and JAX's of JAX's."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[np.dtype[Any], ...]

    def __call__(self, flat: Any) -> PyTree[Any]:
        sizes = [math.prod(shape) for shape in self.shapes]
        on_host, ends = isinstance(flat, np.ndarray), itertools.accumulate(sizes)
        # One operation: its derivative joins the pieces, where that of slices would add up vectors of the whole length.
        pieces: Any = (
            [flat[end - size : end] for size, end in zip(sizes, ends, strict=True)]
            if on_host
            else jax.lax.split(flat, sizes)
        )
        parts = zip(pieces, self.shapes, self.dtypes, strict=True)
        return jax.tree.unflatten(self.structure, [x.reshape(shape).astype(dtype) for x, shape, dtype in parts])


def ravelled(tree: PyTree[Any]) -> tuple[Any, Unravel]:
    """The arrays of a tree in one vector of NumPy, of the dtype that holds all of them, and its inverse."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in leaves]
    shapes, dtypes = tuple(x.shape for x in arrays), tuple(x.dtype for x in arrays)
    dtype = jnp.result_type(*dtypes) if arrays else np.dtype(np.float32)
    flat = np.concatenate([np.empty(0, dtype), *(x.ravel().astype(dtype, copy=False) for x in arrays)])
    return flat, Unravel(structure, shapes, dtypes)

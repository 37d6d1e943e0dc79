"""The arrays of a tree as one flat vector, and back; its scalars packed for the way from a program to the host."""

import itertools
import math
from dataclasses import dataclass, field
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """A tree with its scalars in one array for each dtype: a compiled program makes each of its results by an operation
    of its own, which takes its time, and at the first start a hundredth of a second and a megabyte to compile.

    Attributes:
        scalars: by dtype, in the order of the tree.
        others: the leaves that are no scalars.
        dtypes: the dtype of each leaf; "" where it is no scalar.
    """

    scalars: dict[str, Any]
    others: list[Any]
    structure: Any = field(metadata={"static": True})
    dtypes: tuple[str, ...] = field(metadata={"static": True})

    @classmethod
    def of(cls, tree: PyTree[Any]) -> "Packed":
        """The packed tree; pure."""
        leaves, structure = jax.tree.flatten(tree)
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        dtypes = tuple("" if x.ndim else str(x.dtype) for x in arrays)
        pairs = [*zip(dtypes, arrays, strict=True)]
        # in order: a set's differs from process to process, and with it the program
        names = [name for name in dict.fromkeys(dtypes) if name]
        scalars = {name: jnp.stack([x for of, x in pairs if of == name]) for name in names}
        return cls(scalars, [x for of, x in pairs if not of], structure, dtypes)

    def unpacked(self) -> PyTree[Any]:
        """The tree, with scalars as arrays of NumPy; waits for the program."""
        rows = {name: iter([x[i, ...] for i in range(len(x))]) for name, x in jax.device_get(self.scalars).items()}
        others = iter(self.others)
        return jax.tree.unflatten(self.structure, [next(rows[name]) if name else next(others) for name in self.dtypes])

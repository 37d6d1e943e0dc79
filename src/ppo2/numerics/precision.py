"""The precision of products: of matrices, and of convolutions.

JAX leaves it to the platform how float32 is multiplied, and an NVIDIA card then rounds the factors to TF32, of 10 bits.
Here float32 is float32, unless a person asks for less:

| precision | factors | sums |
|---|---|---|
| "float32" | as they are | float32 |
| "tf32" | rounded to 10 bits on NVIDIA cards; as they are on CPU; TPUs take three passes of 8 bits | float32 |
| "bf16" | rounded to bfloat16, of 7 bits, on every platform | float32; of gradients by `multiplied`, bfloat16 at last |

It is JAX's own `jax_default_matmul_precision` that carries it to the products, those of users' networks too; but
"bfloat16" means other things there on other platforms, so that `multiplied` rounds by itself.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

NAMES = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}
"""JAX's names."""
EXPONENT_BITS, MANTISSA_BITS = 8, 7
"""Bits of a bfloat16."""


def products(precision: str | None = None) -> contextlib.AbstractContextManager[Any]:
    """Context of a trace whose products have a precision of NAMES.

    None: float32, or whatever `jax_default_matmul_precision` is set to.
    """
    if precision is None and users_own() is not None:
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = jax.default_matmul_precision(NAMES[precision or "float32"])
    return context


def users_own() -> str | None:
    """The value of `jax_default_matmul_precision`, here and now; None where none is set."""
    config: Any = jax.config
    found: str | None = config.jax_default_matmul_precision
    return found


def rounds() -> bool:
    """True where factors are rounded to bfloat16."""
    return users_own() == NAMES["bf16"]


def rounded(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Numbers as bfloat16. Without `reduce_precision` XLA may leave the rounding out where it multiplies in float32."""
    return jax.lax.reduce_precision(x, EXPONENT_BITS, MANTISSA_BITS).astype(jnp.bfloat16)


def as_factor(rounding: bool, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A factor of a product: rounded to bfloat16 if asked for."""
    return rounded(x) if rounding else x


def multiplied(product: Callable[..., Array], a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """`product(a, b)`, linear in each of the two, at the precision that is set.

    Args:
        product: takes `preferred_element_type`, the dtype of its result.
    """
    return _of_rounded(product, a, b) if rounds() else product(a, b)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _of_rounded(product: Callable[..., Array], a: Array, b: Array) -> Array:
    return product(rounded(a), rounded(b), preferred_element_type=jnp.float32)


def _derivative(product: Callable[..., Array], factors: tuple[Array, Array], tangents: Any) -> tuple[Array, Array]:
    # Transposed, the results' gradient is rounded on its way in, so that both factors are bfloat16 again: JAX's own
    # rule would multiply it in float32, as the result is.
    a, b = map(rounded, factors)
    da, db = tangents
    parts = [] if isinstance(da, SymbolicZero) else [product(da.astype(jnp.bfloat16), b)]
    parts += [] if isinstance(db, SymbolicZero) else [product(a, db.astype(jnp.bfloat16))]
    result = product(a, b, preferred_element_type=jnp.float32)
    wide = (jax.lax.reduce_precision(x.astype(jnp.float32), EXPONENT_BITS, MANTISSA_BITS) for x in parts)
    return result, sum(wide, jnp.zeros_like(result))


_of_rounded.defjvp(_derivative, symbolic_zeros=True)


@jax.custom_vjp
def rounded_rows_times(x: Float[Array, "B i"], weight: Float[Array, "o i"]) -> Float[Array, "B o"]:
    """Rows times the transposed weight, of factors rounded to bfloat16; gradients, too, are sums in float32.

    This form alone, both factors bfloat16 and the result float32, is what processors with AMX multiply fast. All rows
    at once: under `vmap` the gradient of the weight would be a product for each.
    """
    return _rows_times(x, weight)[0]


def _rows_times(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    return _summed_wide(rounded(x), rounded(weight).T), (x, weight)


def _rows_backward(factors: tuple[Array, Array], cotangent: Float[Array, "B o"]) -> tuple[Array, Array]:
    x, weight = factors
    cotangent = rounded(cotangent)
    by_x, by_weight = _summed_wide(cotangent, rounded(weight)), _summed_wide(cotangent.T, rounded(x))
    return by_x.astype(x.dtype), by_weight.astype(weight.dtype)


_summed_wide = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)

rounded_rows_times.defvjp(_rows_times, _rows_backward)

"""Linear recurrences over time, step by step on CPU, in a logarithm of the steps elsewhere."""

import jax
from jaxtyping import Array, Float

from ppo2.numerics.compilation import platform


def linear_recurrence(
    factors: Float[Array, "T N"], terms: Float[Array, "T N"], first: Float[Array, " N"], *, reverse: bool = False
) -> Float[Array, "T N"]:
    """x_t = factors_t x_{t-1} + terms_t from x_{-1} = `first`; `reverse`: from x_{t+1}, and x_T = `first`.

    An accelerator launches a few kernels for each turn of a loop, whatever they compute. Blelloch's scan (1990, Prefix
    sums and their applications, section 1.4) takes 2 log2(T) turns; float rounds it in another order, to about 1e-6.
    """
    if platform() == "cpu":

        def step(before: Float[Array, " N"], now: tuple[Array, Array]) -> tuple[Array, Array]:
            factor, term = now
            after = term + factor * before
            return after, after

        return jax.lax.scan(step, first, (factors, terms), reverse=reverse)[1]
    begin = -1 if reverse else 0
    terms = terms.at[begin].add(factors[begin] * first)

    def both(before: tuple[Array, Array], after: tuple[Array, Array]) -> tuple[Array, Array]:
        """One step in the place of two."""
        return before[0] * after[0], after[1] + after[0] * before[1]

    found: Float[Array, "T N"] = jax.lax.associative_scan(both, (factors, terms), reverse=reverse)[1]
    return found

"""Loops by turns of several steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics import loops
from ppo2.numerics.loops import operations, scan_by_turns


def step(carry: Any, now: Any) -> Any:
    total, last = carry
    total = 0.9 * total + jnp.sin(now["x"])
    return (total, now["x"]), {"total": total, "before": last, "none": None}


def turns_of(length: int, by_turns: Any = scan_by_turns) -> Any:
    xs = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(length, 3)), jnp.float32)}
    weight = jnp.float32(0.5)

    def run(weight: Any) -> Any:
        # a value of the outer trace inside of the step, as a policy's parameters are
        return by_turns(lambda carry, now: step((weight * carry[0], carry[1]), now), (jnp.zeros(3), jnp.ones(3)), xs)

    return jax.jit(run), weight


@pytest.mark.parametrize("length", [1, 3, 8, 10])
def test_turns_of_several_steps_give_the_numbers_of_single_steps(length: int) -> None:
    found, weight = turns_of(length)
    expected, _ = turns_of(length, jax.lax.scan)
    # A compiler may join a product and a sum in one loop and not in the other (on a card; since JAX 0.11 on a CPU): a
    # last bit.
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, rtol=1e-6), found(weight), expected(weight))


@pytest.mark.parametrize(("most", "expected"), [(8, 4), (4, 4), (3, 2), (1, 1), (0.5, 1)])
def test_small_steps_share_a_turn_and_large_ones_dont(
    monkeypatch: pytest.MonkeyPatch, most: float, expected: int
) -> None:
    made, weight = turns_of(8)
    size = operations(jax.make_jaxpr(step)((jnp.zeros(3), jnp.ones(3)), {"x": jnp.ones(3)}).jaxpr) + 1
    monkeypatch.setattr(loops, "MOST_OPERATIONS", int(most * size))
    scan = next(eqn for eqn in made.trace(weight).jaxpr.eqns if eqn.primitive.name == "scan")
    assert scan.params["unroll"] == expected


def test_operations_of_inner_functions_and_loops_count() -> None:
    def outer(x: Any) -> Any:
        return jax.lax.scan(lambda total, now: (total + jnp.sin(now), None), 0.0, x)[0]

    assert operations(jax.make_jaxpr(jnp.sin)(1.0).jaxpr) == 1
    assert operations(jax.make_jaxpr(outer)(jnp.ones(3)).jaxpr) >= 3

"""The precision of products, in programs for other platforms too, which are lowered without them."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks.convolution import by_xla
from ppo2.numerics.compilation import compiled
from ppo2.numerics.precision import multiplied, products, rounded_rows_times, rounds

A, B = (np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32) for _ in range(2))


def operations(function: Any, *arguments: Any) -> list[str]:
    """The products of a function, as they are told to XLA for an NVIDIA card."""
    text = compiled(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
    return re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)


def of_bfloat16(x: Any) -> np.ndarray[Any, Any]:
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


def test_products_of_all_programs_are_float32():
    (product,) = operations(lambda a, b: a @ b, A, B)
    assert "precision = [HIGHEST, HIGHEST]" in product
    with jax.enable_x64(True):
        assert "HIGHEST" in operations(lambda a, b: a @ b, A, B)[0]


@pytest.mark.parametrize(("users", "found"), [("tensorfloat32", "HIGH, HIGH"), ("bfloat16", "DEFAULT, DEFAULT")])
def test_what_a_user_has_set_in_jax_wins(users: str, found: str):
    with jax.default_matmul_precision(users):
        (product,) = operations(lambda a, b: a @ b, A, B)
        assert rounds() == (users == "bfloat16")
    assert f"precision = [{found}]" in product


@pytest.mark.parametrize("users", [None, "tensorfloat32"])
def test_what_is_asked_for_here_goes_before_it(users: str | None):
    def two(a: Any, b: Any) -> Any:
        with products("tf32"):
            first = a @ b
        with products("float32"):
            return first @ b

    with jax.default_matmul_precision(users):
        first, second = operations(two, A, B)
    assert "precision = [HIGH, HIGH]" in first
    assert "precision = [HIGHEST, HIGHEST]" in second


@pytest.mark.parametrize(("precision", "name"), [("float32", "HIGHEST"), ("tf32", "HIGH")])
def test_gradients_are_as_precise(precision: str, name: str):
    def gradients(a: Any, b: Any) -> Any:
        def loss(a: Any, b: Any) -> Any:
            with products(precision):
                return jnp.sum(jnp.tanh(multiplied(jnp.matmul, a, b)))

        return jax.grad(loss, (0, 1))(a, b)

    found = operations(gradients, A, B)
    assert len(found) == 3
    assert all(
        f"precision = [{'HIGHEST, HIGHEST' if precision == 'float32' else 'HIGH, HIGH'}]" in one for one in found
    )


def rounded_product(a: Any, b: Any) -> Any:
    with products("bf16"):
        return multiplied(jnp.matmul, a, b)


def test_factors_are_rounded_to_bfloat16_and_sums_are_not():
    expected = of_bfloat16(A) @ of_bfloat16(B)
    assert np.abs(expected - A.astype(np.float64) @ B).max() > 1e-3
    found = compiled(rounded_product)(A, B)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_gradients_multiply_what_is_rounded():
    _, back = jax.vjp(compiled(rounded_product), A, B)
    cotangent = np.random.default_rng(1).normal(size=(8, 8)).astype(np.float32)
    by_a, by_b = back(jnp.asarray(cotangent))
    # the sums are rounded once more: half a unit in the eighth bit
    np.testing.assert_allclose(by_a, of_bfloat16(cotangent) @ of_bfloat16(B).T, rtol=2**-8, atol=1e-6)
    np.testing.assert_allclose(by_b, of_bfloat16(A).T @ of_bfloat16(cotangent), rtol=2**-8, atol=1e-6)


def test_every_factor_of_a_batch_and_its_gradient_is_bfloat16():
    def gradient(weight: Any, x: Any) -> Any:
        def loss(weight: Any) -> Any:
            return jnp.sum(jax.vmap(functools.partial(rounded_product, weight))(x) ** 2)

        return jax.grad(loss)(weight)

    found = operations(gradient, A, B)
    assert len(found) == 2  # none for `x`, of which no gradient is asked
    assert all(re.search(r"\(tensor<8x8xbf16>, tensor<8x8xbf16>\)", one) for one in found)


def test_convolutions_too():
    images, kernel, bias = np.ones((2, 9, 9, 3), np.float32), np.ones((3, 3, 3, 4), np.float32), np.zeros(4, np.float32)

    def gradients(precision: str | None, images: Any, kernel: Any) -> Any:
        def loss(images: Any, kernel: Any) -> Any:
            with products(precision):
                return jnp.sum(by_xla(1, "valid", images, kernel, bias) ** 2)

        return jax.grad(loss, (0, 1))(images, kernel)

    full, less = (operations(functools.partial(gradients, one), images, kernel) for one in (None, "bf16"))
    assert len(full) == len(less) == 3
    # MLIR's text writes HIGHEST as it is named
    assert all(one.count("HIGHEST") == 2 for one in full)
    assert all(one.count("bf16>") in (2, 3) for one in less)


def test_rows_and_their_gradients_are_sums_in_float32_of_what_is_rounded():
    x, weight = (np.random.default_rng(i).normal(size=(rows, 40)).astype(np.float32) for i, rows in ((2, 6), (3, 5)))
    cotangent = np.random.default_rng(4).normal(size=(6, 5)).astype(np.float32)
    found, back = jax.vjp(compiled(rounded_rows_times), x, weight)
    by_x, by_weight = back(jnp.asarray(cotangent))
    seen, by, weights = map(of_bfloat16, (x, cotangent, weight))
    for mine, expected in ((found, seen @ weights.T), (by_x, by @ weights), (by_weight, by.T @ seen)):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-5)


def test_each_of_many_weights_has_its_own_gradient():
    def gradient(weight: Any) -> Any:
        return jax.grad(lambda weight: jnp.sum(jnp.sin(rounded_rows_times(A, weight))))(weight)

    weights = np.stack([A, B])
    together = jax.jit(jax.vmap(gradient))(weights)
    np.testing.assert_allclose(together, [jax.jit(gradient)(one) for one in weights], rtol=0, atol=1e-5)

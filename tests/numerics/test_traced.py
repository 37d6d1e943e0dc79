"""Traced functions: called functions' operations in place, without those that nothing needs, divided into two kinds."""

import jax
import jax.numpy as jnp
import numpy as np

from ppo2.numerics.traced import Traced

VECTOR = np.zeros(3, np.float32)


def names(traced: Traced, *, varies: bool) -> list[str]:
    return [operation.name for operation in traced.operations if operation.varies is varies]


def test_operations_of_called_functions_in_order_without_unneeded_ones() -> None:
    @jax.custom_jvp
    def twice(x):
        return jax.lax.stop_gradient(jax.jit(lambda x: x + x)(x))

    twice.defjvp(lambda at, along: (twice(*at), along[0]))

    def function(fixed, varying):
        unneeded = jnp.cos(varying["x"])
        _, kept = jax.jit(lambda a: (unneeded + a, jnp.sin(a)))(varying["x"])
        return {"y": kept * jnp.exp(fixed), "z": jax.checkpoint(twice)(varying["x"])}

    traced = Traced(function, VECTOR, {"x": VECTOR})
    assert names(traced, varies=True) == ["sin", "mul", "add"]
    assert names(traced, varies=False) == ["exp"]
    assert len(traced.fixed) == len(traced.varying) == 1
    assert traced.arguments == jax.tree.structure({"x": 0})
    assert traced.result == jax.tree.structure({"y": 0, "z": 0})
    sine, product = (operation for operation in traced.operations if operation.name in ("sin", "mul"))
    assert sine.arguments == traced.varying
    assert product.results[0] is traced.outputs[0]


def test_a_function_called_twice_has_two_results() -> None:
    called = jax.jit(lambda x: jnp.sin(x))  # traced once
    traced = Traced(lambda fixed, x: called(called(x)), (), VECTOR)
    first, second = traced.operations
    assert second.arguments[0] is first.results[0]
    assert traced.outputs == second.results


def test_constants_and_effects() -> None:
    table = jnp.asarray([1.0, 2.0, 3.0], jnp.float32)
    traced = Traced(lambda fixed, x: x * table + 2, (), VECTOR)
    product, total = traced.operations
    numbers = [value.number for value in (*product.arguments, *total.arguments) if value.number is not None]
    np.testing.assert_array_equal(numbers[0], [1, 2, 3])
    np.testing.assert_array_equal(numbers[1], np.float32(2))
    assert not traced.has_effects

    def told(fixed, x):
        jax.debug.callback(lambda: None)
        return x

    assert Traced(told, (), VECTOR).has_effects


def test_numbers_that_the_first_argument_alone_makes() -> None:
    traced = Traced(lambda fixed, varying: (fixed * 2) @ jnp.sin(varying), VECTOR, VECTOR)
    found = [number.tolist() for number in traced.fixed_numbers(VECTOR + 3).values()]
    assert found == [[6.0, 6.0, 6.0]]


def test_an_array_of_unknown_size_varies() -> None:
    (size,) = jax.export.symbolic_shape("n")
    x = jax.ShapeDtypeStruct((size,), np.float32)
    traced = Traced(lambda fixed, varying: jnp.broadcast_to(fixed, (varying.shape[0], 3)), VECTOR, x)
    assert names(traced, varies=True) == ["broadcast_in_dim"]

"""Traced functions by NumPy: the numbers of the compiled program, without warnings, memory of their own."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics import numpy_translations
from ppo2.numerics.numpy_calls import LINE, UntranslatableError, aligned
from ppo2.numerics.numpy_function import NumpyFunction
from ppo2.numerics.traced import Traced

ODD = np.array([[0, -0.0, 1, -1], [0.3, -2.5, 88.9, -104], [np.nan, np.inf, -np.inf, 1e-30]], np.float32)
FLAGS = np.array([[True, False, True, True], [False] * 4, [True] * 4])
WHOLE = np.array([[0, 3, -2, 7], [1, 2, 3, 2], [-9, 5, 5, 0]], np.int32)


def both(function: Any, fixed: Any, *varying: Any) -> tuple[Any, Any]:
    """The results of a function by NumPy and of the compiled program."""
    made = NumpyFunction(Traced(lambda fixed, varying: function(fixed, *varying), fixed, varying))
    made.fix(fixed)
    made(*jax.tree.map(np.zeros_like, varying))  # leaves nothing behind
    return made(*varying), jax.jit(function)(fixed, *varying)


def assert_equal(function: Any, fixed: Any, *varying: Any, rtol: float = 2e-6, atol: float = 1e-37) -> None:
    found, expected = both(function, fixed, *varying)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=atol)


ACTIVATIONS = (
    "tanh",
    "relu",
    "elu",
    "gelu",
    "silu",
    "leaky_relu",
    "sigmoid",
    "softplus",
    "mish",
    "selu",
    "log_softmax",
)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    numbers = np.linspace(-6, 6, 24, dtype=np.float32).reshape(4, 6)
    assert_equal(lambda _, x: getattr(jax.nn, name)(x), (), numbers, rtol=1e-5, atol=1e-6)


ELEMENTWISE = {
    "of_numbers": lambda _, x, flags, whole: (jnp.abs(x), jnp.sign(x), -x, jnp.floor(x), jnp.ceil(x), jnp.square(x)),
    "sums": lambda _, x, flags, whole: (x + 2, 2 - x, x * x, x / 3, whole + 1, whole * whole, whole - whole.T[:3, :1]),
    "bounds": lambda _, x, flags, whole: (jnp.clip(x, -1, 1), jnp.maximum(x, 0), jnp.minimum(x, x[:, :1])),
    "powers": lambda _, x, flags, whole: (x**2, x**3, x**4, jnp.sqrt(x), jax.lax.rsqrt(x), jnp.abs(x) ** 0.3),
    "compared": lambda _, x, flags, whole: (x > 0, x >= 0, x < 0, x <= x[0], x == 0, x != x, whole == 2, ~flags),
    "flags": lambda _, x, flags, whole: (flags & (x > 0), flags | (x > 0), jnp.isfinite(x)),
    "chosen": lambda _, x, flags, whole: (jnp.where(flags, x, 0), jnp.where(jnp.isfinite(x), x, 7), flags.any(-1)),
    "converted": lambda _, x, flags, whole: (flags.astype(jnp.float32), whole.astype(jnp.float32), flags.astype(int)),
    "reduced": lambda _, x, flags, whole: (x[:2].sum(-1), x.max(-1, keepdims=True), x.min(0), flags.all(0)),
    "largest": lambda _, x, flags, whole: (x.argmax(-1), whole.argmin(0), jnp.stack([x.argmax(1), whole[:, 0]], -1)),
    "arranged": lambda _, x, flags, whole: (
        x.T.reshape(-1),
        x[1:, ::2],
        jnp.concatenate([x, x[:1]]),
        x[None, ..., None],
    ),
    "split": lambda _, x, flags, whole: jnp.split(x, [1, 3], axis=-1),
    "one_hot": lambda _, x, flags, whole: jax.nn.one_hot(whole, 5),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_operations(name: str) -> None:
    assert_equal(ELEMENTWISE[name], (), ODD, FLAGS, WHOLE)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_products(rows: int) -> None:
    random = np.random.default_rng(0)
    x, a, b = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 7), (7, 6), (6, 3)))

    def function(fixed, x):
        a, b = fixed
        h = jnp.tanh(x @ a)
        left = jax.vmap(lambda one: b.T @ one)(h)  # a product of which only the transpose is used
        return left, (b.T @ h.T), h @ h.T, h @ jnp.exp(b), (x @ a[:, :1])

    assert_equal(function, (a, b), x, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_large_products_are_cut_so_that_blas_makes_them_in_one_thread(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_translations, "MOST_OF_VECTOR_PRODUCT", 40)
    monkeypatch.setattr(numpy_translations, "MOST_OF_PRODUCT", 4 * 70)
    random = np.random.default_rng(0)
    x, w = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 7), (7, 10)))
    traced = Traced(lambda w, x: x[0] @ w, w, (x,))
    if rows == 3:  # 2 rows and 1, whose product is one with a vector
        monkeypatch.setattr(numpy_translations, "MOST_OF_PRODUCT", 2 * 70)
        with pytest.raises(UntranslatableError, match="dot_general"):
            NumpyFunction(traced)
        return
    made = NumpyFunction(traced)
    made.fix(w)
    np.testing.assert_allclose(made(x), x @ w, rtol=1e-5)
    # of a vector 10 rows of 7 by fives, of eight two times four
    assert made.count == {1: 2, 2: 1, 8: 2}[rows]
    assert made.products == rows * 70


def test_nothing_is_told_and_a_users_settings_stay() -> None:
    made = NumpyFunction(Traced(lambda f, x: jnp.exp(x[0]) / (f - x[0]), np.float32(1), (ODD,)))
    made.fix(np.float32(1))
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        made.fix(np.float32(np.inf))
        made.fix(np.float32(1))
        found = made(ODD)
        assert set(np.geterr().values()) == {"raise"}
    assert np.isnan(found[2, 0])
    assert np.isinf(found[0, 2])


def test_results_are_new_arrays_and_arguments_are_read_when_called() -> None:
    made = NumpyFunction(Traced(lambda f, x: (x[0] + f, x[0].T), np.float32(0), (WHOLE.astype(np.float32),)))
    made.fix(np.float32(1))
    first, same = made(np.ones((3, 4), np.float32))
    made(np.zeros((3, 4), np.float32))
    assert (first == 2).all()
    assert (same == 1).all()
    made.fix(np.float32(5))
    assert (made(jnp.zeros((3, 4), jnp.float32))[0] == 5).all()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda f, x: jnp.cumsum(x[0], 0), "cumsum"),
        (lambda f, x: x[0].astype(jnp.bfloat16).astype(jnp.float32), "bfloat16"),
        (lambda f, x: jnp.einsum("bi,bj->b", x[0], x[0]), "dot_general"),
        (lambda f, x: x[0].astype(jnp.int32), "convert_element_type"),
        (lambda f, x: jax.lax.fori_loop(0, 3, lambda i, y: y + i, x[0]), "scan|while"),
        (lambda f, x: (jax.debug.print("{}", x[0]), x[0])[1], "effects"),
        (lambda f, x: x[0] + jax.random.normal(jax.random.key(0), (4,)), "key<fry>"),
        (lambda f, x: x[0][:, :0] @ x[0][:0], "dot_general"),
        (lambda f, x: x[0] @ x[0].T[:, :0], "dot_general"),
        (lambda f, x: jnp.bitwise_or.reduce(jnp.argmax(x[0], 0)), "reduce_or"),
    ],
)
def test_whatever_numpy_has_no_call_for(function: Any, reason: str) -> None:
    with pytest.raises(UntranslatableError, match=reason):
        NumpyFunction(Traced(function, (), (ODD,)))


def test_arrays_begin_at_lines_of_the_cache() -> None:
    for shape in ((), (1,), (3, 5), (64,)):
        array = aligned(shape, np.float32)
        assert array.shape == shape
        assert array.ctypes.data % LINE == 0
        assert array.flags.c_contiguous

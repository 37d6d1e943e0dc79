"""Linear recurrences over time, on CPU and as on an accelerator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.recurrence import linear_recurrence
from support import accelerator

NAN = float("nan")


@pytest.fixture(params=["cpu", "accelerator"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "accelerator":
        accelerator.pretend(monkeypatch)
    return str(request.param)


def solved(factors: Any, terms: Any, first: Any, *, reverse: bool = False) -> Any:
    arrays = (jnp.asarray(np.asarray(x), jnp.float32) for x in (factors, terms, first))
    return np.asarray(jax.jit(lambda *of: linear_recurrence(*of, reverse=reverse))(*arrays))


@pytest.mark.usefixtures("platform")
def test_by_hand() -> None:
    factors, terms = [[0.5], [0.0], [2.0]], [[1.0], [3.0], [4.0]]
    # 1 + 0.5 * 8 = 5, 3 + 0 * 5 = 3, 4 + 2 * 3 = 10; backwards 4 + 2 * 8 = 20, 3 + 0 * 20 = 3, 1 + 0.5 * 3 = 2.5
    np.testing.assert_array_equal(solved(factors, terms, [8.0])[:, 0], [5, 3, 10])
    np.testing.assert_array_equal(solved(factors, terms, [8.0], reverse=True)[:, 0], [2.5, 3, 20])


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [1, 7, 128])
def test_as_in_float64(steps: int, reverse: bool) -> None:
    rng = np.random.default_rng(steps)
    factors = np.float32(0.95 * (rng.random((steps, 5)) > 0.05))
    terms, first = np.float32(rng.normal(size=(steps, 5))), np.float32(rng.normal(size=5))
    expected, x = np.zeros((steps, 5)), first.astype(np.float64)
    for t in reversed(range(steps)) if reverse else range(steps):
        expected[t] = x = factors[t] * x + terms[t]
    found = solved(factors, terms, first, reverse=reverse)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.usefixtures("platform")
def test_a_nan_reaches_no_step_before_it() -> None:
    """Nor another environment."""
    found = solved(np.full((5, 2), 0.5), [[1.0, 1.0], [1.0, 1.0], [1.0, NAN], [1.0, 1.0], [1.0, 1.0]], [0.0, 0.0])
    np.testing.assert_array_equal(np.isnan(found), [[False, t >= 2] for t in range(5)])

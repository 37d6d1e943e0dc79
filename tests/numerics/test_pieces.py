from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics.pieces import in_pieces, piece_size


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize(
    ("size", "piece"),
    # the largest divisor up to 256: 512 = 2 * 256, 300 = 2 * 150, 1000 = 4 * 250; 514 = 2 * 257 and 1009, a prime,
    # have none above 64 and stay whole
    [(1, 1), (64, 64), (256, 256), (512, 256), (300, 150), (1000, 250), (514, 514), (1009, 1009)],
)
def test_pieces_divide_the_batch_and_fit_the_cache(size, piece):
    assert piece_size(size) == piece


def test_other_devices_take_the_batch_whole(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    assert piece_size(32_768) == 32_768


@pytest.mark.usefixtures("on_cpu")
def test_rows_in_pieces_equal_all_at_once():
    seen = []

    def function(x, y):
        seen.append(x.shape)
        return x.sum(axis=1) * y, {"x": x}

    x, y = np.arange(1200.0).reshape(400, 3), np.arange(400.0)
    product, rest = in_pieces(function, jnp.float32(x), jnp.float32(y))
    assert set(seen) == {(200, 3)}  # 400 = 2 * 200
    np.testing.assert_allclose(product, x.sum(axis=1) * y, rtol=1e-6)
    np.testing.assert_array_equal(rest["x"], np.float32(x))
    seen.clear()
    in_pieces(function, jnp.float32(x[:100]), jnp.float32(y[:100]))
    assert seen == [(100, 3)]  # few enough for one

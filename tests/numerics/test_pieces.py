from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.numerics import pieces
from ppo2.numerics.pieces import cut_pieces, fitting_size, in_fitting_pieces, in_pieces, piece_size, side_by_side


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


ROW = 3 * 4 + 4  # bytes that `doubled` makes of a row: the argument of the product, 3 numbers, and the product


def doubled(x):
    return (2.0 * x) @ jnp.ones(3, jnp.float32)


@pytest.mark.parametrize(
    ("size", "limit", "piece"),
    # 1,000 rows are 16 kB: whole; at 8 kB 2 pieces; at 4 kB 4; at 2,048 B at least 8 of 125. Of 1,009, a prime, 5
    # pieces of at most 256 rows: 202 each. 200 rows are few enough for any memory
    [(1000, 2**14, 1000), (1000, 8192, 500), (1000, 4096, 250), (1000, 2048, 125), (1009, 4096, 253), (200, 1, 200)],
)
def test_pieces_fit_in_memory(monkeypatch, size, limit, piece):
    monkeypatch.setattr(pieces, "activation_limit", lambda: limit)
    assert fitting_size(doubled, jnp.zeros((size, 3))) == piece
    assert piece * ROW <= limit or size == 200


def test_sequences_are_cut_for_memory_alone(monkeypatch):
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return jnp.cumsum(2.0 * x, axis=1)

    x = jnp.asarray(np.arange(900.0).reshape(300, 3), jnp.float32)
    whole = in_fitting_pieces(function, x, length=3)
    assert set(seen) == {300}
    seen.clear()
    monkeypatch.setattr(pieces, "activation_limit", lambda: 2000)  # of 3,600
    found = in_fitting_pieces(function, x, length=3)
    assert seen[-1] == 150
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(("size", "piece"), [(12, 4), (12, 5), (11, 4), (7, 6), (5, 5)])
def test_every_row_is_new_in_one_piece(size, piece):
    x = jnp.arange(size, dtype=jnp.int32)
    cut, fresh = cut_pieces({"x": x}, piece)
    assert cut["x"].shape == (-(-size // piece), piece)
    shown = cut["x"].ravel() if fresh is None else cut["x"][fresh]
    np.testing.assert_array_equal(shown, x)
    assert (fresh is None) == (size % piece == 0)


def test_overlapping_pieces_give_each_row_once(monkeypatch):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1009, 3)), jnp.float32)
    whole = in_fitting_pieces(lambda x: {"double": 2 * x}, x, length=1)
    monkeypatch.setattr(pieces, "activation_limit", lambda: 4096)
    found = in_fitting_pieces(lambda x: {"double": 2 * x}, x, length=1)
    np.testing.assert_array_equal(found["double"], whole["double"])


def test_other_devices_are_cut_for_memory_alone(monkeypatch):
    monkeypatch.setattr(pieces, "platform", lambda: "gpu")
    seen = []

    def function(x):
        seen.append(x.shape[0])
        return doubled(x)

    in_fitting_pieces(function, jnp.zeros((32_768, 3)))
    assert set(seen) == {32_768}
    monkeypatch.setattr(pieces, "activation_limit", lambda: 150_000)  # of 524,288
    in_fitting_pieces(function, jnp.zeros((32_768, 3)))
    assert seen[-1] == 8192


@pytest.mark.usefixtures("on_cpu")
def test_parts_side_by_side_equal_the_whole():
    sizes = []

    def function(x):
        sizes.append(len(x))
        return 2 * x

    for size in (8, 6, 4, 3, 7):  # parts of two rows at least, and none of 7
        np.testing.assert_array_equal(side_by_side(function, jnp.arange(size), least=2), 2 * np.arange(size))
    assert sizes == [2] * 4 + [2] * 3 + [2] * 2 + [3] + [7]


def test_an_accelerator_takes_all_at_once(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu")])
    sizes = []
    side_by_side(lambda x: sizes.append(len(x)), jnp.arange(8), least=2)
    assert sizes == [8]

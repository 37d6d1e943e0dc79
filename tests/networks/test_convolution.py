"""Convolution as matrix products, against XLA's own."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks import convolution
from ppo2.networks.convolution import by_products, by_xla, convolve
from ppo2.numerics.precision import products, rounded
from support.images import assert_close, normal, value_and_gradients

CASES = [
    # size, stride, (B, H, W, C)
    (8, 4, (3, 84, 84, 4)),
    (8, 4, (2, 37, 43, 1)),  # rows and columns that no window reaches
    (4, 2, (3, 20, 20, 32)),
    (3, 1, (3, 9, 9, 64)),  # wide: a product for each place
    (3, 1, (3, 9, 12, 3)),
    (3, 2, (3, 10, 11, 5)),  # the stride doesn't divide the size
    (5, 3, (3, 8, 12, 3)),
    (2, 3, (3, 10, 11, 4)),  # a stride beyond the size
    (2, 5, (3, 14, 7, 3)),
    (1, 1, (3, 4, 7, 2)),
    (3, 1, (32, 5, 5, 2)),  # two pieces
    (3, 2, (34, 5, 5, 70)),  # as no divisor of 34 is from 5 to 16, in one
    (3, 1, (1, 3, 3, 2)),  # one place
]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("bytes_", [False, True], ids=["float", "8-bit"])
@pytest.mark.parametrize(("size", "stride", "shape"), CASES)
def test_products_equal_xlas_convolution_and_so_do_their_gradients(size, stride, shape, bytes_, padding):
    kernel = normal(size, size, shape[-1], 6, seed=1) / (size * np.float32(shape[-1]) ** 0.5)
    bias = normal(6, seed=2)
    images = np.random.default_rng(3).integers(0, 256, shape, np.uint8) if bytes_ else normal(*shape)
    by = (1, 2) if bytes_ else (0, 1, 2)  # there is no gradient by bytes
    mine, theirs = (
        value_and_gradients(lambda *a, way=way: way(stride, padding, *a), images, kernel, bias, by=by)
        for way in (by_products, by_xla)
    )
    assert_close(mine, theirs)


@pytest.mark.parametrize("bytes_", [False, True], ids=["float", "8-bit"])
@pytest.mark.parametrize("way", [by_products, by_xla], ids=lambda way: way.__name__)
def test_factors_may_be_rounded_to_bfloat16(way, bytes_):
    def of_bfloat16(x):
        return np.asarray(rounded(x), np.float32)

    images = np.random.default_rng(3).integers(0, 256, (3, 9, 12, 3), np.uint8) if bytes_ else normal(3, 9, 12, 3)
    kernel, bias, by = normal(3, 3, 3, 6, seed=1), normal(6, seed=2), (1, 2) if bytes_ else (0, 1, 2)
    with products("bf16"):
        found = value_and_gradients(lambda *a: way(2, "valid", *a), images, kernel, bias, by=by)
    if bytes_:  # which bfloat16 has exactly, so that the kernel is scaled
        seen, scale = images.astype(np.float32), np.float32(255)
    else:
        seen, scale = of_bfloat16(images), np.float32(1)
    exact = value_and_gradients(lambda *a: by_xla(2, "valid", *a), seen, of_bfloat16(kernel / scale), bias, by=by)
    assert_close(found[0], exact[0])  # the result, whose sums are float32
    by_kernel, by_bias = exact[1][-2:]
    gradients = (*exact[1][:-2], by_kernel / scale, by_bias)
    for one, other in zip(found[1], gradients, strict=True):  # the cotangent and XLA's sums are rounded too
        np.testing.assert_allclose(one, other, rtol=0, atol=2**-7 * np.abs(other).max())
    whole = value_and_gradients(lambda *a: way(2, "valid", *a), images, kernel, bias, by=by)
    assert np.abs(found[0][1] - whole[0][1]).max() > 1e-3


def test_products_of_bfloat16_are_summed_in_float32():
    """The form that processors with AMX multiply fast: both factors bfloat16, the result float32; gradients too."""
    shapes = (jnp.zeros((2, 12, 12, 8)), jnp.zeros((3, 3, 8, 6)), jnp.zeros(6))
    with products("bf16"):
        gradient = jax.grad(lambda *a: jnp.sum(by_products(1, "valid", *a) ** 2), argnums=(0, 1, 2))
        lowered = jax.jit(gradient).lower(*shapes).as_text()
    found = [line for line in lowered.splitlines() if "dot_general" in line]
    assert len(found) == 1 + 1 + 9  # the result, the gradient by images, the one by each place of the kernel
    for line in found:
        factors, result = line.rsplit(" : ", 1)[1].split(" -> ")
        assert factors.count("xbf16>") == 2, line
        assert result.endswith("xf32>"), line


def test_convolution_by_hand():
    # one window of 2 x 2 for each corner of a 3 x 3 image; the kernel takes upper left minus lower right
    images = np.float32([[1, 2, 3], [4, 5, 6], [7, 8, 10]])[None, :, :, None]
    kernel = np.float32([[1, 0], [0, -1]])[:, :, None, None]
    found = convolve(images, kernel, np.float32([0.5]))[0, :, :, 0]
    np.testing.assert_allclose(found, [[1 - 5 + 0.5, 2 - 6 + 0.5], [4 - 8 + 0.5, 5 - 10 + 0.5]])


@pytest.mark.parametrize(
    ("stride", "size", "channels", "way"),
    [(1, 3, 63, "by_columns"), (1, 3, 64, "by_products"), (1, 1, 4, "by_products"), (2, 3, 4, "by_products")],
)
def test_the_lowering_is_chosen_by_backend(monkeypatch, stride, size, channels, way):
    ways = []
    for name in ("by_columns", "by_products", "by_xla"):
        monkeypatch.setattr(convolution, name, lambda *_, name=name: ways.append(name))
    for backend in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "devices", lambda backend=backend: [SimpleNamespace(platform=backend)])
        convolve(None, np.zeros((size, size, channels, 2)), None, stride=stride)
    assert ways == [way, "by_xla", "by_xla"]


def test_many_kernels_at_once():
    """A kernel for each seed, on its own images: a sweep."""
    images, kernels, biases = normal(2, 4, 9, 9, 3), normal(2, 3, 3, 3, 5), normal(2, 5)
    mine, theirs = (
        value_and_gradients(jax.vmap(lambda *a, way=way: way(2, "valid", *a)), images, kernels, biases, by=(0, 1, 2))
        for way in (by_products, by_xla)
    )
    assert_close(mine, theirs)


def test_images_one_by_one():
    """A batch of one under vmap: the kernel's gradient is summed over the images."""
    images, kernel, bias = normal(5, 9, 9, 3), normal(3, 3, 3, 4), normal(4)

    def each(images, kernel, bias):
        return jax.vmap(lambda one: by_products(2, "same", one[None], kernel, bias)[0])(images)

    mine = value_and_gradients(each, images, kernel, bias, by=(0, 1, 2))
    theirs = value_and_gradients(lambda *a: by_xla(2, "same", *a), images, kernel, bias, by=(0, 1, 2))
    assert_close(mine, theirs)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_by_images_of_half_precision_has_their_dtype(stride):
    images, kernel, bias = normal(9, 7, 8, 3), normal(3, 3, 3, 4, seed=1), normal(4, seed=2)

    def gradient(dtype):
        scaled = jax.grad(lambda x: jnp.sum(jnp.sin(convolve(x * 2, kernel, bias, stride=stride, padding="same"))))
        return scaled(jnp.asarray(images, jnp.bfloat16).astype(dtype))

    assert gradient(jnp.bfloat16).dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient(jnp.bfloat16).astype(jnp.float32), gradient(jnp.float32), rtol=0.01, atol=0.01)

"""Convolution of stride 1 as it is arranged on CPU, against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.networks.convolution import by_xla
from ppo2.networks.stride_one import by_columns
from ppo2.numerics.precision import products, rounded
from support.images import assert_close, normal, value_and_gradients

CASES = [
    # size, filters, (B, H, W, C)
    (3, 16, (4, 9, 12, 4)),  # two columns at once
    (3, 16, (16, 8, 9, 16)),  # and an odd one; two pieces
    (3, 32, (8, 7, 7, 16)),  # one column at once
    (3, 6, (5, 6, 7, 3)),  # groups of four images and channels filled up
    (3, 6, (1, 6, 7, 1)),  # one image
    (3, 4, (4, 3, 3, 4)),  # one window
    (2, 33, (5, 6, 7, 1)),
    (4, 5, (6, 7, 8, 5)),
]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("bytes_", [False, True], ids=["float", "8-bit"])
@pytest.mark.parametrize(("size", "filters", "shape"), CASES)
def test_it_is_xlas_convolution_and_so_are_its_gradients(size, filters, shape, bytes_, padding):
    kernel = normal(size, size, shape[-1], filters, seed=1) / (size * np.float32(shape[-1]) ** 0.5)
    bias = normal(filters, seed=2)
    images = np.random.default_rng(3).integers(0, 256, shape, np.uint8) if bytes_ else normal(*shape)
    by = (1, 2) if bytes_ else (0, 1, 2)  # there is no gradient by bytes
    mine, theirs = (
        value_and_gradients(functools.partial(way, padding), images, kernel, bias, by=by)
        for way in (by_columns, functools.partial(by_xla, 1))
    )
    assert_close(mine, theirs)


def test_factors_may_be_rounded_to_bfloat16():
    images, kernel, bias = normal(4, 6, 7, 4), normal(3, 3, 4, 6, seed=1), normal(6, seed=2)
    by = (0, 1, 2)
    with products("bf16"):
        found = value_and_gradients(lambda *a: by_columns("same", *a), images, kernel, bias, by=by)
    seen = (np.asarray(rounded(x), np.float32) for x in (images, kernel))
    exact = value_and_gradients(lambda *a: by_xla(1, "same", *a), *seen, bias, by=by)
    assert_close(found[0], exact[0])  # the result, whose sums are float32
    for one, other in zip(found[1], exact[1], strict=True):  # the cotangent is rounded too
        np.testing.assert_allclose(one, other, rtol=0, atol=2**-7 * np.abs(other).max())
    whole = value_and_gradients(lambda *a: by_columns("same", *a), images, kernel, bias, by=by)
    assert np.abs(found[0][1] - whole[0][1]).max() > 1e-3


def test_pixels_are_exact_where_factors_are_rounded_to_bfloat16():
    """It has the numbers 0 to 255, but not all of them over 255: the kernel is scaled instead."""
    images = np.random.default_rng(3).integers(0, 256, (4, 6, 7, 4), np.uint8)
    kernel, bias = normal(3, 3, 4, 6, seed=1), normal(6, seed=2)
    with products("bf16"):
        found = value_and_gradients(lambda *a: by_columns("same", *a), images, kernel, bias, by=(1, 2))
    scale = np.float32(255)
    seen = images.astype(np.float32), np.asarray(rounded(kernel / scale), np.float32)
    exact = value_and_gradients(lambda *a: by_xla(1, "same", *a), *seen, bias, by=(1, 2))
    assert_close(found[0], exact[0])
    for one, other in zip(found[1], (exact[1][0] / scale, exact[1][1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2**-7 * np.abs(other).max())


@pytest.mark.parametrize("shared", [0, 1], ids=["images", "kernel"])
def test_many_at_once(shared):
    """Images or kernels for each seed, or both: a sweep."""
    arguments = [normal(2, 4, 7, 8, 3), normal(2, 3, 3, 3, 5, seed=1), normal(2, 5)]
    axes = [0, 0, 0]
    for given in ([], [shared]):
        for place in given:
            axes[place], arguments[place] = None, arguments[place][0]
        mine, theirs = (
            value_and_gradients(jax.vmap(functools.partial(way, "valid"), in_axes=axes), *arguments, by=(0, 1, 2))
            for way in (by_columns, functools.partial(by_xla, 1))
        )
        assert_close(mine, theirs)


def test_kernels_of_a_sweep_make_no_groups_of_channels():
    """XLA is slow at those."""
    images, kernels, biases = map(jnp.asarray, (normal(2, 4, 9, 9, 4), normal(2, 3, 3, 4, 8), normal(2, 8)))
    program = str(
        jax.make_jaxpr(jax.grad(lambda k: jax.vmap(functools.partial(by_columns, "same"))(images, k, biases).sum()))(
            kernels
        )
    )
    assert "conv_general_dilated" in program
    assert "feature_group_count=2" not in program


def test_images_one_by_one():
    """A batch of one under vmap: the kernel's gradient is summed over the images."""
    images, kernel, bias = normal(5, 9, 9, 3), normal(3, 3, 3, 4), normal(4)

    def each(images, kernel, bias):
        return jax.vmap(lambda one: by_columns("same", one[None], kernel, bias)[0])(images)

    mine = value_and_gradients(each, images, kernel, bias, by=(0, 1, 2))
    theirs = value_and_gradients(lambda *a: by_xla(1, "same", *a), images, kernel, bias, by=(0, 1, 2))
    assert_close(mine, theirs)

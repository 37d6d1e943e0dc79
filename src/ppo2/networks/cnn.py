"""Convolutional networks, for images."""

import functools
import math
import typing
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ppo2.networks import layers
from ppo2.networks.convolution import Padding, convolve
from ppo2.networks.layers import SQRT2, linear_by_row, orthogonal, zeros
from ppo2.networks.pooling import max_pool
from ppo2.numerics.compilation import platform
from ppo2.numerics.pieces import MOST_PARTS, in_pieces, side_by_side
from ppo2.numerics.randomness import host_split
from ppo2.spaces import ENCODING, channels_place

Channels: TypeAlias = Literal["auto", "first", "last"]
Pad: TypeAlias = Literal["VALID", "SAME"]

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL = ((8, 8, 4), (16, 4, 2))
BY_SIZE = {"cnn": NATURE, "cnn_small": SMALL}
"""Networks for images of any size, larger ones first."""

PART = 4
"""Images that go through all layers of `impala_cnn` together on a CPU, so that they stay in the cache of a core."""
PIECE = 8
"""Images that go through all convolutions of a `CNN` together, likewise: 2 to 8 take the same time."""
WHOLE = 32
"""Images up to which all go through a `CNN` at once, each operation by all cores: those of acting."""


class Convolution(eqx.Module):
    """Filters of one size, on images (B, H, W, C)."""

    kernel: Float[Array, "k k C F"]
    bias: Float[Array, " F"]
    stride: int = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)

    def __call__(self, images: Shaped[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        return convolve(images, self.kernel, self.bias, stride=self.stride, padding=self.padding)


def convolution(
    channels: int, filters: int, size: int, stride: int = 1, padding: Padding = "valid", *, key: PRNGKeyArray
) -> Convolution:
    """Filters orthogonal to one another, of gain sqrt 2, and zero bias."""
    kernel = orthogonal((size * size * channels, filters), SQRT2, key=key)
    return Convolution(kernel.reshape(size, size, channels, filters), zeros(filters, key=key), stride, padding)


class CNN(eqx.Module):
    """Convolutions, flattened, then a dense layer if there is one; ReLU after each."""

    convolutions: list[Convolution]
    dense: eqx.nn.Linear | None
    channels_first: bool = eqx.field(static=True)

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        return self.on_batch(x[None])[0]

    def on_batch(self, x: Shaped[Array, "B *shape"]) -> Float[Array, "B features"]:
        if platform() != "cpu" or len(x) <= WHOLE:
            return _flattened(self._convolved(x), self.dense)
        return _flattened(in_pieces(self._convolved, x, most=PIECE), self.dense)

    def _convolved(self, x: Shaped[Array, "b *shape"]) -> Float[Array, "b h w F"]:
        """The last convolution's output, after ReLU, of a few images, all of whose layers stay in the cache."""
        h = _images(x, self.channels_first)
        for layer in self.convolutions:
            h = jax.nn.relu(layer(h))
        return h


class Residual(eqx.Module):
    """x + convolution(relu(convolution(relu(x))))."""

    first: Convolution
    second: Convolution

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        return x + self.second(jax.nn.relu(self.first(jax.nn.relu(x))))


class ImpalaBlock(eqx.Module):
    """A convolution, max-pooling to half the size, and two residual blocks."""

    convolution: Convolution
    residuals: list[Residual]

    def __call__(self, images: Shaped[Array, "B H W C"]) -> Float[Array, "B h w F"]:
        h = max_pool(self.convolution(images))
        for residual in self.residuals:
            h = residual(h)
        return h


class ImpalaCNN(eqx.Module):
    """Blocks, ReLU, flattened, a dense layer, ReLU."""

    blocks: list[ImpalaBlock]
    dense: eqx.nn.Linear
    channels_first: bool = eqx.field(static=True)

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        return self.on_batch(x[None])[0]

    def on_batch(self, x: Shaped[Array, "B *shape"]) -> Float[Array, "B features"]:
        in_parts = functools.partial(side_by_side, self._convolved, least=PART)
        return _flattened(in_pieces(in_parts, x, most=MOST_PARTS * PART), self.dense)

    def _convolved(self, x: Shaped[Array, "b *shape"]) -> Float[Array, "b h w F"]:
        """The last block's output, after ReLU, of a few images, all of whose layers stay in the cache."""
        h = _images(x, self.channels_first)
        for block in self.blocks:
            h = block(h)
        return jax.nn.relu(h)


def has_convolutions(policy: eqx.Module) -> bool:
    """True if a part of it is a `CNN`. `impala_cnn` keeps all cores busy by itself."""
    parts = jax.tree.leaves(policy, is_leaf=lambda part: isinstance(part, CNN))
    return any(isinstance(part, CNN) for part in parts)


def cnn(channels: Channels = "auto", pad: Pad = "VALID") -> Callable[..., CNN]:
    """The network of Mnih et al. 2015 (Nature 518): 32 8x8 filters at stride 4, 64 4x4 at 2, 64 3x3 at 1, dense 512.

    Args:
        channels: place of the channels in an image of three axes: first, last, or auto: first if that axis is shorter
            than the two others, as in (4, 84, 84), else last, as in (84, 84, 4). Images of two axes have one channel.
        pad: VALID keeps windows inside the image, SAME surrounds it with zeros.

    Raises:
        ValueError: an unknown `channels` or `pad`; later, observations that are no images, or images that are too
            small.
    """
    return _stack("cnn", NATURE, 512, _padding("pad", pad), channels)


def cnn_small(channels: Channels = "auto", pad: Pad = "VALID") -> Callable[..., CNN]:
    """A small convolutional network: 8 8x8 filters at stride 4, 16 4x4 at stride 2, dense 128.

    Args:
        channels: place of the channels in an image of three axes: first, last or auto (see cnn).
        pad: VALID keeps windows inside the image, SAME surrounds it with zeros.

    Raises:
        ValueError: see `cnn`.
    """
    return _stack("cnn_small", SMALL, 128, _padding("pad", pad), channels)


def conv_only(
    convs: Sequence[tuple[int, int, int]] = NATURE, padding: Padding = "valid", channels: Channels = "auto"
) -> Callable[..., CNN]:
    """Convolutions of any number and size, without a dense layer.

    Args:
        convs: (filters, size, stride) of each, from the image on; for example (32, 8, 4), (64, 4, 2).
        padding: valid keeps windows inside the image, same surrounds it with zeros.
        channels: place of the channels in an image of three axes: first, last or auto (see cnn).

    Raises:
        ValueError: no convolution, one that isn't three positive whole numbers, or an unknown `padding`; see also
            `cnn`.
    """
    if not (_is_list(convs) and all(_is_list(conv, _is_size) and len(conv) == 3 for conv in convs)):
        raise ValueError(
            f"`convs` (={convs!r}) must be a list of (filters, size, stride), whole numbers of at least 1, for example "
            "[(32, 8, 4), (64, 4, 2), (64, 3, 1)]."
        )
    padding = _padding("padding", padding)
    return _stack("conv_only", [(filters, size, stride) for filters, size, stride in convs], None, padding, channels)


def impala_cnn(
    depths: Sequence[int] = (16, 32, 32), dense: int = 256, channels: Channels = "auto"
) -> Callable[..., ImpalaCNN]:
    """The residual network of Espeholt et al. 2018 (IMPALA, arXiv:1802.01561, figure 3), without its LSTM.

    For each depth a 3x3 convolution, max-pooling of 3x3 at stride 2 and two residual blocks; then a dense layer.

    Args:
        depths: filters of each block's convolutions, from the image on; for example 16, 32, 32.
        dense: units of the dense layer.
        channels: place of the channels in an image of three axes: first, last or auto (see cnn).

    Raises:
        ValueError: no depth, or one that isn't a positive whole number, and so for `dense`; and see `cnn`.
    """
    if not _is_list(depths, _is_size):
        raise ValueError(
            f"`depths` (={depths!r}) must be a list of whole numbers of at least 1, for example [16, 32, 32]."
        )
    if not _is_size(dense):
        raise ValueError(f"`dense` (={dense!r}) must be a whole number of at least 1, for example 256.")
    _check_choice("channels", channels, typing.get_args(Channels))

    def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray, obs_encoding: int = ENCODING) -> ImpalaCNN:
        (height, width, before), first = image_shape("impala_cnn", input_shape, channels, obs_encoding)
        *block_keys, dense_key = host_split(key, len(depths) + 1)
        blocks = []
        for depth, block_key in zip(depths, block_keys, strict=True):
            sizes = (before, depth, depth, depth, depth)
            entry, *inner = (
                convolution(size, depth, 3, padding="same", key=conv_key)
                for size, conv_key in zip(sizes, host_split(block_key, 5), strict=True)
            )
            blocks.append(ImpalaBlock(entry, [Residual(*inner[:2]), Residual(*inner[2:])]))
            height, width, before = math.ceil(height / 2), math.ceil(width / 2), depth
        return ImpalaCNN(blocks, layers.dense(height * width * before, dense, SQRT2, key=dense_key), first)

    return build


def _stack(
    name: str, convs: Sequence[tuple[int, int, int]], units: int | None, padding: Padding, channels: Channels
) -> Callable[..., CNN]:
    _check_choice("channels", channels, typing.get_args(Channels))

    def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray, obs_encoding: int = ENCODING) -> CNN:
        (height, width, before), first = image_shape(name, input_shape, channels, obs_encoding)
        if padding == "valid":
            _check_large_enough(name, input_shape, (height, width), convs)
        convolutions = []
        *keys, dense_key = host_split(key, len(convs) + 1)
        for (filters, size, stride), conv_key in zip(convs, keys, strict=True):
            convolutions.append(convolution(before, filters, size, stride, padding, key=conv_key))
            outside = size - 1 if padding == "valid" else 0
            height, width, before = *(math.ceil((n - outside) / stride) for n in (height, width)), filters
        last = None if units is None else layers.dense(height * width * before, units, SQRT2, key=dense_key)
        return CNN(convolutions, last, first)

    return build


def image_shape(
    name: str, shape: tuple[int, ...], channels: Channels, obs_encoding: int = ENCODING
) -> tuple[tuple[int, int, int], bool]:
    """(height, width, channels) of observations, and whether their channels come first.

    Raises:
        ValueError: they are no images.
    """
    if len(shape) == 2 and all(shape):
        return (shape[0], shape[1], 1), False
    if len(shape) != 3 or not all(shape):
        raise ValueError(
            f"the network {name!r} wants images, (height, width), (height, width, channels) or (channels, height, "
            f"width); the observations have the shape {shape}. For vectors there is network='mlp'."
        )
    first = (channels_place(shape, obs_encoding) if channels == "auto" else channels) == "first"
    return (shape[1], shape[2], shape[0]) if first else (shape[0], shape[1], shape[2]), first


def least_side(convs: Sequence[tuple[int, int, int]]) -> int:
    """Pixels that a side of an image has at least, for windows that stay inside it."""
    least = 1
    for _, size, stride in reversed(convs):
        least = (least - 1) * stride + size
    return least


def for_images(shape: tuple[int, ...], obs_encoding: int = ENCODING) -> str | None:
    """The name of the network for images of a shape: `cnn`, or `cnn_small` where they are too small for it; None where
    they are too small for both, or no images.
    """
    try:
        (height, width, _), _ = image_shape("cnn", shape, "auto", obs_encoding)
    except ValueError:
        return None
    return next((name for name, convs in BY_SIZE.items() if min(height, width) >= least_side(convs)), None)


def _check_large_enough(
    name: str, shape: tuple[int, ...], image: tuple[int, int], convs: Sequence[tuple[int, int, int]]
) -> None:
    least = least_side(convs)
    if min(image) < least:
        raise ValueError(
            f"the network {name!r} wants images of at least {least} x {least} pixels; the observations' shape {shape} "
            f"was read as {image[0]} x {image[1]}. Take network='conv_only' with smaller `convs`, or enlarge the "
            "images; if the channels were taken for pixels, say channels='first' or 'last'."
        )


def _images(x: Shaped[Array, "B *shape"], channels_first: bool) -> Shaped[Array, "B H W C"]:
    x = x[..., None] if x.ndim == 3 else x
    return jnp.moveaxis(x, 1, -1) if channels_first else x


def _flattened(h: Float[Array, "B h w C"], last: eqx.nn.Linear | None) -> Float[Array, "B features"]:
    flat = h.reshape(h.shape[0], -1)
    return flat if last is None else jax.nn.relu(linear_by_row(last, flat))


def _is_size(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | np.integer) and int(value) >= 1


def _is_list(values: Any, rule: Callable[[Any], bool] = lambda _: True) -> bool:
    """True for a list or tuple that isn't empty, all of whose values keep a rule."""
    return isinstance(values, Sequence) and not isinstance(values, str) and bool(values) and all(map(rule, values))


def _padding(name: str, given: Any) -> Padding:
    """A padding in either case, as Baselines' are in capitals."""
    padding: Any = given.lower() if isinstance(given, str) else given
    _check_choice(name, padding, typing.get_args(Padding))
    checked: Padding = padding
    return checked


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(known)}.")

"""Observations of several parts: an encoder for each, side by side, before the network."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.networks import adapters, registry
from ppo2.networks.cnn import for_images
from ppo2.networks.recurrent import Recurrent, flat, is_recurrent
from ppo2.numerics.randomness import host_split
from ppo2.spaces import ENCODING


class Encoders(eqx.Module):
    """The features that the parts' encoders give, in the order of the parts' paths, as one vector."""

    parts: list[registry.Network]

    def __call__(self, obs: PyTree[Shaped[Array, "..."]]) -> Float[Array, " features"]:
        return self.on_batch(jax.tree.map(lambda x: x[None], obs))[0]

    def on_batch(self, obs: PyTree[Shaped[Array, "B ..."]]) -> Float[Array, "B features"]:
        encoded = [registry.apply(part, x) for part, x in zip(self.parts, jax.tree.leaves(obs), strict=True)]
        return jnp.concatenate(encoded, axis=-1)


class Encoded(eqx.Module):
    """A network behind encoders."""

    encoders: Encoders
    network: registry.Network

    def __call__(self, obs: PyTree[Shaped[Array, "..."]]) -> Float[Array, " features"]:
        features: Float[Array, " features"] = self.network(self.encoders(obs))
        return features

    def on_batch(self, obs: PyTree[Shaped[Array, "B ..."]]) -> Float[Array, "B features"]:
        return registry.apply(self.network, self.encoders.on_batch(obs))


def assemble(
    network: object,
    seen: PyTree[jax.ShapeDtypeStruct],
    kwargs: Mapping[str, Any],
    *,
    encoders: Mapping[str, object] | None = None,
    images: Sequence[bool] = (),
    obs_encoding: int = ENCODING,
    key: PRNGKeyArray,
    argument: str = "network",
) -> tuple[registry.Network, int]:
    """The network that an argument means, and the number of its features.

    An observation of several parts is encoded part by part; the network's input is all that the encoders give, side by
    side. A ready network sees the parts as they are, unless `encoders` are given.

    Args:
        seen: shape and dtype of one observation, or of each of its parts.
        encoders: by path ("camera", "arm/angles", "0"), in any form that `network` takes. Others are, for images, cnn
            or for small ones cnn_small; the rest is flattened.
        images: True for each of several parts that is an image.
        obs_encoding: see `ppo2.spaces.images`.

    Raises:
        ValueError, TypeError: see `ppo2.networks.registry.build`; a path that the observation lacks.
    """
    if isinstance(seen, jax.ShapeDtypeStruct):
        if encoders:
            raise ValueError(
                f"`encoders` (={dict(encoders)!r}) apply to observations of several parts (Dict, Tuple); this one is a "
                "single array, which `network` sees."
            )
        return registry.build(
            network, seen.shape, kwargs, key=key, dtype=seen.dtype, argument=argument, obs_encoding=obs_encoding
        )
    if encoders is None and registry.check(network, argument) is None:
        if kwargs:
            raise ValueError(f"`{next(iter(kwargs))}`: a ready {argument} takes no network arguments.")
        if adapters.library(network) is not None:
            raise ValueError(
                f"`{argument}` ({type(network).__name__}): a Flax or Keras module sees one array, but the observations "
                "have several parts. Pass a builder that returns it (it sees the encoded parts side by side), or "
                "encoders={} beside it."
            )
        ready: Any = network
        return ready, registry.features(ready, seen, f"`{argument}` ({type(network).__name__})")
    encoder_key, network_key = host_split(key, 2)
    front, width = _encoders(seen, encoders or {}, images, obs_encoding, key=encoder_key)
    made, features = registry.build(network, (width,), kwargs, key=network_key, argument=argument)
    if isinstance(made, Recurrent):
        return Recurrent(Encoded(front, made.trunk), made.cell), features
    return (Recurrent(front, made) if is_recurrent(made) else Encoded(front, made)), features


def _encoders(
    seen: PyTree[jax.ShapeDtypeStruct],
    given: Mapping[str, object],
    images: Sequence[bool],
    obs_encoding: int,
    *,
    key: PRNGKeyArray,
) -> tuple[Encoders, int]:
    """The encoders of all parts, and the width of all that they give."""
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(seen)]
    if len(set(paths)) < len(paths):
        raise ValueError(
            f"the observation's parts {', '.join(paths)} have one path twice: rename a key that has a '/'."
        )
    for path in given:
        if path not in paths:
            raise ValueError(
                f"`encoders` has {path!r}, which the observation lacks: its parts are {', '.join(map(repr, paths))}."
            )
    images = images or [False] * len(paths)
    parts = zip(paths, jax.tree.leaves(seen), images, host_split(key, len(paths)), strict=True)
    made = [
        _encoder(path, leaf, given[path], obs_encoding, key=one)
        if path in given
        else _default_encoder(leaf, is_image, obs_encoding, key=one)
        for path, leaf, is_image, one in parts
    ]
    return Encoders([part for part, _ in made]), sum(width for _, width in made)


def _encoder(
    path: str, leaf: jax.ShapeDtypeStruct, given: object, obs_encoding: int, *, key: PRNGKeyArray
) -> tuple[registry.Network, int]:
    argument = f"encoders[{path!r}]"
    try:
        made, width = registry.build(
            given, leaf.shape, {}, key=key, dtype=leaf.dtype, argument=argument, obs_encoding=obs_encoding
        )
    except ValueError as error:
        raise ValueError(f"`{argument}`: {error}") from error
    if is_recurrent(made):
        raise ValueError(
            f"`{argument}` (={given!r}) has a memory, which an encoder can't: take a recurrent `network` behind it."
        )
    return made, width


def _default_encoder(
    leaf: jax.ShapeDtypeStruct, is_image: bool, obs_encoding: int, *, key: PRNGKeyArray
) -> tuple[registry.Network, int]:
    name = for_images(leaf.shape, obs_encoding) if is_image else None
    if name is not None:
        return registry.build(name, leaf.shape, {}, key=key, dtype=leaf.dtype, obs_encoding=obs_encoding)
    return flat, math.prod(leaf.shape)

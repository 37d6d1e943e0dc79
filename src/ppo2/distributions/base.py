"""Batches of distributions, and the facts of the distribution that an action space has."""

import abc
import functools
import itertools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.spaces import Spec, device_dtype

Mask: TypeAlias = Any
"""A mask of legal actions: an array, or a tuple or dict of masks, or None."""

ILLEGAL = -1e9
"""Logit of an action that a mask rules out, the best legal one's being 0: its probability is 0 in any precision, and
everything made of it stays finite, gradients and squares too."""


class Distribution(eqx.Module):
    """A batch of distributions over actions."""

    @abc.abstractmethod
    def sample(self, noise: Float[Array, "... k"]) -> PyTree[Shaped[Array, "..."]]:
        """One action for each distribution of the batch."""

    @abc.abstractmethod
    def mode(self) -> PyTree[Shaped[Array, "..."]]:
        """The most probable action."""

    @abc.abstractmethod
    def logp(self, actions: PyTree[Shaped[Array, "..."]]) -> Float[Array, "..."]:
        """Log-probability (continuous actions: log-density) of `actions`, in nats."""

    @abc.abstractmethod
    def entropy(self) -> Float[Array, "..."]:
        """Entropy (continuous actions: differential entropy), in nats."""

    def logp_and_entropy(
        self, actions: PyTree[Shaped[Array, "..."]]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Both, which learning needs: overridden where they share a part."""
        return self.logp(actions), self.entropy()


@dataclass(frozen=True, kw_only=True)
class ActionDistribution(abc.ABC):
    """The facts of an action space's distribution, and the way from a policy's numbers to a `Distribution`.

    Attributes:
        spec: the action space of one environment.
        num_params: numbers that the policy's head gives.
        noise_size: numbers of noise that one sample takes.
        log_std_size: log standard deviations that the policy keeps beside the head, as no observation changes them.
    """

    spec: Spec
    num_params: int
    noise_size: int
    log_std_size: int = 0

    @property
    @abc.abstractmethod
    def action(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Shape and dtype of one action inside the library; a tuple or dict of them for a Tuple or Dict."""

    @property
    @abc.abstractmethod
    def can_be_masked(self) -> bool:
        """True if a mask of legal actions can change something."""

    @abc.abstractmethod
    def noise(self, key: PRNGKeyArray, batch: tuple[int, ...]) -> Float[Array, "... k"]:
        """The standard noise that `Distribution.sample` takes."""

    @abc.abstractmethod
    def build(
        self, params: Float[Array, "... p"], log_std: Float[Array, " k"] | None = None, mask: Mask = None
    ) -> Distribution:
        """The distribution that the head's numbers stand for.

        Args:
            log_std: the numbers beside the head; None if there are none.
            mask: the legal actions, bool or numbers (not 0: legal): (..., n) for Discrete, (..., sum_n) for
                MultiDiscrete, choice by choice as its logits; for Tuple and Dict a tuple or dict of these. None, or a
                key that is missing: all are legal. Where none is, all are: see `none_legal`.

        Raises:
            ValueError: a mask of another shape or structure, or for actions that can't be masked.
        """

    @abc.abstractmethod
    def none_legal(self, mask: Mask) -> Bool[Array, "..."]:
        """True where a mask, as `build` takes it, forbids every option of a choice. NumPy in, NumPy out; else JAX."""

    @abc.abstractmethod
    def to_environment(self, actions: PyTree[Shaped[Any, "..."]]) -> PyTree[Shaped[Any, "..."]]:
        """Samples as actions of the environment, members of its space, behind the same batch axes.

        NumPy's arrays get the dtypes of the space; JAX's those of the device, which has no 64 bits. Only here numbers
        are brought between their bounds: the log-probability belongs to what was sampled.
        """


@dataclass(frozen=True, kw_only=True)
class ArrayActions(ActionDistribution):
    """A distribution whose actions are one array.

    Attributes:
        shape: shape of one action inside the library: () for Discrete, flattened to (k,) else.
        dtype: dtype of actions inside the library.
        choices: number of options of each choice; () where there are none.
        draw: draws standard noise: (key, shape) -> array.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic] = np.int32
    choices: tuple[int, ...] = ()
    draw: ClassVar[Callable[..., Array]]
    is_exact: ClassVar[bool] = True
    """True if `convert` to the dtype that numbers have already can't overflow or round."""

    @classmethod
    @abc.abstractmethod
    def of(cls, space: Any) -> Self:
        """The distribution of `space`."""

    @property
    def action(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    @property
    def can_be_masked(self) -> bool:
        return bool(self.choices)

    def build(self, params: Array, log_std: Array | None = None, mask: Mask = None) -> Distribution:
        if mask is not None:
            legal = split(self._legal(mask, params.ndim), self.choices)
            pairs = zip(split(params, self.choices), legal, strict=True)
            params = jnp.concatenate([mask_logits(*pair) for pair in pairs], axis=-1)
        return self.of_params(params, log_std)

    @abc.abstractmethod
    def of_params(self, params: Array, log_std: Array | None) -> Distribution:
        """`build` after the mask was applied."""

    def noise(self, key: PRNGKeyArray, batch: tuple[int, ...]) -> Float[Array, "... k"]:
        return self.draw(key, (*batch, self.noise_size), jnp.float32)

    def none_legal(self, mask: Mask) -> Bool[Array, "..."]:
        none = [~choice.any(axis=-1) for choice in split(self._legal(mask), self.choices)]
        found: Array = functools.reduce(operator.or_, none)
        return found

    def _legal(self, mask: Mask, most_axes: float = math.inf) -> Bool[Array, "... n"]:
        """The mask as booleans, checked."""
        if not self.choices:
            space = self.spec.space
            raise ValueError(f"`action_mask`: only Discrete and MultiDiscrete actions can be masked, not {space}.")
        shape = getattr(mask, "shape", None)
        if shape is None or shape[-1:] != (self.num_params,) or len(shape) > most_axes:
            raise ValueError(
                f"`action_mask`: expected one array with a number for each of the {self.num_params} options, found "
                f"{summary(mask)}."
            )
        legal: Bool[Array, "... n"] = mask != 0
        return legal

    def to_environment(self, actions: Any) -> Any:
        space: Any = self.spec.space
        dtype = space.dtype if isinstance(actions, np.ndarray) else device_dtype(space)
        shaped = actions.reshape(*actions.shape[: actions.ndim - len(self.shape)], *space.shape)
        if self.is_exact and actions.dtype == dtype:
            return self.convert(shaped, dtype)
        with np.errstate(all="ignore"):  # what the user has set is meant for code of the user's own
            return self.convert(shaped, dtype)

    def convert(self, actions: Any, dtype: np.dtype[Any]) -> Any:
        """`to_environment` of actions that have the environment's shape; `dtype` is the environment's too."""
        return actions.astype(dtype)


def split(flat: Shaped[Any, "... n"], sizes: Sequence[int]) -> list[Shaped[Any, "... k"]]:
    """The parts that lie side by side on the last axis, as arrays of the same library."""
    parts: list[Any] = namespace(flat).split(flat, list(itertools.accumulate(sizes))[:-1], axis=-1)
    return parts


def namespace(array: Any) -> Any:
    """NumPy for its own arrays, else jax.numpy."""
    return np if isinstance(array, np.ndarray) else jnp


def for_each(numbers: np.ndarray[Any, Any], actions: Shaped[Any, "... k"]) -> Any:
    """NumPy's numbers of one action, for each of a batch of actions; NumPy's own batches need no help with that."""
    return numbers if isinstance(actions, np.ndarray) else jnp.broadcast_to(numbers, actions.shape)


def mask_logits(logits: Float[Array, "... n"], mask: Bool[Array, "... n"]) -> Float[Array, "... n"]:
    """The logits of legal actions, of which the best is moved to 0, and ILLEGAL."""
    legal = mask | ~jnp.any(mask, axis=-1, keepdims=True)
    best = jnp.max(logits, axis=-1, keepdims=True, where=legal, initial=-jnp.inf)
    return jnp.where(legal, logits - jax.lax.stop_gradient(best), ILLEGAL)


def summary(mask: Mask) -> str:
    """A mask by its shapes, for errors."""
    if isinstance(mask, Mapping):
        return f"a dict of {', '.join(map(str, mask))}"
    if isinstance(mask, Sequence):
        return f"a tuple of {len(mask)}"
    return f"one of shape {mask.shape}" if hasattr(mask, "shape") else type(mask).__name__

"""Which distribution an action space has, and how a policy's numbers become one."""

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.distributions.base import Distribution, Elementary, composed, cut
from ppo2.distributions.choices import Bernoulli, Categorical, MultiCategorical, masked
from ppo2.distributions.gaussians import DiagGaussian, SquashedGaussian, bounded_log_std, clipped_log_std
from ppo2.distributions.joint import Joint

ACTION_DISTS = ("gaussian", "squashed_gaussian")
"""What the numbers of a Box can be distributed as."""


@dataclass(frozen=True)
class ActionDistribution:
    """What a policy needs to know to build the distribution of an action space: hashable, no arrays.

    Attributes:
        kind: the class of distribution.
        num_params: how many numbers the policy's head gives.
        sizes: for MultiCategorical, how many actions each choice has; else ().
        shape: of one action inside the library, flattened: () for Discrete, (k,) else.
        log_scale: for SquashedGaussian: see there.
        parts, keys: for Joint: see there; the keys of a Dict in alphabetical order, whatever its own.
    """

    kind: type[Distribution]
    num_params: int
    sizes: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    log_scale: float = 0.0
    parts: tuple["ActionDistribution", ...] = ()
    keys: tuple[str, ...] | None = None

    @classmethod
    def of(cls, space: gym.Space[Any], action_dist: str = "gaussian") -> "ActionDistribution":
        """The distribution for `space`.

        Args:
            action_dist: of a Box's numbers, one of ACTION_DISTS.

        Raises:
            TypeError: `space` is of a kind that no distribution is known for, or has a part that is.
            ValueError: a Box without bounds that is to be squashed between them.
        """
        assert action_dist in ACTION_DISTS, action_dist
        match space:
            case gym.spaces.Discrete():
                return cls(Categorical, int(space.n))
            case gym.spaces.MultiDiscrete():
                sizes = tuple(int(n) for n in space.nvec.ravel())
                return cls(MultiCategorical, sum(sizes), sizes, (len(sizes),))
            case gym.spaces.MultiBinary():
                k = int(np.prod(space.shape))
                return cls(Bernoulli, k, (), (k,))
            case gym.spaces.Box() if np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
                k = int(np.prod(space.shape))
                if action_dist == "gaussian":
                    return cls(DiagGaussian, k, (), (k,))
                return cls(SquashedGaussian, 2 * k, (), (k,), _log_scale(space))
            case gym.spaces.Tuple() if space.spaces:
                parts = tuple(cls.of(part, action_dist) for part in space.spaces)
                return cls(Joint, sum(part.num_params for part in parts), parts=parts)
            case gym.spaces.Dict() if space.spaces:
                # sorted, as JAX sorts them: the order in which a Dict was written down is lost in files
                keys = tuple(sorted(space.spaces))
                parts = tuple(cls.of(space.spaces[key], action_dist) for key in keys)
                return cls(Joint, sum(part.num_params for part in parts), parts=parts, keys=keys)
        raise TypeError(
            f"`env` has the action space {space}, alone or as a part; known are Discrete, MultiDiscrete, MultiBinary, "
            "Box of floats, and Tuple and Dict of these. "
            "Wrap the environment to give one of these (gymnasium.wrappers.TransformAction)."
        )

    @property
    def dtype(self) -> type[np.generic]:
        """Of actions inside the library that are one array."""
        return np.float32 if self.kind in (DiagGaussian, SquashedGaussian) else np.int32

    @property
    def action(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Shape and dtype of one action inside the library: a tuple or dict of them for Joint."""
        if self.kind is Joint:
            return composed(self.keys, [part.action for part in self.parts])
        return jax.ShapeDtypeStruct(self.shape, self.dtype)

    @property
    def noise_size(self) -> int:
        """How many numbers of noise sampling takes."""
        if self.kind is Joint:
            return sum(part.noise_size for part in self.parts)
        return math.prod(self.shape) if self.kind is SquashedGaussian else self.num_params

    @property
    def squashes(self) -> bool:
        """Whether numbers are squashed between their bounds on their way to the environment, not clipped to them."""
        return self.kind is SquashedGaussian or any(part.squashes for part in self.parts)

    @property
    def has_log_std(self) -> bool:
        """Whether the policy keeps a state-independent log standard deviation beside the head."""
        return self.kind is DiagGaussian or any(part.has_log_std for part in self.parts)

    @property
    def log_std_size(self) -> int:
        """Of that: a number for each of all the DiagGaussians."""
        return self.num_params if self.kind is DiagGaussian else sum(part.log_std_size for part in self.parts)

    def build(
        self,
        params: Float[Array, "... p"],
        log_std: Float[Array, " k"] | None,
        mask: PyTree[Shaped[Array, "... n"]] | None = None,
    ) -> Distribution:
        """The distribution that the head's numbers stand for.

        Args:
            log_std: see `log_std_size`; None where there is none.
            mask: which actions are legal, bool or whole numbers (not 0: legal): (..., n) for Discrete, (..., sum_n)
                for MultiDiscrete, choice by choice as its logits; for Tuple and Dict a tuple or dict of these. None, or
                a key that is missing: all are. Where none is, all are: see `none_legal`.

        Raises:
            ValueError: a mask of another shape or structure, or for what can't be masked.
        """
        if self.kind is Joint:
            pieces = zip(
                self.parts,
                cut(params, [part.num_params for part in self.parts]),
                [None] * len(self.parts) if log_std is None else cut(log_std, [p.log_std_size for p in self.parts]),
                self._masks(mask),
                strict=True,
            )
            parts = tuple(part.build(*piece) for part, *piece in pieces)
            return Joint(parts, self.keys, tuple(part.noise_size for part in self.parts))
        if mask is not None:
            mask = self._checked(mask, params.ndim)
            legal = [masked(*pair) for pair in zip(*(cut(x, self._choices) for x in (params, mask)), strict=True)]
            params = jnp.concatenate(legal, axis=-1)
        if self.kind is DiagGaussian:
            assert log_std is not None
            return DiagGaussian(params, clipped_log_std(log_std))
        if self.kind is SquashedGaussian:
            mean, raw = jnp.split(params, 2, axis=-1)
            return SquashedGaussian(DiagGaussian(mean, bounded_log_std(raw)), self.log_scale)
        if self.kind is MultiCategorical:
            return MultiCategorical(params, self.sizes)
        return Categorical(params) if self.kind is Categorical else Bernoulli(params)

    def none_legal(self, mask: PyTree[Shaped[Array, "... n"]]) -> Bool[Array, "..."]:
        """Where a mask, as `build` takes it, leaves no action: no option of some choice. NumPy's gives NumPy's."""
        if self.kind is Joint:
            pairs = zip(self.parts, self._masks(mask), strict=True)
            none = [part.none_legal(own) for part, own in pairs if own is not None]
        else:
            ends = itertools.accumulate(self._choices)
            checked = self._checked(mask)
            none = [~checked[..., end - n : end].any(axis=-1) for n, end in zip(self._choices, ends, strict=True)]
        return functools.reduce(operator.or_, none) if none else jnp.zeros((), bool)

    def noise(self, key: PRNGKeyArray, batch: tuple[int, ...]) -> Float[Array, "... k"]:
        """The noise that `sample` takes."""
        if self.kind is Joint:
            keys = jax.random.split(key, len(self.parts))
            return jnp.concatenate([part.noise(own, batch) for part, own in zip(self.parts, keys, strict=True)], -1)
        assert issubclass(self.kind, Elementary)
        return self.kind.noise(key, (*batch, self.noise_size))

    @property
    def _choices(self) -> tuple[int, ...]:
        return self.sizes or (self.num_params,)

    @property
    def can_be_masked(self) -> bool:
        """Whether a mask says something about any of it."""
        return self.kind in (Categorical, MultiCategorical) or any(part.can_be_masked for part in self.parts)

    def check_mask(self, mask: PyTree[Shaped[Array, "n"]]) -> None:
        """Raises ValueError for the mask of one observation that `build` would not take."""
        if self.kind is Joint:
            for part, own in zip(self.parts, self._masks(mask), strict=True):
                if own is not None:
                    part.check_mask(own)
        else:
            self._checked(mask, 1)

    def _checked(self, mask: PyTree[Shaped[Array, "... n"]], axes: int | None = None) -> Bool[Array, "... n"]:
        """What is legal; `axes`: of the mask, at most."""
        if not self.can_be_masked:
            raise ValueError(
                f"`action_mask`: only Discrete and MultiDiscrete actions can be masked, not {self.kind.__name__}."
            )
        shape = getattr(mask, "shape", None)
        if shape is None or shape[-1:] != (self.num_params,) or (axes is not None and len(shape) > axes):
            raise ValueError(
                f"`action_mask`: expected one array with a number for each of the {self.num_params} options, found "
                f"{_described(mask)}."
            )
        legal: Bool[Array, "... n"] = mask != 0
        return legal

    def _masks(self, mask: PyTree[Shaped[Array, "... n"]] | None) -> list[Any]:
        """That of each part of a Joint; None for those that have no choices."""
        if mask is None:
            return [None] * len(self.parts)
        if self.keys is None:
            if not isinstance(mask, Sequence) or len(mask) != len(self.parts):
                raise ValueError(f"`action_mask`: expected a tuple of {len(self.parts)}, found {_described(mask)}.")
            masks = list(mask)
        else:
            if not isinstance(mask, Mapping) or not set(mask) <= set(self.keys):
                raise ValueError(
                    f"`action_mask`: expected a dict with keys of {', '.join(self.keys)}, found {_described(mask)}."
                )
            masks = [mask.get(key) for key in self.keys]
        return [own if part.can_be_masked else None for part, own in zip(self.parts, masks, strict=True)]


def _described(mask: Any) -> str:
    """A mask by its shapes."""
    if isinstance(mask, Mapping):
        return f"a dict of {', '.join(map(str, mask))}"
    if isinstance(mask, Sequence):
        return f"a tuple of {len(mask)}"
    return f"one of shape {mask.shape}" if hasattr(mask, "shape") else type(mask).__name__


def _log_scale(space: gym.spaces.Box) -> float:
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
        raise ValueError(
            f"`action_dist` (='squashed_gaussian') needs finite bounds, low < high, but `env` has the action space "
            f"{space}. Use 'gaussian', or wrap the environment (gymnasium.wrappers.TransformAction)."
        )
    return float(np.sum(np.log(high / 2 - low / 2)))

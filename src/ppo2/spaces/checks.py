"""Observations as checked input; without JAX, for the workers that step environments."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ppo2.spaces.images import ENCODING
from ppo2.spaces.parts import COMPOSITE, AnySpace, mapped
from ppo2.spaces.space_json import KNOWN_OBSERVATIONS, Spec, describe

MASK_KEY = "action_mask"
"""Name of the mask of legal actions, in an observation or in `info`."""
MASK_METHOD = "action_masks"
"""Method of an environment that gives it, as other libraries have it."""
MASKED = {"observation", MASK_KEY}
"""Keys of an observation with a mask of legal actions."""


def is_masked(space: AnySpace) -> bool:
    """True if observations say which actions are legal."""
    return isinstance(space, gym.spaces.Dict) and set(space.spaces) == MASKED


def unmasked(space: AnySpace) -> AnySpace:
    """`space` without the mask: what networks see."""
    return space["observation"] if isinstance(space, gym.spaces.Dict) and is_masked(space) else space


def check_observation_space(space: AnySpace) -> None:
    """Raises TypeError if a policy can't see `space`."""
    if isinstance(space, gym.spaces.Dict) and "action_mask" in space.spaces and not is_masked(space):
        raise TypeError(
            f"`env` has an observation space with the keys {', '.join(map(str, space.spaces))}: beside action_mask, "
            "which says what is legal, there must be observation and nothing else. Put the rest into observation."
        )
    try:
        describe(space)
        known = not _has_empty_part(space)
    except TypeError:
        known = False
    if not known:
        raise TypeError(
            f"`env` has the observation space {space}; known are {KNOWN_OBSERVATIONS}, and Dict (with keys of text) "
            "and Tuple of these. Wrap the environment to give one of these (gymnasium.wrappers.TransformObservation, "
            "FlattenObservation)."
        )


def _has_empty_part(space: AnySpace) -> bool:
    if not isinstance(space, COMPOSITE):
        return False
    parts = space.spaces.values() if isinstance(space, gym.spaces.Dict) else space.spaces
    return not parts or any(map(_has_empty_part, parts))


def observation(space: AnySpace, obs: Any, name: str = "`obs`") -> tuple[Any, bool]:
    """`obs` as arrays (B, *shape) of the space's dtypes, and True if it was one observation alone.

    Integers are cast where they are in range, floats to the declared precision.

    Raises:
        ValueError: another structure or shape, a kind of number that can't be cast without loss, or a value out of
            range (of Discrete, MultiDiscrete and MultiBinary, and of a Box's integer dtype: float bounds are not
            enforced, as many environments overstep their own).
    """
    arrays, alone = zip(*(_array(*leaf) for leaf in _named_leaves(space, obs, name)), strict=True)
    sizes = {len(array) for array in arrays}
    if len(set(alone)) > 1 or len(sizes) > 1:
        raise ValueError(f"{name}: its parts are not of one batch: they hold {sorted(sizes)} observations.")
    in_turn = iter(arrays)
    return mapped(lambda _: next(in_turn), space), alone[0]


def _named_leaves(space: AnySpace, obs: Any, name: str) -> Iterator[tuple[AnySpace, Any, str]]:
    """The parts of a space and of an observation, in the space's order, with their names for errors."""
    match space:
        case gym.spaces.Dict():
            if not isinstance(obs, Mapping) or set(obs) != set(space.spaces):
                found = f"the keys {', '.join(map(str, obs))}" if isinstance(obs, Mapping) else type(obs).__name__
                raise ValueError(
                    f"{name}: the observation space is a Dict of {', '.join(space.spaces)}; it has {found}."
                )
            for key, part in space.spaces.items():
                yield from _named_leaves(part, obs[key], f"{name}[{key!r}]")
        case gym.spaces.Tuple():
            if not isinstance(obs, tuple | list) or len(obs) != len(space.spaces):
                found = f"{len(obs)} parts" if isinstance(obs, tuple | list) else type(obs).__name__
                raise ValueError(f"{name}: the observation space is a Tuple of {len(space.spaces)}; it has {found}.")
            for i, (part, own) in enumerate(zip(space.spaces, obs, strict=True)):
                yield from _named_leaves(part, own, f"{name}[{i}]")
        case _:
            yield space, obs, name


def _array(space: AnySpace, obs: Any, name: str) -> tuple[np.ndarray[Any, Any], bool]:
    """`observation` of a space that is one array."""
    array = np.asarray(obs)
    shape = space.shape or ()
    alone = array.shape == shape
    if not alone and array.shape[1:] != shape:
        raise ValueError(
            f"{name} has the shape {array.shape}; the observation space {space} wants {shape} for one observation "
            f"or (n,{','.join(f' {size}' for size in shape)}) for a batch of n."
        )
    array = array[None] if alone else array
    whole = np.dtype(space.dtype).kind in "iub"
    if array.dtype.kind not in ("iub" if whole else "iubf"):
        kinds = "integers" if whole else "real numbers"
        raise ValueError(f"{name} has the dtype {array.dtype}; the observation space {space} wants {kinds}.")
    low, high = integer_range(space)
    outside = np.zeros(0, bool) if low is None else (array < low) | (array > high)
    if outside.any():
        bad = array[outside].flat[0]
        raise ValueError(f"{name} holds {bad}, which is out of range for the observation space {space}.")
    with np.errstate(all="ignore"):
        cast = array.astype(space.dtype, copy=False)
    if cast is not array and cast.dtype.kind == "f" and np.any(np.isinf(cast) & np.isfinite(array)):
        raise ValueError(f"{name} holds numbers too large for {cast.dtype}, which the observation space {space} has.")
    return cast, alone


def integer_range(space: AnySpace) -> tuple[Any, Any]:
    """Lowest and highest value of spaces that hold integers, else (None, None)."""
    match space:
        case gym.spaces.Discrete():
            return space.start, space.start + space.n - 1
        case gym.spaces.MultiDiscrete():
            return space.start, space.start + space.nvec - 1
        case gym.spaces.MultiBinary():
            return 0, 1
        case gym.spaces.Box() if np.issubdtype(space.dtype, np.integer):
            info = np.iinfo(space.dtype)
            return info.min, info.max
    return None, None


def device_dtype(space: AnySpace) -> np.dtype[Any]:
    """The dtype that observations of `space` have on the device: 8- and 16-bit kinds as they are, others in 32 bits.

    Integers that 32 bits don't hold become floats.
    """
    dtype = np.dtype(space.dtype)
    if dtype.itemsize <= 2:
        return dtype
    info = np.iinfo(np.int32)
    fits = not isinstance(space, gym.spaces.Box) or (np.all(space.low >= info.min) and np.all(space.high <= info.max))
    return np.dtype(np.int32 if dtype.kind != "f" and fits else np.float32)


def zeros(space: AnySpace, batch: tuple[int, ...]) -> Any:
    """Zeros in place of a batch of observations, on the host, in the dtypes that they have on the device."""
    return mapped(lambda leaf: np.zeros((*batch, *(leaf.shape or ())), device_dtype(leaf)), space)


def is_narrowed(space: AnySpace) -> bool:
    """True if the device has fewer bits for observations of `space` than the host: floats and integers of 64 bits."""
    is_box, dtype = isinstance(space, gym.spaces.Box), np.dtype(space.dtype)
    return is_box and dtype.itemsize > 2 and device_dtype(space) == np.float32 and dtype != np.float32


def same_space(mine: AnySpace, other: AnySpace, encoding: int = ENCODING) -> bool:
    """True if a model made for one space fits the other.

    Args:
        encoding: number of the rules for observations; under 1 the bounds of floats meant nothing.
    """
    if encoding == 1:
        mine, other = _without_float_bounds(mine), _without_float_bounds(other)
    return Spec(mine) == Spec(other)


def _without_float_bounds(space: AnySpace) -> AnySpace:
    match space:
        case gym.spaces.Tuple():
            return gym.spaces.Tuple([_without_float_bounds(part) for part in space.spaces])
        case gym.spaces.Dict():
            return gym.spaces.Dict({key: _without_float_bounds(part) for key, part in space.spaces.items()})
        case gym.spaces.Box() if np.issubdtype(space.dtype, np.floating):
            return gym.spaces.Box(-np.inf, np.inf, space.shape, space.dtype.type)
    return space


class NotFinite(NamedTuple):
    """An observation of a batch that holds a NaN or infinite number: its row, the part ("" or its keys), the number."""

    row: int
    part: str
    number: float


def find_not_finite(space: AnySpace, batch: Any, ignored: np.ndarray[Any, Any] | None = None) -> NotFinite | None:
    """The first observation of a checked batch, (N, ...), that is NaN or infinite, or will be on the device.

    Args:
        ignored: (N,), True for observations that may be so.
    """
    parts = _named_leaves(space, batch, "") if isinstance(space, COMPOSITE) else [(space, batch, "")]
    for _, array, part in parts:
        if array.dtype.kind != "f":
            continue
        finite = np.isfinite(array) if array.dtype.itemsize <= 4 else np.abs(array) <= np.finfo(np.float32).max
        if finite.all():
            continue
        bad = ~finite.reshape(len(array), -1)
        if ignored is not None:
            bad &= ~ignored[:, None]
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            return NotFinite(row, part, array[row].flat[np.argmax(bad[row])].item())
    return None


def check_legal(no_legal_action: np.ndarray[Any, Any], what: str, when: str = "") -> None:
    """Raises ValueError where one of N states has no legal action; `what` has the states, `when` is for the error."""
    if no_legal_action.any():
        first = int(np.argmax(no_legal_action))
        raise ValueError(
            f"{what} has a state with no legal action (its action_mask is all 0): number {first} of "
            f"{len(no_legal_action)}{when}. Fix the environment, or end the episode there."
        )

"""Gymnasium spaces: as text, as checked input, as what a network sees, and as what an environment wants."""

import json
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree, Shaped

AnySpace = gym.Space[Any]
KNOWN_OBSERVATIONS = "Box, Discrete, MultiDiscrete and MultiBinary"


class Spec:
    """A space that can be hashed and compared, for the static part of compiled programs and for files.

    Raises:
        TypeError: the space is of a kind that isn't known.
    """

    def __init__(self, space: AnySpace) -> None:
        self.space = space
        self.text = json.dumps(describe(space), sort_keys=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Spec({self.space})"


def describe(space: AnySpace) -> dict[str, Any]:
    """`space` as JSON; `from_description` is its inverse."""
    dtype = np.dtype(space.dtype).name if space.dtype is not None else ""
    match space:
        case gym.spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
        case gym.spaces.MultiDiscrete():
            return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": dtype}
        case gym.spaces.MultiBinary():
            return {"kind": "MultiBinary", "shape": list(space.shape)}
        case gym.spaces.Box():
            low, high = _bound(space.low), _bound(space.high)
            return {"kind": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": dtype}
        case gym.spaces.Tuple():
            return {"kind": "Tuple", "spaces": [describe(part) for part in space.spaces]}
        case gym.spaces.Dict() if all(isinstance(key, str) for key in space.spaces):
            return {"kind": "Dict", "spaces": {key: describe(part) for key, part in space.spaces.items()}}
    raise TypeError(f"the space {space} isn't supported; known are {KNOWN_OBSERVATIONS}, and Tuple and Dict of these.")


def from_description(description: Mapping[str, Any]) -> AnySpace:
    """The space that `describe` described."""
    match description["kind"]:
        case "Discrete":
            n, start = description["n"], description["start"]
            return gym.spaces.Discrete(n, start=start, dtype=np.dtype(description["dtype"]).type)
        case "MultiDiscrete":
            nvec, start = np.array(description["nvec"]), np.array(description["start"])
            return gym.spaces.MultiDiscrete(nvec, start=start, dtype=np.dtype(description["dtype"]).type)
        case "MultiBinary":
            shape = description["shape"]
            return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Box":
            shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
            low, high = (_full(description[side], shape, dtype) for side in ("low", "high"))
            return gym.spaces.Box(low, high, shape, dtype.type)
        case "Tuple":
            return gym.spaces.Tuple([from_description(part) for part in description["spaces"]])
        case "Dict":
            return gym.spaces.Dict({key: from_description(part) for key, part in description["spaces"].items()})
    raise ValueError(f"the space {dict(description)!r} isn't known.")


def _bound(bound: np.ndarray[Any, Any]) -> Any:
    """One number where all are equal (an image's description would be huge else), infinities as text."""
    numbers = [str(number) if not np.isfinite(number) else number for number in bound.ravel().tolist()]
    return numbers[0] if numbers and all(number == numbers[0] for number in numbers) else numbers


def _full(bound: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    numbers = np.array(bound, dtype)
    return np.broadcast_to(numbers.reshape(shape) if isinstance(bound, list) else numbers, shape).copy()


# --- observations -------------------------------------------------------------------------------------------------


def check_observation_space(space: AnySpace) -> None:
    """Raises TypeError if a policy can't see `space`."""
    known = gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary
    if not isinstance(space, known):
        raise TypeError(
            f"`env` has the observation space {space}; known are {KNOWN_OBSERVATIONS}. "
            "Wrap the environment to give one of these (gymnasium.wrappers.TransformObservation, FlattenObservation)."
        )


def observation(space: AnySpace, obs: Any, name: str = "`obs`") -> tuple[np.ndarray[Any, Any], bool]:
    """`obs` as an array (B, *space.shape) of the space's dtype, and whether it was one observation alone.

    Integers are cast where they are in range, floats to the declared precision.

    Raises:
        ValueError: another shape, a kind of number that can't be cast without loss, or a value out of range (of
            Discrete, MultiDiscrete and MultiBinary, and of a Box's integer dtype: float bounds are not enforced, as
            many environments overstep their own).
    """
    array = np.asarray(obs)
    shape = space.shape or ()
    if array.shape == shape:
        array, single = array[None], True
    elif array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        single = False
    else:
        raise ValueError(
            f"{name} has the shape {array.shape}; the observation space {space} wants {shape} for one observation "
            f"or (n,{','.join(f' {size}' for size in shape)}) for a batch of n."
        )
    _check_kind(space, array, name)
    low, high = _integer_range(space)
    if low is not None and array.size and (np.any(array < low) or np.any(array > high)):
        bad = array[np.logical_or(array < low, array > high)].flat[0]
        raise ValueError(f"{name} holds {bad}, which is out of range for the observation space {space}.")
    with np.errstate(over="ignore"):
        cast = array.astype(space.dtype, copy=False)
    if cast is not array and cast.dtype.kind == "f" and np.any(np.isinf(cast) & np.isfinite(array)):
        raise ValueError(f"{name} holds numbers too large for {cast.dtype}, which the observation space {space} has.")
    return cast, single


def _check_kind(space: AnySpace, array: np.ndarray[Any, Any], name: str) -> None:
    wanted = np.dtype(space.dtype)
    integers = np.issubdtype(wanted, np.integer) or wanted == np.bool_
    allowed = "iub" if integers else "iubf"
    if array.dtype.kind not in allowed:
        kinds = "integers" if integers else "real numbers"
        raise ValueError(f"{name} has the dtype {array.dtype}; the observation space {space} wants {kinds}.")


def _integer_range(space: AnySpace) -> tuple[Any, Any]:
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


def encoded_shape(space: AnySpace) -> tuple[int, ...]:
    """The shape, without batch, of what `encode` gives: the `input_shape` of network builders."""
    match space:
        case gym.spaces.Discrete():
            return (int(space.n),)
        case gym.spaces.MultiDiscrete():
            return (int(space.nvec.sum()),)
    return tuple(space.shape or ())


def encode(space: AnySpace, obs: Shaped[Array, "*shape"]) -> Shaped[Array, "*encoded"]:
    """One observation as a network sees it.

    Discrete is one-hot, MultiDiscrete the one-hots side by side, MultiBinary 0.0 and 1.0; a Box of floats is float32,
    one of 8-bit integers (an image) stays as it is, for the network to convert.
    """
    match space:
        case gym.spaces.Discrete():
            return jax.nn.one_hot(obs - int(space.start), int(space.n))
        case gym.spaces.MultiDiscrete():
            choices = (obs - space.start).ravel()
            sizes = space.nvec.ravel().tolist()
            return jnp.concatenate([jax.nn.one_hot(choices[i], n) for i, n in enumerate(sizes)])
        case gym.spaces.Box() if np.dtype(space.dtype).itemsize == 1:
            return obs
    return obs.astype(jnp.float32)


def is_float_box(space: AnySpace) -> bool:
    """Whether the normaliser keeps statistics of `space`'s observations."""
    return isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating)


def out_of_range(space: AnySpace, obs: Shaped[Array, "T N *shape"]) -> Bool[Array, "T N"]:
    """Which observations of a rollout are no member of a space of integers, on the device."""
    match space:
        case gym.spaces.Box():
            return jnp.zeros(obs.shape[:2], bool)
    low, high = _integer_range(space)
    wrong = (obs < low) | (obs > high)
    return jnp.any(wrong.reshape((*obs.shape[:2], -1)), axis=-1)


# --- actions ------------------------------------------------------------------------------------------------------


def to_environment(space: AnySpace, actions: Any, *, squash: bool = False) -> Any:
    """Actions (N, *inner) of the distribution as the environment wants them, (N, *shape), and in its dtype.

    `start` is added; a Box's are clipped to its bounds, and only here: the log-probability belongs to what was sampled.
    Those of a Tuple or Dict are a tuple or dict of arrays, before and after.

    Args:
        squash: a Box's numbers go through tanh to between its bounds: see `ActionDistribution.squashes`.
    """
    match space:
        case gym.spaces.Tuple():
            pairs = zip(space.spaces, actions, strict=True)
            return tuple(to_environment(part, own, squash=squash) for part, own in pairs)
        case gym.spaces.Dict():
            return {k: to_environment(part, actions[k], squash=squash) for k, part in space.spaces.items()}
    converted: np.ndarray[Any, Any] = actions.reshape(len(actions), *(space.shape or ()))
    if squash and isinstance(space, gym.spaces.Box):
        converted = _between(space, np.tanh(converted))
    converted = converted.astype(space.dtype, copy=False)
    match space:
        case gym.spaces.Discrete() | gym.spaces.MultiDiscrete():
            converted = converted + space.start
        case gym.spaces.Box():
            converted = converted.clip(space.low, space.high)
    return converted


def to_device_environment(
    space: AnySpace, action: PyTree[Shaped[Array, "..."]], *, squash: bool = False
) -> PyTree[Shaped[Array, "..."]]:
    """`to_environment` for one action, on the device; 64 bits become 32."""
    match space:
        case gym.spaces.Tuple():
            pairs = zip(space.spaces, action, strict=True)
            return tuple(to_device_environment(part, own, squash=squash) for part, own in pairs)
        case gym.spaces.Dict():
            return {k: to_device_environment(part, action[k], squash=squash) for k, part in space.spaces.items()}
    converted = action.reshape(space.shape or ())
    if squash and isinstance(space, gym.spaces.Box):
        converted = _between(space, jnp.tanh(converted))
    converted = converted.astype(device_dtype(space))
    match space:
        case gym.spaces.Discrete() | gym.spaces.MultiDiscrete():
            converted = converted + jnp.asarray(space.start, converted.dtype)
        case gym.spaces.Box():
            converted = jnp.clip(converted, space.low.astype(converted.dtype), space.high.astype(converted.dtype))
    return converted


def _between(space: gym.spaces.Box, share: Any) -> Any:
    """From [-1, 1] to between the bounds, whose difference may be too large for a float."""
    return (1 - share) / 2 * space.low + (1 + share) / 2 * space.high


def separate(space: AnySpace, actions: Any) -> Any:
    """A batch of actions, to be taken one by one: each a member of `space` as its `contains` asks, in which those of a
    Box of rank 0 are arrays.
    """
    match space:
        case gym.spaces.Tuple():
            return list(zip(*map(separate, space.spaces, actions), strict=True))
        case gym.spaces.Dict():
            parts = [separate(part, actions[key]) for key, part in space.spaces.items()]
            return [dict(zip(space.spaces, one, strict=True)) for one in zip(*parts, strict=True)]
    return [np.asarray(action) for action in actions] if space.shape == () and actions.dtype.kind == "f" else actions

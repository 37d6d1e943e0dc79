"""Training states as named tensors: a file shows each layer by name."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from ppo2.algorithm.adam import AdamState
from ppo2.algorithm.train_state import TrainState
from ppo2.checkpoints.checkpoint import Checkpoint, Tensors
from ppo2.checkpoints.state_dicts import CALLBACKS
from ppo2.numerics.flat import ravelled
from ppo2.numerics.storable import from_storable, to_storable

Unravel = Callable[[Array], Any]

PARTS: Mapping[str, str] = {"weights": "params", "normaliser": "normaliser", "optimiser": "adam"}
"""Parts of a model that a new run may begin with, and the beginnings of their arrays' names."""

RUNNER = "runner/"
"""Beginning of the names of tensors that are the runner's (`ppo2.runners.snapshot`), not the model's."""


def to_tensors(state: TrainState, unravel: Unravel) -> Tensors:
    """Every array of the state; `unravel` makes layers of the flat parameters."""
    named, _ = jax.tree.flatten_with_path(_named(state, unravel))
    return {_name(path): np.asarray(leaf) for path, leaf in named}


def from_tensors(
    saved: Checkpoint, like: TrainState, unravel: Unravel, parts: Collection[str] | None = None
) -> TrainState:
    """The state in a checkpoint, of the structure of `like`.

    Args:
        parts: names of `PARTS`, to take these alone; all else stays as it is in `like`. None: all.

    Raises:
        ValueError: an array is missing, too many, or of another shape or dtype.
    """
    taken = None if parts is None else {PARTS[part] for part in parts}
    host: TrainState = jax.tree.map(np.asarray, like._replace(key=jax.random.key_data(like.key)))
    expected, structure = jax.tree.flatten_with_path(_named(host, unravel))

    def is_taken(name: str) -> bool:
        return not name.startswith((RUNNER, CALLBACKS)) and (taken is None or name.partition("/")[0] in taken)

    leaves = [_checked(saved, _name(path), leaf) if is_taken(_name(path)) else leaf for path, leaf in expected]
    foreign = set(filter(is_taken, saved.tensors)) - {_name(path) for path, _ in expected}
    if foreign:
        raise ValueError(
            f"the checkpoint {saved.path} holds {min(foreign)!r}, which this model lacks: it has another network or "
            "normaliser. Pass the arguments that it was trained with, or leave that part out (`load_parts` of learn)."
        )
    named: Mapping[str, Any] = jax.tree.unflatten(structure, leaves)
    adam = named["adam"]
    state = TrainState(
        params=ravelled(named["params"])[0],
        normaliser=named["normaliser"],
        opt_state=AdamState(count=adam["count"], mu=ravelled(adam["mu"])[0], nu=ravelled(adam["nu"])[0]),
        key=from_storable(named["key"], like.key),
        counters=named["counters"],
    )
    on_device: TrainState = jax.device_put(state)
    return on_device


def check_parameters(saved: Checkpoint, like: Any) -> None:
    """Raises ValueError where parameters of these shapes and dtypes aren't those in a checkpoint."""
    for path, leaf in jax.tree.flatten_with_path({"params": like})[0]:
        _checked(saved, _name(path), leaf)


def _named(state: TrainState, unravel: Unravel) -> dict[str, Any]:
    return {
        "params": unravel(state.params),
        "adam": {
            "mu": unravel(state.opt_state.mu),
            "nu": unravel(state.opt_state.nu),
            "count": state.opt_state.count,
        },
        "normaliser": state.normaliser,
        "key": to_storable(state.key),
        "counters": state.counters,
    }


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _checked(saved: Checkpoint, name: str, like: Array | jax.ShapeDtypeStruct) -> np.ndarray[Any, Any]:
    if name not in saved.tensors:
        raise ValueError(
            f"the checkpoint {saved.path} lacks {name!r}: it has another network or normaliser. Pass the arguments "
            "that it was trained with."
        )
    tensor = saved.tensors[name]
    if tensor.shape != like.shape or tensor.dtype != like.dtype:
        raise ValueError(
            f"the checkpoint {saved.path}, {name!r}: expected {like.dtype} of shape {like.shape}, found {tensor.dtype} "
            f"of shape {tensor.shape}. Pass the network arguments that it was trained with."
        )
    return tensor

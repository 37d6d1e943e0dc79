"""A model's state to a checkpoint, and back."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ppo2 import spaces
from ppo2.algorithm.train_state import copied
from ppo2.checkpoints import checkpoint, tensors

if TYPE_CHECKING:
    from ppo2.agent.model import Model

Write = Callable[[str | Path], Path]


def writer(
    model: "Model", *, run: Mapping[str, Any] | None = None, runner: Mapping[str, np.ndarray[Any, Any]] | None = None
) -> Write:
    """A function that writes the model as it is now to a path, however training goes on meanwhile; for threads too.

    Args:
        run, runner: the progress of training, for `learn` to go on from, and its runner's arrays.
    """
    # everything is copied at once, before the next update is donated it
    state = copied(model.state, np.array)
    arrays = {name: np.array(array) for name, array in (runner or {}).items()}
    metadata = {**_metadata(model), "run": dict(run or {})}
    unravel = model.unravel

    def write(path: str | Path) -> Path:
        return checkpoint.save(path, {**tensors.to_tensors(state, unravel), **arrays}, metadata)

    return write


def in_memory(model: "Model") -> checkpoint.Checkpoint:
    """The checkpoint that `save` would write of a model, without a file."""
    arrays = tensors.to_tensors(copied(model.state, np.array), model.unravel)
    return checkpoint.Checkpoint(Path("<a model>"), arrays, {**_metadata(model), "run": {}})


def _metadata(model: "Model") -> dict[str, Any]:
    return {
        "config": model.config.to_json(),
        "observation_space": spaces.describe(model.observation_space),
        "action_space": spaces.describe(model.action_space),
        "encoding": model.encoding,
        "key_impl": str(jax.random.key_impl(model.state.key)),
        "responses": model.act_count,
        "placement": model.placement.saved(),
        "acts_with": model.acts_with,
        "most_parts": model.most_parts,
    }


def restore(model: "Model", saved: checkpoint.Checkpoint, parts: Collection[str] | None = None) -> None:
    """Takes over parameters, optimiser, normaliser, key and counters, that of `step`'s calls included.

    Args:
        parts: names of `tensors.PARTS`, to take over these alone; None: all.

    Raises:
        ValueError: the checkpoint is of other spaces, or of another network or normaliser.
    """
    encoding = encoding_in(saved)
    if encoding != model.encoding:
        raise ValueError(
            f"the checkpoint {saved.path} has observations encoded by rules {encoding}, this model by rules "
            f"{model.encoding}: pass `encoding={encoding}` to the function that builds its policy."
        )
    for name, mine in (("observation_space", model.observation_space), ("action_space", model.action_space)):
        theirs = space_in(saved, name)
        is_obs = name == "observation_space"
        if not spaces.same_space(mine, theirs, encoding if is_obs else spaces.ENCODING):
            raise ValueError(
                f"the checkpoint {saved.path} is of another {name.replace('_', ' ')}: expected {mine}, found "
                f"{theirs}. Load it for the environment that it was trained on."
            )
    expected, found = str(jax.random.key_impl(model.state.key)), saved.metadata.get("key_impl")
    if expected != found:
        raise ValueError(f"the checkpoint {saved.path} has random keys of the kind {found!r}; expected {expected!r}.")
    model.state = tensors.from_tensors(saved, model.state, model.unravel, parts)
    count = saved.metadata.get("responses", 0)
    model.act_count = count if type(count) is int and 0 <= count < 2**32 else 0


def encoding_in(saved: checkpoint.Checkpoint) -> int:
    """The number of the rules that a checkpoint's model encodes observations by (see `ppo2.spaces.images`).

    Raises:
        ValueError: it has none that is known.
    """
    found = saved.metadata.get("encoding")
    if type(found) is not int or not 1 <= found <= spaces.ENCODING:
        raise ValueError(f"the checkpoint {saved.path} has observations encoded by unknown rules ({found!r}).")
    return found


def space_in(saved: checkpoint.Checkpoint, name: str) -> spaces.AnySpace:
    """The space of this name in a checkpoint.

    Raises:
        ValueError: it holds none.
    """
    try:
        return spaces.from_description(saved.section(name))
    except ValueError as error:
        raise ValueError(f"the checkpoint {saved.path} has no {name.replace('_', ' ')} of ours: {error}") from error

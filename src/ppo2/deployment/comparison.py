"""The comparison of an exported policy with the model that it was made from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.deployment.examples import Example
from ppo2.deployment.policy_function import Act, named
from ppo2.distributions import ILLEGAL

NDArray = np.ndarray[Any, Any]

TOLERANCE = 1e-5
"""Largest difference between an output and the model's, where its numbers are up to 1; else as a share of the largest
of a batch. Both are float32, of 7 digits, summed in different orders."""
IMAGE_TOLERANCE = 1e-4
"""The same with images, whose networks sum thousands of products for a number, layer after layer: two of XLA's forms of
`impala_cnn` were seen to differ by 2e-5."""
ROUNDED_TOLERANCE = 3e-2
"""The same with precision='bf16', of 2 digits: an input's last bit may round to either side."""


class Comparison(NamedTuple):
    """The number of observations that a policy was compared on, and the largest difference of an output.

    `ties`: actions that differ, between options whose logits are the same but for `TOLERANCE`.
    """

    observations: int
    difference: float
    ties: int


class DifferentError(ValueError):
    """An exported policy doesn't do as the model does."""


def compare(act: Act, model: Model, examples: Iterable[Example], what: str, *, exact_types: bool = True) -> Comparison:
    """Compares an exported policy with the model's answers.

    Args:
        what: the examples, for errors.
        exact_types: outputs have the dtypes of the environment, too.

    Raises:
        DifferentError: an output differs by more than the tolerance, or in dtype or shape.
    """
    tolerance = allowed_difference(model)
    leaves = named("action", spaces.tree(model.action_space))
    count, largest, ties = 0, 0.0, 0
    for inputs, expected in examples:
        found = act(inputs)
        count += len(expected["value"])
        for name, right in expected.items():
            mine = np.asarray(found[name])
            same_type = mine.dtype == right.dtype or not exact_types
            if mine.shape != right.shape or not same_type:
                raise _error(what, name, f"is {mine.dtype} {mine.shape}; the model's is {right.dtype} {right.shape}")
            if name in leaves and not isinstance(leaves[name], gym.spaces.Box):
                differ = mine != right
                logits = expected["logits" + name.removeprefix("action")]
                if differ.any() and not _is_tied(leaves[name], mine, logits, tolerance):
                    raise _error(what, name, f"is {mine[differ][0]} where the model's is {right[differ][0]}")
                ties += int(differ.sum())
                continue
            scale = _logit_scale(right) if name.startswith("logits") else _scale(right)
            off = np.abs(mine.astype(np.float64) - right) / scale
            largest = max(largest, float(off.max(initial=0.0)))
            if not off.max(initial=0.0) <= tolerance:
                raise _error(what, name, f"differs by up to {off.max():.1e}; {tolerance:g} is allowed")
    return Comparison(count, largest, ties)


def allowed_difference(model: Model) -> float:
    """The tolerance for a model."""
    if model.config.precision == "bf16":
        return ROUNDED_TOLERANCE
    leaves = named("obs", spaces.tree(spaces.unmasked(model.observation_space)))
    return IMAGE_TOLERANCE if any(map(spaces.looks_like_image, leaves.values())) else TOLERANCE


def _scale(numbers: NDArray) -> float:
    """The size of the largest number, at least 1, by which differences are measured."""
    return max(1.0, float(np.abs(numbers.astype(np.float64)).max(initial=0.0)))


def _logit_scale(logits: NDArray) -> float:
    """`_scale` of the options that no mask rules out."""
    return _scale(logits[logits > ILLEGAL / 2])


def _is_tied(space: Any, actions: NDArray, logits: NDArray, tolerance: float) -> bool:
    """True if no option has a logit above the chosen one's, but for the tolerance."""
    near = tolerance * _logit_scale(logits)
    if isinstance(space, gym.spaces.MultiBinary):
        signs = 2.0 * actions.reshape(logits.shape) - 1
        return bool((signs * logits >= -near).all())
    sizes = [int(space.n)] if isinstance(space, gym.spaces.Discrete) else space.nvec.ravel().tolist()
    chosen = (actions - space.start).reshape(len(logits), -1)
    parts = np.split(logits, np.cumsum(sizes)[:-1], axis=-1)
    pairs = zip(parts, chosen.T.astype(int), strict=True)
    return all((np.take_along_axis(part, own[:, None], 1)[:, 0] >= part.max(1) - near).all() for part, own in pairs)


def _error(what: str, name: str, difference: str) -> DifferentError:
    return DifferentError(
        f"the exported policy isn't the model's: on {what} the output {name!r} {difference}. Nothing was written."
    )

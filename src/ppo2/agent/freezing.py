"""Freezing: parts of a model's parameters, by name, that learning leaves as they are."""

import fnmatch
import itertools
import math
from collections.abc import Sequence

import jax

from ppo2.agent.model import Model
from ppo2.algorithm.update import Parts

MOST_NAMES = 40
"""Names that an error lists."""


def parameter_names(model: Model) -> dict[str, tuple[int, ...]]:
    """The names of a model's parameters, as its checkpoints have them ("trunk/layers/0/weight"), and their shapes; in
    the order in which they are in the flat vector.
    """
    shapes = jax.eval_shape(model.unravel, model.state.params)
    named, _ = jax.tree.flatten_with_path(shapes)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in named}


def parts_to_freeze(model: Model, patterns: Sequence[str]) -> tuple[list[str], Parts]:
    """The names of the parameters that some patterns fit, and the parts of the flat vector that they are, for
    `Model.frozen`.

    Args:
        patterns: names of parameters or of what holds them, from any part of the path on, as in "trunk", "layers/0" or
            "trunk/layers/0/bias"; `*` stands for anything.

    Raises:
        ValueError: a pattern fits no parameter, all are frozen, or the model makes its gradient steps in its own way.
    """
    names = parameter_names(model)
    for pattern in patterns:
        if not any(fits(pattern, name) for name in names):
            listed = ", ".join(list(names)[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
            raise ValueError(f"`patterns`: no parameter of this model is named {pattern!r}; it has {listed}.")
    frozen = [name for name in names if any(fits(pattern, name) for pattern in patterns)]
    if len(frozen) == len(names):
        raise ValueError(f"`patterns` (={tuple(patterns)!r}) fits all parameters, so that nothing would be learned.")
    if type(model).update is not Model.update:
        raise ValueError(
            f"`patterns` (={tuple(patterns)!r}): this {type(model).__name__} replaces `update`, whose gradient steps "
            "know nothing of frozen parameters: override `loss`, `gradients` or `advantages` instead."
        )
    ends = list(itertools.accumulate(math.prod(shape) for shape in names.values()))
    parts: list[tuple[int, int]] = []
    for name, start, end in zip(names, [0, *ends], ends, strict=False):
        if name in frozen:
            is_next = parts and parts[-1][1] == start
            parts.append((parts.pop()[0] if is_next else start, end))
    return frozen, tuple(parts)


def freezes_all(model: Model) -> bool:
    """True where the frozen parts of a model are all of its parameters."""
    reached = 0
    for start, end in sorted(model.frozen):
        if start > reached:
            break
        reached = max(reached, end)
    return reached >= model.state.params.size


def fits(pattern: str, name: str) -> bool:
    """True if a pattern names a parameter, or what holds it."""
    steps = name.split("/")
    ends = ["/".join(steps[i:]) for i in range(len(steps))]
    return any(fnmatch.fnmatchcase(end, pattern) or fnmatch.fnmatchcase(end, f"{pattern}/*") for end in ends)

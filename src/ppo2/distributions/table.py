"""The table from action spaces, and names that users give, to distributions."""

from collections.abc import Mapping

import gymnasium as gym
import numpy as np

from ppo2.distributions.base import ActionDistribution, ArrayActions
from ppo2.distributions.choices import BernoulliActions, CategoricalActions, MultiCategoricalActions
from ppo2.distributions.gaussians import GaussianActions, SquashedGaussianActions
from ppo2.distributions.joint import JointActions
from ppo2.spaces import COMPOSITE, AnySpace

BOXES: Mapping[str, type[ArrayActions]] = {
    "gaussian": GaussianActions,
    "squashed_gaussian": SquashedGaussianActions,
}
"""Distributions of a Box by the names of the setting `action_dist`, which repeats them in its type."""
CHOICES: Mapping[type[AnySpace], type[ArrayActions]] = {
    gym.spaces.Discrete: CategoricalActions,
    gym.spaces.MultiDiscrete: MultiCategoricalActions,
    gym.spaces.MultiBinary: BernoulliActions,
}


def action_distribution(space: AnySpace, action_dist: str = "gaussian") -> ActionDistribution:
    """The distribution of actions of `space`; of Boxes in it, the one named `action_dist`.

    Raises:
        TypeError: no distribution is known for `space`, or for a part of it.
        ValueError: a Box without bounds that is to be squashed between them.
    """
    if isinstance(space, COMPOSITE) and space.spaces:
        return JointActions.of(space, lambda part: action_distribution(part, action_dist))
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
        return BOXES[action_dist].of(space)
    for kind, distribution in CHOICES.items():
        if isinstance(space, kind):
            return distribution.of(space)
    raise TypeError(
        f"`env` has the action space {space}, alone or as a part; known are Discrete, MultiDiscrete, MultiBinary, "
        "Box of floats, and Tuple and Dict of these. "
        "Wrap the environment to give one of these (gymnasium.wrappers.TransformAction)."
    )

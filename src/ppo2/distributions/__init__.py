"""Probability distributions over actions.

Sampling is split in two: `noise` draws, once for a whole rollout and with no parameters at hand, the standard noise
that `sample` then shifts into an action. On CPU a random draw inside every acting step costs twice the rest of the
step; one draw for the rollout costs next to nothing, and its bits don't depend on how the rollout is cut up.

Actions are the library's own: a choice counts from 0, a number is what was sampled, before it is clipped to its bounds
or squashed between them. So log-probabilities are exact, and nothing has to be inverted. `to_environment` makes them
what the environment wants.

A new distribution is one file that holds a `Distribution`, with the arrays of a batch, and an `ArrayActions`, with the
facts: numbers of parameters and noise, how to build it, how its samples become the environment's actions. One line in
`table.py` gives it to a kind of space, or to a name for users.

Shapes: `...` are batch axes, the same for parameters, noise and actions.
"""

from ppo2.distributions.base import ILLEGAL, ActionDistribution, ArrayActions, Distribution
from ppo2.distributions.choices import Bernoulli, Categorical, MultiCategorical
from ppo2.distributions.gaussians import LOG_STD_BOUNDS, SQUASHED_LOG_STD_BOUNDS, DiagGaussian, SquashedGaussian
from ppo2.distributions.joint import Joint, JointActions
from ppo2.distributions.table import BOXES, action_distribution

__all__ = [
    "BOXES",
    "ILLEGAL",
    "LOG_STD_BOUNDS",
    "SQUASHED_LOG_STD_BOUNDS",
    "ActionDistribution",
    "ArrayActions",
    "Bernoulli",
    "Categorical",
    "DiagGaussian",
    "Distribution",
    "Joint",
    "JointActions",
    "MultiCategorical",
    "SquashedGaussian",
    "action_distribution",
]

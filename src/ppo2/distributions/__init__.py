"""Probability distributions over actions.

Sampling is split in two: `noise` draws, once for a whole rollout and with no parameters at hand, the standard noise
that `sample` then shifts into an action. On CPU a random draw inside every acting step costs twice the rest of the
step; one draw for the rollout costs next to nothing, and its bits don't depend on how the rollout is cut up.

Actions are the library's own, before any conversion to what an environment wants (`ppo2.spaces.to_environment`): a
choice counts from 0, a number is what was sampled, before it is clipped to its bounds or squashed between them. So
log-probabilities are exact, and nothing has to be inverted.

Shapes: `...` are batch axes, the same for parameters, noise and actions.
"""

from ppo2.distributions.action_distribution import ACTION_DISTS, ActionDistribution
from ppo2.distributions.base import Distribution
from ppo2.distributions.choices import ILLEGAL, Bernoulli, Categorical, MultiCategorical
from ppo2.distributions.gaussians import LOG_STD_BOUNDS, SQUASHED_LOG_STD_BOUNDS, DiagGaussian, SquashedGaussian
from ppo2.distributions.joint import Joint

__all__ = [
    "ACTION_DISTS",
    "ILLEGAL",
    "LOG_STD_BOUNDS",
    "SQUASHED_LOG_STD_BOUNDS",
    "ActionDistribution",
    "Bernoulli",
    "Categorical",
    "DiagGaussian",
    "Distribution",
    "Joint",
    "MultiCategorical",
    "SquashedGaussian",
]

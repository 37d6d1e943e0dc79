"""Outcome of a step of some environments, beside what is in their buffers; without JAX, for the workers."""

from collections.abc import Sequence
from typing import NamedTuple

from ppo2.envs.host.failures import EnvFailure
from ppo2.envs.host.infos import EnvInfo

ENDED, TOLD, CUT, FAILED = 1, 2, 4, 8
"""Flags of a step: an episode ended; environments told of one that they counted, or of numbers at an end; an episode
was truncated, not terminated; an environment failed.
"""


class StepOutcome(NamedTuple):
    """Outcome of a step beside what is in the buffers.

    Attributes:
        flags: sum of those of ENDED, TOLD, CUT and FAILED that hold.
        failures: environments that failed.
        infos: the environments' infos, if they were asked for.
    """

    flags: int
    failures: Sequence[EnvFailure]
    infos: Sequence[EnvInfo]


PLAIN = StepOutcome(0, (), ())
"""Outcome of most steps: what is in the buffers is all."""

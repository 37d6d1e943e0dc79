"""Outcome of a step of some environments, beside what is in their buffers; without JAX, for the workers."""

from collections.abc import Sequence
from typing import NamedTuple

from ppo2.envs.host.failures import EnvFailure
from ppo2.envs.host.infos import EnvInfo

ENDED, TOLD = 1, 2
"""Flags of a step: an episode ended; environments told of one that they counted, or of numbers at an end."""


class StepOutcome(NamedTuple):
    """Outcome of a step beside what is in the buffers.

    Attributes:
        flags: ENDED and TOLD, where they hold.
        failures: environments that failed.
        infos: the environments' infos, if they were asked for.
    """

    flags: int
    failures: Sequence[EnvFailure]
    infos: Sequence[EnvInfo]


PLAIN = StepOutcome(0, (), ())
"""Outcome of most steps: what is in the buffers is all."""

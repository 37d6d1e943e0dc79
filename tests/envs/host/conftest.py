"""Vector environments that are closed after a test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ppo2.envs.host.failures import FailureLog
from ppo2.envs.host.vector import HostVectorEnv


@pytest.fixture
def made() -> Iterator[Callable[..., HostVectorEnv]]:
    """Makes vector environments, and closes them."""
    every: list[HostVectorEnv] = []

    def make(factories: list[Any], **how: Any) -> HostVectorEnv:
        every.append(HostVectorEnv(factories, **how))
        every[-1].failures = FailureLog(first_steps=0)  # failures are survived from the first step on
        return every[-1]

    yield make
    for env in every:
        env.close()

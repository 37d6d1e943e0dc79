"""A cluster of Ray on this machine."""

import os
import signal
import warnings
from collections.abc import Iterator
from typing import Any

import pytest


def local_ray(processors: int) -> Iterator[Any]:
    """The module `ray`, connected to a cluster of so many processors, to be shut down: the body of a fixture."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address="local", num_cpus=processors, include_dashboard=False, logging_level="ERROR")
    signal.signal(signal.SIGTERM, before)
    yield ray
    ray.shutdown()

"""Gymnasium's own tests of vector environments, with `HostVectorEnv` in place of `SyncVectorEnv`.

    git clone --branch v1.4.0 https://github.com/Farama-Foundation/Gymnasium
    python bench/gymnasium_tests.py Gymnasium [--workers 1]

The package on PyPI doesn't hold these tests, hence the checkout, of the version that is installed. Tests of
AsyncVectorEnv are left out, as are those in `EXCLUDED`; all others must pass. The same reach, in our own words, has
tests/envs/host/test_gymnasium_contract.py, which `make test` runs.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import sync_vector_env

from ppo2.envs.host.vector import HostVectorEnv

FOLDERS = ("tests/vector", "tests/wrappers/vector")
SAME_STEP = "another autoreset mode than SAME_STEP"
WRAPPER = "a vector observation wrapper, which Gymnasium refuses around SAME_STEP"
SPACES = "spaces that no policy here takes, or environments of different spaces (`observation_mode`)"
SEEDS = "every episode has a seed of its own here, for exact resume; Gymnasium seeds the first alone"
EXCLUDED = {
    "they are of AsyncVectorEnv": ("test_async_vector_env.py", "Async", "VectorizeMode.ASYNC", "async"),
    SAME_STEP: (
        "NEXT_STEP", "DISABLED", "test_metadata_sync_vector_env", "test_final_obs_info", "test_vector_return_info",
        "test_autoreset_next_step", "test_autoreset_disabled", "test_record_episode_statistics[",
        "test_normalize_reward.py::test_functionality", "test_normalize_reward.py::test_against_wrapper",
        "test_normalize_reward.py::test_equivalence_with_wrapper",
    ),
    WRAPPER: (
        "test_normalize_observation.py", "test_transform_observation.py", "FilterObservation", "FlattenObservation",
        "GrayscaleObservation", "ResizeObservation", "ReshapeObservation", "RescaleObservation", "DtypeObservation",
    ),
    SPACES: (
        "Graph(", "Sequence(", "Text(", "OneOf(", "test_custom_space_sync_vector_env", "test_check_spaces_sync",
        "test_observation_mode.py",
    ),
    SEEDS: ("test_vector_env_equal",),
    "they show windows or write films": ("test_human_rendering.py", "test_record_video.py"),
}  # fmt: skip
"""Parts of the names of tests that are left out, by reason."""


class Selection:
    """A plugin of pytest that leaves out what is excluded, and counts it."""

    def __init__(self) -> None:
        self.left_out = dict.fromkeys(EXCLUDED, 0)

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in list(items):
            for reason, names in EXCLUDED.items():
                if "vector/utils/" not in item.nodeid and any(name in item.nodeid for name in names):
                    self.left_out[reason] += 1
                    items.remove(item)
                    break


def replacement(workers: int) -> type[HostVectorEnv]:
    """`HostVectorEnv` with the arguments of `SyncVectorEnv`."""

    class Replacement(HostVectorEnv):
        def __init__(self, env_fns: Sequence[Callable[[], Any]], copy: bool = True, **_: Any) -> None:
            factories = list(env_fns)
            super().__init__(factories, copy=copy, workers=min(workers, len(factories) - 1))

    return Replacement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", help="folder of Gymnasium's repository")
    parser.add_argument("--workers", type=int, default=0, help="processes beside the one that steps")
    arguments = parser.parse_args()
    gym.vector.SyncVectorEnv = sync_vector_env.SyncVectorEnv = replacement(arguments.workers)  # type: ignore[misc,assignment]
    os.chdir(arguments.checkout)
    sys.path.insert(0, os.getcwd())
    selection = Selection()
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", "-c", os.devnull, "--rootdir", "."]
    status = pytest.main([*options, *FOLDERS], plugins=[selection])
    for reason, count in selection.left_out.items():
        print(f"{count} left out: {reason}")
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main())

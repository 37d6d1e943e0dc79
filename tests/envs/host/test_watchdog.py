"""The time that a step of an environment may take."""

import time
from pathlib import Path
from typing import Any

import pytest

from support.host_envs import FAILURES, Counting, once


@pytest.mark.timeout(60)
@pytest.mark.parametrize("workers", [0, 1])
def test_the_timeout_is_one_environments(workers: int, made: Any) -> None:
    env = made(
        [lambda: Counting(0, at=1, what=lambda: time.sleep(0.4)) for _ in range(4 + 4 * workers)],
        workers=workers,
        env_timeout=1.0,
    )
    env.reset(seed=0)
    assert "failed" not in env.step([0] * env.num_envs)[-1]


@pytest.mark.timeout(60)
def test_making_a_hung_environment_again_has_its_own_time(made: Any, tmp_path: Path) -> None:
    hang = once(tmp_path / "hung", FAILURES["hangs"][0])
    slowly: list[int] = []

    def factory() -> Any:
        if slowly:
            time.sleep(0.8)
        slowly.append(1)
        return Counting(0, at=2, what=hang)

    env = made([factory], env_timeout=1.0)
    env.reset(seed=0)
    failed = ["failed" in env.step([0])[-1] for _ in range(3)]
    assert failed == [False, True, False]

"""Runs of a sweep in actors of Ray. `pip install '.[ray]' -c constraints.txt`, then
`pytest tests/sweeps/test_ray.py`: without Ray only the error that says so is tested.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from ppo2.agent.pickling import packed, unpacked
from ppo2.agent.surroundings import Surroundings
from ppo2.sweeps.ray import RunActor
from ppo2.system import processors
from support.cluster import local_ray
from support.environments import Script

SMALL: dict[str, Any] = {
    "nsteps": 16, "num_envs": 2, "total_timesteps": 96, "nminibatches": 2, "noptepochs": 1, "num_hidden": 8,
    "log_interval": 1, "seed": [3, 4],
}  # fmt: skip


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of this machine."""
    yield from local_ray(2)


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray() -> None:
    with pytest.raises(ValueError, match=r"`backend` \(='ray'\) needs a package that isn't installed"):
        ppo2.sweep(env=Script, backend="ray", **SMALL)


def test_an_actor_of_a_quiet_sweep_prints_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "_of_all", None)  # which it sets, in a process of its own
    work = packed((Script, {**SMALL, "seed": 3}))
    for verbose in (1, 0):
        answer = unpacked(RunActor().train(0, 0, None, packed(Surroundings.here()), work, verbose))
        assert answer.model is not None
        assert bool(capsys.readouterr().out) == bool(verbose)


@pytest.mark.usefixtures("ray")
def test_runs_in_actors_are_those_of_this_process(tmp_path: Path) -> None:
    def env() -> Any:
        return Script(3)

    there = ppo2.sweep(env=env, backend="ray", run_dir=tmp_path / "s", **SMALL)
    here = ppo2.sweep(env=env, parallel=1, **SMALL)
    assert there.table == here.table
    for mine, theirs in zip(there.models, here.models, strict=True):
        np.testing.assert_array_equal(mine.state.params, theirs.state.params)
    assert (tmp_path / "s" / "runs" / "0001" / "progress.csv").exists()


@pytest.mark.usefixtures("ray")
def test_a_run_that_fails_in_an_actor() -> None:
    def env() -> Any:
        made = Script(3)
        if "RAY_ADDRESS" not in os.environ and not os.environ.get("PPO2_ALONE"):  # here, to be looked at
            return made
        raise ZeroDivisionError("it broke")

    with pytest.raises(Exception, match="it broke"):
        ppo2.sweep(env=env, backend="ray", **SMALL)

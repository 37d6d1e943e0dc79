"""Files made to deceive are refused, or loaded as what they are: at once, and without the memory that they lie of."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ppo2

QUICK, SLOW = 200, 2000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, small, but with all that a checkpoint may hold."""
    path = tmp_path_factory.mktemp("fuzzing") / "run"
    ppo2.learn(
        env="CartPole-v1",
        num_envs=2,
        nsteps=8,
        nminibatches=2,
        total_timesteps=32,
        num_hidden=8,
        value_network="copy",
        normalize_obs=True,
        normalize_rewards=True,
        eval_env="CartPole-v1",
        eval_episodes=1,
        keep=2,
        seed=1,
        run_dir=path,
    )
    return path


def check(run: Path, first: int, count: int) -> None:
    program = Path(__file__).parent.parent / "support" / "mutations.py"
    done = subprocess.run(
        [sys.executable, program, str(run), str(first), str(count)], capture_output=True, text=True, check=False
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (found[-1:], done.stderr[-3000:])
    assert len(found) >= count
    wrong = [one for one in found if one["came"] not in ("loaded", "refused")]
    assert not wrong
    assert sum(one["came"] == "refused" for one in found) > count / 2
    assert any(one["came"] == "loaded" for one in found)
    # bounds for hangs: a load takes a twentieth of a second, and the largest lies that are looked at half of one
    assert sum(one["seconds"] for one in found) < 0.3 * len(found)
    assert not [one for one in found if one["seconds"] > 3.0]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_mutations(run: Path) -> None:
    check(run, 0, QUICK)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize("first", range(10_000, 10_000 + SLOW, 500))
def test_more_mutations(run: Path, first: int) -> None:
    check(run, first, 500)

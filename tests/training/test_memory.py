"""Memory and handles stay flat while training goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux' /proc")

PROGRAM = """
import os, sys
import ppo2

ppo2.configure_runtime()
seen = []

def look(update):
    if update % 100 == 0:
        pages = int(open("/proc/self/statm").read().split()[1])
        seen.append((pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))))

ppo2.learn(
    env="{env}", num_envs=2, nsteps=8, nminibatches=1, noptepochs=1, total_timesteps=2 * 8 * 2600, seed=0,
    normalize_obs=True, log_interval=2, save_interval=50, keep=2, eval_env="{env}", eval_interval=500, eval_episodes=2,
    run_dir=sys.argv[1], update_fn=look,
)
for line in seen:
    print("seen", *line)
"""


@pytest.mark.parametrize("env", ["CartPole-v1", pytest.param("gymnax:CartPole-v1", marks=pytest.mark.slow)])
def test_flat_over_two_thousand_updates(env: str, tmp_path: Path) -> None:
    if env.startswith("gymnax"):
        pytest.importorskip("gymnax")
    script = tmp_path / "train.py"
    script.write_text(PROGRAM.format(env=env))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    seen = [[int(x) for x in line.split()[1:]] for line in done.stdout.splitlines() if line.startswith("seen")]
    assert len(seen) == 26
    before, after = seen[:6], seen[6:]  # from update 600 on
    assert max(size for size, _ in after) - before[-1][0] < 4 * 2**20
    assert min(count for _, count in after) <= max(count for _, count in before)  # one more while a file is written

"""The start of a process that trains: the programs that it compiles, and the modules that it imports."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, sys
import ppo2
from tests.support.compiling import compilations

with compilations() as programs:
    ppo2.learn(env="CartPole-v1", total_timesteps=40, num_envs=2, nsteps=10, nminibatches=2, noptepochs=1, num_hidden=4,
               value_network="copy", normalize_obs=True, normalize_rewards=True, progress=False, seed=0)
print(json.dumps({"programs": programs, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def start() -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_only_the_programs_of_training_are_compiled(start):
    # each array made by `jnp` outside of them would be a program of its own: 20 took a third of a second; NumPy acts
    assert set(start["programs"]) == {"noise", "completed", "observe", "train", "product"}
    assert len(start["programs"]) == 5


@pytest.mark.parametrize("module", ["matplotlib", "PIL", "tyro", "ray", "flax", "keras", "scipy.special"])
def test_what_a_plain_training_does_not_use_is_not_imported(start, module):
    assert module not in start["modules"]

"""Every example runs as it stands."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from support.children import STRICT_PYTHON

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([*STRICT_PYTHON, str(example)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 50  # it learned something


def test_ppo_on_one_page_ends_with_the_parameters_of_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES[0].parent))  # it imports the environment of another example
    page: Any = loaded(next(path for path in EXAMPLES if path.stem == "ppo_on_one_page"))
    updates = 3
    settings = {**page.NUMBERS, "nsteps": page.NSTEPS, "num_envs": page.NUM_ENVS, "seed": 5}
    settings |= {"noptepochs": page.NOPTEPOCHS, "nminibatches": page.NMINIBATCHES, "shards": 1}
    theirs = ppo2.learn(env=page.env, total_timesteps=updates * page.NSTEPS * page.NUM_ENVS, **settings)
    mine = page.train(updates, seed=5)
    start = page.train(0, seed=5)
    np.testing.assert_allclose(mine.state.params, theirs.state.params, rtol=0, atol=1e-6)
    assert np.abs(np.asarray(start.state.params) - np.asarray(mine.state.params)).max() > 1e-3  # they did learn


def loaded(path: Path) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

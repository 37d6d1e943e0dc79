"""Every example runs as it stands, learns, is short and has a place in the documentation."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ppo2
from support.children import STRICT_PYTHON
from support.jobs import Job
from support.scripts import loaded

FOLDER = Path(__file__).parent.parent / "examples"
LEARNED = {
    "callbacks": 80,
    "deploy": 200,
    "dict_observation": 80,
    "flax_network": 200,
    "images": 80,
    "masks": 95,
    "memory": 90,
    "own_device_env": 50,
    "own_env": 70,
    "own_loss": 200,
    "own_network": 200,
    "ppo_on_one_page": 50,
    "resume": 200,
    "self_play": 80,
    "several_processes": 60,
    "sweep": 50,
    "train_evaluate_save": 200,
}
"""The examples, and the least that the last number which each prints must be. Before learning it is 10 to 50, of masks
70."""
LINK = r"https://github\.com/[\w-]+/ppo2/blob/HEAD/examples"
LONG = {"ppo_on_one_page": 110}
"""Lines of those that may have more than 60."""


def test_every_example_is_here() -> None:
    assert LEARNED.keys() == {path.stem for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", sorted(LEARNED.keys() - {"several_processes"}))
def test_example(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has JAX already; the next test starts one as its reader does."""
    if name == "flax_network":
        pytest.importorskip("flax")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])  # the folder of a script comes first
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert float(capsys.readouterr().out.split()[-1]) > LEARNED[name]


@pytest.mark.core
def test_an_example_as_its_reader_starts_it(tmp_path: Path) -> None:
    example = FOLDER / "train_evaluate_save.py"
    command = [*STRICT_PYTHON, str(example), "--total-timesteps", "4096", "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0


def test_several_processes(tmp_path: Path) -> None:
    job = Job(tmp_path, *STRICT_PYTHON, str(FOLDER / "several_processes.py"), "--total-timesteps", "8192")
    assert job.end() == [0, 0], job.output()
    first, second = job.output("out")
    assert "2 processes" in first
    assert float(first.split()[-1]) > LEARNED["several_processes"]
    assert "mean return" not in second  # one of them speaks; JAX's Gloo may, too


@pytest.mark.core
@pytest.mark.parametrize("name", LEARNED)
def test_an_example_is_short_and_says_how_to_start_it(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONG.get(name, 60)
    assert f"python examples/{name}.py" in text or name in LONG


@pytest.mark.core
@pytest.mark.parametrize("name", LEARNED)
def test_an_example_and_its_page_lead_to_each_other(name: str) -> None:
    docs = FOLDER.parent / "docs"
    row = re.search(rf"^\| \[`{name}\.py`\]\({LINK}/{name}\.py\) \|.*\]\(([\w/-]+\.md)", listing(), re.MULTILINE)
    assert row is not None
    assert re.search(rf"{LINK}/{name}\.py\)", (docs / row[1]).read_text(encoding="utf-8")), row[1]


@pytest.mark.core
def test_the_list_of_examples_has_the_notebooks() -> None:
    assert all(f"/{path.name})" in listing() for path in (FOLDER / "notebooks").glob("*.ipynb"))


def listing() -> str:
    return (FOLDER.parent / "docs" / "examples.md").read_text(encoding="utf-8")


def test_ppo_on_one_page_ends_with_the_parameters_of_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))  # it imports the environment of another example
    page: Any = loaded(FOLDER / "ppo_on_one_page.py")
    updates = 3
    settings = {**page.NUMBERS, "nsteps": page.NSTEPS, "num_envs": page.NUM_ENVS, "seed": 5}
    settings |= {"noptepochs": page.NOPTEPOCHS, "nminibatches": page.NMINIBATCHES, "shards": 1}
    theirs = ppo2.learn(env=page.env, total_timesteps=updates * page.NSTEPS * page.NUM_ENVS, **settings)
    mine = page.train(updates, seed=5)
    start = page.train(0, seed=5)
    np.testing.assert_allclose(mine.state.params, theirs.state.params, rtol=0, atol=1e-6)
    assert np.abs(np.asarray(start.state.params) - np.asarray(mine.state.params)).max() > 1e-3  # they did learn

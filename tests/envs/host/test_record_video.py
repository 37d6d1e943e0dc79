"""Gymnasium's RecordVideo in a function that makes environments."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import ppo2


def recorded(folder: str) -> gym.Env[Any, Any]:
    """CartPole, of which every episode is filmed, into a folder of its process and number."""
    import os

    place = Path(folder) / f"{os.getpid()}-{len(list(Path(folder).iterdir()))}"
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=12)
    return gym.wrappers.RecordVideo(env, str(place), episode_trigger=lambda n: True, disable_logger=True)


@pytest.mark.filterwarnings("ignore")  # MoviePy's own
@pytest.mark.parametrize("workers", [0, 1])
def test_films_are_whole_at_the_end(tmp_path, workers):
    pytest.importorskip("moviepy")
    settings = {"num_envs": 2, "nsteps": 16, "nminibatches": 1, "noptepochs": 1, "num_hidden": 8, "seed": 1}
    ppo2.learn(
        env=recorded,
        total_timesteps=32,
        env_kwargs={"folder": str(tmp_path), "workers": workers},
        **settings,
        verbose=0,
    )
    films = {path.parent.name: sorted(path.parent.glob("*.mp4")) for path in tmp_path.rglob("*.mp4")}
    assert len(films) == 2  # of both environments
    assert len({name.split("-")[0] for name in films}) == 1 + workers  # processes
    for some in films.values():
        assert len(some) > 1  # the last one, too, which was being filmed
        assert all(b"moov" in path.read_bytes() for path in some)  # an index, which is written last


def test_the_extra_is_named_where_moviepy_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    with pytest.raises(ValueError, match=r"RecordVideo needs MoviePy: pip install 'ppo2\[video\]'"):
        ppo2.learn(env=recorded, total_timesteps=32, env_kwargs={"folder": str(tmp_path)}, num_envs=2, nsteps=16)

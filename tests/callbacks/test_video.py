"""Films while training goes on: real ones, of small environments, made by another process."""

import importlib.util
import json
import os
import subprocess
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2 import distributed
from ppo2.callbacks import Video
from ppo2.callbacks.video import check_films
from ppo2.cli.train import Resume
from ppo2.reports.runs import newest_clip

pytest.importorskip("imageio_ffmpeg")
pytestmark = pytest.mark.usefixtures("quickly_compiled")


class Strips(gym.Env[Any, Any]):
    """Episodes of 4 steps, or 2 where the first observation is above 0; its picture gets brighter with each."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (as Gymnasium has it)
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None, frame: str = "plain"):
        self.render_mode, self.frame = render_mode, frame

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        self.length = 2 if obs[0] > 0 else 4
        return obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        return obs, float(action), self.t == self.length and self.frame != "endless", False, {}

    def render(self) -> Any:
        if self.frame == "fails":
            raise RuntimeError("no screen")
        if self.frame == "dies":
            os.abort()
        size = 240 + 10 * self.t if self.frame == "grows" else 240
        return None if self.frame == "none" else np.full((size, 240, 3), 50 * self.t, np.uint8)


class Blind(Strips):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


gym.register("ppo2-tests/Strips-v0", entry_point=Strips)
gym.register("ppo2-tests/Unseen-v0", entry_point=Blind)

SMALL: dict[str, Any] = {"num_envs": 2, "nsteps": 8, "seed": 3, "nminibatches": 2, "num_hidden": 8, "verbose": 1}


def read(path: Path) -> np.ndarray[Any, Any]:
    """The frames of a film. (imageio leaves ffmpeg's pipes open.)"""
    import imageio.v3 as imageio
    import imageio_ffmpeg

    if path.suffix == ".gif":
        return imageio.imread(path)
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-c:v", "ppm", "-f", "image2pipe", "-"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)  # JAX's
        data = subprocess.run(words, capture_output=True, check=True).stdout
    width, height = map(int, data.split(maxsplit=3)[1:3])
    header = len(b"P6\n%d %d\n255\n" % (width, height))
    return (
        np.frombuffer(data, np.uint8).reshape(-1, header + height * width * 3)[:, header:].reshape(-1, height, width, 3)
    )


def films(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "videos").iterdir())


def train(run_dir: Path, updates: int = 4, env: Any = "ppo2-tests/Strips-v0", **more: Any) -> ppo2.Model:
    return ppo2.learn(env=env, total_timesteps=16 * updates, run_dir=run_dir, **SMALL | more)


def test_films_come_at_the_interval_with_the_first_and_the_last(tmp_path):
    """And training's bits are those without them: 4 updates of 16 timesteps; due are 1, 3 and, as the last, 4."""
    filmed = train(tmp_path / "a", video_interval=3, video_envs=4)
    plain = train(tmp_path / "b")
    assert filmed.state.params.tolist() == plain.state.params.tolist()
    assert films(tmp_path / "a") == ["step_000000016.mp4", "step_000000048.mp4", "step_000000064.mp4"]
    film = read(tmp_path / "a" / "videos" / "step_000000064.mp4")
    assert film.shape == (5, 484, 484, 3)  # the first state and 4 steps; 2 x 240 and a gap
    cells = [film[:, y, x, 0].astype(int) for y in (100, 380) for x in (100, 380)]
    lengths = ppo2.evaluate(filmed, "ppo2-tests/Strips-v0", episodes=4, num_envs=4, seed=3).lengths.tolist()
    assert set(lengths) == {2, 4}
    for cell in cells:
        going_on = [0, 50, 100, 150, 200]
        stopped = [0, 50, 100, 50, 50]  # 100 is dimmed to 50
        assert any(np.allclose(cell, wanted, atol=10) for wanted in (going_on, stopped))
    assert sum(abs(int(cell[-1]) - 50) < 10 for cell in cells) == lengths.count(2)


def test_a_run_that_goes_on_films_as_before_or_otherwise(tmp_path):
    run = tmp_path / "run"
    train(run, 2, video_interval=2)
    assert films(run) == ["step_000000016.mp4", "step_000000032.mp4"]
    assert json.loads((run / "config.json").read_text())["video_interval"] == 2
    train(run, 4, load_path=run, video_interval=1)
    assert films(run)[2:] == ["step_000000048.mp4", "step_000000064.mp4"]
    train(run, 5, load_path=run)
    assert len(films(run)) == 4
    arguments = [Resume(run=run, total_timesteps=160, video_interval=one)._arguments() for one in (7, None)]
    assert [found and found["video_interval"] for found in arguments] == [7, 0]


def test_each_run_of_a_sweep_films_into_its_own_directory(tmp_path):
    how = SMALL | {"seed": [1, 2], "parallel": 1, "total_timesteps": 16, "run_dir": tmp_path / "s"}
    ppo2.sweep(env="ppo2-tests/Strips-v0", video_interval=1, **how)
    assert [films(tmp_path / "s" / "runs" / run) for run in ("0000", "0001")] == [["step_000000016.mp4"]] * 2


def test_the_callback_has_state_and_films_another_environment(tmp_path, capfd):
    run = tmp_path / "run"
    video = Video(1, steps=2, env=Strips, env_kwargs={"frame": "endless"})
    train(run, 2, callbacks=[video])
    assert video.films == ["step_000000016.mp4", "step_000000032.mp4"]
    assert len(read(run / "videos" / video.films[0])) == 3  # cut after 2 steps
    again = Video(1, steps=2, env=Strips, env_kwargs={"frame": "endless"})
    train(run, 3, load_path=run, callbacks=[again])
    assert again.films == [*video.films, "step_000000048.mp4"]
    assert "no film" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("fails", "drawing the environment failed (RuntimeError: no screen)"),
        ("none", "`render` gave None"),
        ("dies", "the process that films was killed by signal 6"),
    ],
)
def test_a_film_that_fails_is_a_warning(tmp_path, capfd, frame, words):
    train(tmp_path / "run", 2, video_interval=1, env_kwargs={"frame": frame})
    said = capfd.readouterr().out
    assert words in said
    assert said.count("no film") == 1
    assert not list((tmp_path / "run").glob("videos/*"))


def test_pictures_of_other_sizes_and_a_folder_in_the_way(tmp_path, capfd):
    train(tmp_path / "a", 1, video_interval=1, env_kwargs={"frame": "grows"})
    assert read(tmp_path / "a" / "videos" / "step_000000016.mp4").shape[1:] == (240, 240, 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "videos").write_text("a file")
    train(tmp_path / "b", 2, video_interval=1)
    said = capfd.readouterr().out
    assert "put the directory back, or move away what is in its place" in said
    assert said.count("no film") == 1  # one reason, though its words name each film


def test_the_last_policys_film_is_the_newest_though_others_waited(tmp_path):
    (tmp_path / "videos").mkdir()
    for age, name in ((2000, "step_000000064.mp4"), (1000, "step_000000032.mp4")):  # in the order they were made
        (tmp_path / "videos" / name).write_bytes(b"")
        os.utime(tmp_path / "videos" / name, (time.time() - age,) * 2)
    video = Video()
    video._filmed = 4
    video._maker = SimpleNamespace(wait=lambda *_: True, shots=list)  # type: ignore[assignment]
    video.before_end(SimpleNamespace(run_dir=tmp_path, timesteps=64, update=4), lambda: False)  # type: ignore[arg-type]
    assert newest_clip(tmp_path) == tmp_path / "videos" / "step_000000064.mp4"


def test_films_of_more_than_a_billion_timesteps_come_in_their_order(tmp_path):
    (tmp_path / "videos").mkdir()
    names = ["step_999999999.mp4", "step_1000000000.mp4", "step_1000000001.mp4", "step_of_mine.mp4"]
    for name in names:
        (tmp_path / "videos" / name).write_bytes(b"")
    video = Video()
    video._find_films(SimpleNamespace(run_dir=tmp_path, timesteps=10**9, update=5))  # type: ignore[arg-type]
    assert video.films == names[:2]


def test_the_first_processs_run_dir_counts(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: SimpleNamespace(is_first=False))
    check_films([Video()], None)


class DrawnCounter:
    """A device environment of 3 steps that draws itself."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jax.random.uniform(key, (2,))

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, jax.random.uniform(key, (2,)), jnp.float32(action), state + 1 >= 3, False, {}

    def render(self, state: Any) -> Any:
        return np.full((240, 240, 3), 60 * int(state), np.uint8)


class UndrawnCounter(DrawnCounter):
    render = None  # type: ignore[assignment]


def test_device_environments_that_draw_themselves(tmp_path):
    env = ppo2.envs.TimeLimit(DrawnCounter(), 2)
    model = train(tmp_path / "run", 1, env=env, video_interval=1)
    film = read(tmp_path / "run" / "videos" / "step_000000016.mp4")
    assert np.allclose(film[:, 0, 0, 0], [0, 60, 120], atol=8)
    from ppo2.evaluation.play import play

    play(model, env, video=tmp_path / "out.gif")
    assert len(read(tmp_path / "out.gif")) == 3


def made() -> gym.Env[Any, Any]:
    return Strips()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("ppo2-tests/Unseen-v0", r"`env` \(='ppo2-tests/Unseen-v0'\) can't be drawn: its render modes are ansi"),
        (made, r"makes environments of render_mode None, and films need 'rgb_array': let it take an argument"),
        (UndrawnCounter(), r"is a device environment without a method render\(state\)"),
    ],
)
def test_environments_that_cannot_be_filmed_are_errors_before_any_work(tmp_path, env, words):
    with pytest.raises(ValueError, match=words):
        train(tmp_path / "run", env=env, video_interval=1)


def test_environments_that_exist_are_made_anew_where_that_is_known(tmp_path):
    with pytest.raises(ValueError, match="is there once, and films are made of environments of their own"):
        train(tmp_path / "a", env=Strips(), num_envs=None, video_interval=1)
    train(tmp_path / "b", 1, env=gym.make("ppo2-tests/Strips-v0"), num_envs=None, nsteps=16, video_interval=1)
    train(tmp_path / "c", 1, env=ppo2.make(Strips, num_envs=2), video_interval=1)
    assert films(tmp_path / "b") == films(tmp_path / "c") == ["step_000000016.mp4"]


def test_refuses(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="`video_interval`: films are written into the run directory: give `run_dir`"):
        train(None, video_interval=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`video_interval` \(=-1\)"):
        train(tmp_path / "a", video_interval=-1)
    with pytest.raises(ValueError, match="2 Videos would film into the same files"):
        train(tmp_path / "a", video_interval=1, callbacks=[Video()])
    with pytest.raises(ValueError, match=r"`envs` \(=0\)"):
        Video(envs=0)
    with pytest.raises(ValueError, match=r"`video_interval` \(=2\) is for runs that train by themselves"):
        ppo2.sweep(env=DrawnCounter(), total_timesteps=16, run_dir=tmp_path / "s", video_interval=2, seed=[1, 2])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"films need imageio and imageio_ffmpeg: pip install"):
        train(tmp_path / "a", video_interval=1)
    assert not (tmp_path / "a").exists()

import importlib.util
import os
import signal
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import ppo2
from ppo2.evaluation.play import play


class Strip(gym.Env[Any, Any]):
    """Episodes of 4 steps; its picture gets brighter with each."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 10}  # noqa: RUF012 (as Gymnasium has it)
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    modes: list[str | None] = []  # noqa: RUF012 (of all that were made)

    def __init__(self, render_mode: str | None = None, fails_at: int | None = None):
        self.render_mode, self.fails_at = render_mode, fails_at
        self.modes.append(render_mode)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action), self.t == 4, False, {}

    def render(self) -> Any:
        if self.t == self.fails_at:
            raise RuntimeError("no screen")
        return np.full((16, 32, 3), 50 * self.t, np.uint8)


class Blind(Strip):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012


gym.register("ppo2-tests/Strip-v0", entry_point=Strip)
gym.register("ppo2-tests/Blind-v0", entry_point=Blind)


@pytest.fixture(scope="module")
def model():
    return ppo2.learn(env="ppo2-tests/Strip-v0", total_timesteps=0, num_envs=1, nsteps=4, seed=0)


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    Strip.modes.clear()


def frames(path):
    import imageio.v3 as imageio

    return imageio.imread(path)


def test_first_episode_is_that_of_evaluate():
    model = ppo2.learn(env="CartPole-v1", total_timesteps=0, num_envs=1, nsteps=4, seed=0)
    seen = []
    result = play(model, "CartPole-v1", episodes=2, seed=5, on_episode=lambda *episode: seen.append(episode))
    assert result.returns[0] == ppo2.evaluate(model, "CartPole-v1", episodes=1, seed=5).returns[0]
    assert seen == [(1, result.returns[0], result.lengths[0]), (2, result.returns[1], result.lengths[1])]


def test_gif_has_every_frame_the_last_state_included(model, tmp_path):
    play(model, "ppo2-tests/Strip-v0", episodes=2, video=tmp_path / "new" / "out.gif")
    film = frames(tmp_path / "new" / "out.gif")
    # Two episodes, each the first state and 4 steps: brightness 0, 50, 100, 150, 200, and again.
    assert film.shape[:3] == (10, 16, 32)
    assert np.allclose(film[:, 0, 0, 0], [0, 50, 100, 150, 200] * 2, atol=8)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.gif"]


def test_gif_runs_at_the_environments_speed(model, tmp_path):
    import imageio.v3 as imageio

    play(model, "ppo2-tests/Strip-v0", video=tmp_path / "out.gif")
    assert imageio.immeta(tmp_path / "out.gif")["duration"] == 100  # milliseconds, of 10 frames a second


def test_mp4(model, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    play(model, "ppo2-tests/Strip-v0", video=tmp_path / "out.mp4")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)  # JAX's
        assert ffmpeg.count_frames_and_secs(tmp_path / "out.mp4") == (5, 0.5)  # of 10 frames a second


def test_an_environment_of_ones_own(model, tmp_path):
    play(model, Strip(render_mode="rgb_array"), video=tmp_path / "out.gif")
    assert len(frames(tmp_path / "out.gif")) == 5
    with pytest.raises(ValueError, match="render_mode None; a video needs one made with 'rgb_array'"):
        play(model, Strip(), video=tmp_path / "out.gif")


def test_a_failure_leaves_the_earlier_file_and_nothing_else(model, tmp_path):
    (tmp_path / "out.gif").write_text("the earlier one")
    with pytest.raises(ValueError, match=r"drawing the environment failed \(RuntimeError: no screen\)"):
        play(model, Strip(render_mode="rgb_array", fails_at=2), video=tmp_path / "out.gif")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["the earlier one"]


def test_window_only_where_there_is_a_display(model, monkeypatch):
    play(model, "ppo2-tests/Strip-v0")
    assert "human" not in Strip.modes
    monkeypatch.setenv("DISPLAY", ":0")
    play(model, "ppo2-tests/Strip-v0")
    assert Strip.modes[-1] == "human"
    play(model, "ppo2-tests/Blind-v0")  # no window to open for this one
    assert Strip.modes[-1] is None


def test_refuses(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`episodes` \(=0\)"):
        play(model, "ppo2-tests/Strip-v0", episodes=0)
    with pytest.raises(ValueError, match=r"must end in one of \.mp4, \.gif"):
        play(model, "ppo2-tests/Strip-v0", video=tmp_path / "out.avi")
    with pytest.raises(ValueError, match="another observation space"):
        play(model, "CartPole-v1")
    with pytest.raises(ValueError, match=r"Blind-v0 can't be drawn; its render modes are ansi\."):
        play(model, "ppo2-tests/Blind-v0", video=tmp_path / "out.gif")
    with pytest.raises(TypeError, match=r"`env` \(=3\) must be an environment id"):
        play(model, 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs imageio and imageio_ffmpeg: pip install 'ppo2\[video\]'"):
        play(model, "ppo2-tests/Strip-v0", video=tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_names_the_extra_where_nothing_can_draw(model, tmp_path, monkeypatch):
    def render(self):
        raise gym.error.DependencyNotInstalled("no pygame")

    monkeypatch.setattr(Strip, "render", render)
    with pytest.raises(ValueError, match=r"pip install 'ppo2\[play\]' \(no pygame\)"):
        play(model, "ppo2-tests/Strip-v0", video=tmp_path / "out.gif")


class Endless(Strip):
    """A strip whose only end is its time limit."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, reward, *_ = super().step(action)
        return obs, reward, False, False, {}


gym.register("ppo2-tests/Endless-v0", entry_point=Endless, max_episode_steps=5)


@pytest.mark.parametrize("episodes", [1, 2])
def test_a_time_limit_ends_episodes(model, tmp_path, episodes):
    result = play(model, "ppo2-tests/Endless-v0", episodes=episodes, video=tmp_path / "out.gif")
    assert result.lengths.tolist() == [5] * episodes
    assert len(frames(tmp_path / "out.gif")) == 6 * episodes
    assert play(model, gym.make("ppo2-tests/Endless-v0"), episodes=episodes).lengths.tolist() == [5] * episodes


@pytest.mark.parametrize("make", [Endless, lambda render_mode: lambda: Endless(render_mode)])
def test_an_environment_without_any_end(model, tmp_path, capsys, make):
    result = play(model, make(render_mode="rgb_array"), episodes=2, video=tmp_path / "out.gif", max_steps=3)
    assert result.lengths.tolist() == [3, 3]
    assert len(frames(tmp_path / "out.gif")) == 8
    assert "2 episodes were cut after `max_steps` (=3)" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"`max_steps` \(=0\)"):
        play(model, Endless(), max_steps=0)


@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_those_of_evaluate(model, deterministic):
    how = {"episodes": 3, "seed": 4, "deterministic": deterministic}
    evaluated = ppo2.evaluate(model, "ppo2-tests/Strip-v0", num_envs=1, **how)
    assert play(model, "ppo2-tests/Strip-v0", **how).returns.tolist() == evaluated.returns.tolist()


def test_what_ppo2_makes_is_played_as_it_was_made(model):
    how = {"num_envs": 1, "max_episode_steps": 2}
    scaled = play(model, ppo2.make("ppo2-tests/Strip-v0", reward_scale=0.1, **how), seed=3)
    plain = play(model, ppo2.make("ppo2-tests/Strip-v0", **how), seed=3)
    assert scaled.returns.tolist() == plain.returns.tolist()
    assert scaled.lengths.tolist() == [2]
    with pytest.raises(TypeError, match="must be one environment"):
        play(model, ppo2.make("ppo2-tests/Strip-v0", num_envs=2))


def test_a_memory_begins_anew_with_an_episode():
    recurrent = {"network": "lstm", "nlstm": 2, "nminibatches": 1}
    model = ppo2.learn(env="ppo2-tests/Strip-v0", total_timesteps=0, num_envs=1, nsteps=4, **recurrent)
    starts, act_on = [], model.act_on

    def spy(obs, key, count, state, episode_starts):
        starts.append(bool(episode_starts[0]))
        return act_on(obs, key, count, state, episode_starts)

    model.act_on = spy
    play(model, "ppo2-tests/Strip-v0", episodes=2)
    assert starts == [True, False, False, False] * 2


def test_films_say_how_far_they_are(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ppo2.evaluation.film.PROGRESS_SECONDS", -1.0)
    play(model, "ppo2-tests/Strip-v0", episodes=2, video=tmp_path / "out.gif")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"ppo2: {tmp_path / 'out.gif'}: 1 frames, episode 1 of 2"
    assert said[5] == f"ppo2: {tmp_path / 'out.gif'}: 6 frames, episode 2 of 2"
    play(model, "ppo2-tests/Strip-v0", episodes=2, video=tmp_path / "out.gif", progress=False)
    assert capsys.readouterr().err == ""


class Interrupting(Endless):
    """Sends its process a signal at step 3."""

    number = signal.SIGINT

    def step(self, action: Any) -> Any:
        if self.t == 2:
            os.kill(os.getpid(), self.number)
        return super().step(action)


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
@pytest.mark.parametrize(("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_keeps_what_was_filmed(model, tmp_path, capsys, monkeypatch, suffix, number, stop):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setattr(Interrupting, "number", number)
    film = tmp_path / f"out{suffix}"
    with pytest.raises(stop):
        play(model, Interrupting("rgb_array"), video=film)
    assert capsys.readouterr().err == f"ppo2: {film}: stopped; it has the 4 frames until then\n"
    assert [path.name for path in tmp_path.iterdir()] == [film.name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)  # JAX's
        assert ffmpeg.count_frames_and_secs(film)[0] == 4


def test_a_film_that_cannot_be_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(Strip, "render", lambda self: "no picture")
    with pytest.raises(ValueError, match=r"`video` \(='.*out.gif'\) can't be written"):
        play(model, Strip("rgb_array"), video=tmp_path / "out.gif")
    assert not list(tmp_path.iterdir())


def test_a_film_that_a_full_disk_cut_leaves_no_file(model, tmp_path, monkeypatch):
    """ffmpeg writes all of a short film at its end, and tells of what went wrong by its status alone."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    cut = tmp_path / "ffmpeg"
    cut.write_text(f"#!/bin/bash\nulimit -f 1; trap '' XFSZ\n{imageio_ffmpeg.get_ffmpeg_exe()} \"$@\"\n")
    cut.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(cut))
    with pytest.raises(ValueError, match=r"`video` \(='.*out.mp4'\) can't be written: ffmpeg could not write all"):
        play(model, Strip("rgb_array"), video=tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]

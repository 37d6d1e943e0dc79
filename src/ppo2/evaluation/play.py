"""Playing episodes with a policy: in a window, or into a film."""

import contextlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium.error
import numpy as np

from ppo2 import envs
from ppo2.agent.model import Model
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import Evaluation, check_spaces
from ppo2.numerics.randomness import Purpose, environment_seeds

SUFFIXES = (".mp4", ".gif")
DEFAULT_FPS = 30
"""Frames a second of environments whose metadata name no `render_fps`."""

AnyEnv = gym.Env[Any, Any]


def play(
    model: Model,
    env: str | AnyEnv,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    video: str | os.PathLike[str] | None = None,
    on_episode: Callable[[int, float, int], None] | None = None,
) -> Evaluation:
    """Plays whole episodes one after the other: in a window where there is a display, or into a film.

    Args:
        model: from `learn` or `load`.
        env: an id, which is made as for training; or an environment, made with the render_mode that you want
            ("rgb_array" for a video), which is reset and not closed.
        episodes: number of episodes.
        seed: seed of the environment: the first episode is also the first of `evaluate(..., episodes=1, seed=seed)`.
        deterministic: the most probable action; False samples.
        video: a file to film into, .mp4 or .gif; at the environment's own frames per second. It is there when all
            episodes are over, whole, or not at all.
        on_episode: called at each episode's end: on_episode(number from 1, return, length in timesteps).

    Raises:
        ValueError: `episodes` below 1; an environment that can't be made or rendered, or has other spaces than the
            model; a video of another format, or without the packages for it.
    """
    if episodes < 1:
        raise ValueError(f"`episodes` (={episodes}) must be at least 1.")
    path = None if video is None else _checked_video(video)
    with contextlib.ExitStack() as stack:
        vector = _vector(env, None if path is None else "rgb_array")
        if isinstance(env, str):
            stack.callback(vector.close)
        check_spaces(model, vector)
        single = vector.envs[0]
        film = None if path is None else stack.enter_context(_film(path, single.metadata.get("render_fps")))
        returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
        for i in range(episodes):
            first_seed = environment_seeds(seed, Purpose.EVALUATE, 1)[0] if i == 0 else None
            with _explained_rendering():
                returns[i], lengths[i] = _episode(model, single, first_seed, deterministic, film)
            if on_episode is not None:
                on_episode(i + 1, float(returns[i]), int(lengths[i]))
    return Evaluation(returns, lengths)


def has_display() -> bool:
    """True if a window can be opened."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _episode(
    model: Model, env: AnyEnv, seed: int | None, deterministic: bool, film: Callable[[Any], None] | None
) -> tuple[float, int]:
    """Return and length of one episode."""
    obs, _ = env.reset(seed=seed)
    total, length, ended = 0.0, 0, False
    states: Any = None
    if film is not None:
        film(_frame(env))
    while not ended:
        actions, states = model.predict(obs, states, np.array([length == 0]), deterministic=deterministic)
        obs, reward, terminated, truncated, _ = env.step(actions)
        total, length, ended = total + float(reward), length + 1, terminated or truncated
        if film is not None:
            film(_frame(env))
    return total, length


def _frame(env: AnyEnv) -> Any:
    try:
        return env.render()
    except gymnasium.error.DependencyNotInstalled:
        raise
    except Exception as error:  # of whatever draws: MuJoCo, OpenGL, SDL
        raise ValueError(
            f"`video`: drawing the environment failed ({type(error).__name__}: {error}). Without a display, MuJoCo "
            "needs MUJOCO_GL=egl or MUJOCO_GL=osmesa in the environment."
        ) from error


def _vector(env: str | AnyEnv, render_mode: str | None) -> HostVectorEnv:
    """One environment, as `ppo2.make` wraps it, in the mode asked for; None is a window where there can be one."""
    vector: envs.AnyEnvs
    if envs.is_device_env(env) or (isinstance(env, str) and envs.adapter_of(env) is not None):
        raise ValueError(f"`env` (={env!r}) is a device environment, which can't be drawn; `evaluate` plays it.")
    if not isinstance(env, str):
        vector = envs.resolve(env).env
    else:
        # Without rendering first: Gymnasium's answer to a mode that an environment lacks depends on the environment.
        vector = made = envs.make(env, num_envs=1, workers=0)
        modes = list(made.metadata.get("render_modes") or ())
        if render_mode is None and has_display() and {"human", "rgb_array"} & set(modes):
            render_mode = "human"
        if render_mode is not None:
            vector.close()
            if render_mode == "rgb_array" and render_mode not in modes:
                raise ValueError(f"`video`: {env} can't be drawn; its render modes are {', '.join(modes) or 'none'}.")
            with _explained_rendering():
                vector = envs.make(env, num_envs=1, workers=0, render_mode=render_mode)
    if not isinstance(vector, HostVectorEnv):
        raise TypeError(f"`env` (={env!r}) must be an environment id or a gymnasium.Env.")
    if render_mode == "rgb_array" and not isinstance(env, str) and env.render_mode != render_mode:
        raise ValueError(f"`env` has render_mode {env.render_mode!r}; a video needs one made with 'rgb_array'.")
    return vector


@contextlib.contextmanager
def _explained_rendering() -> Iterator[None]:
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(
            f"drawing needs a package that isn't installed: pip install 'ppo2[play]' ({error})."
        ) from error


def _checked_video(video: str | os.PathLike[str]) -> Path:
    path = Path(video).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`video` (={str(video)!r}) must end in one of {', '.join(SUFFIXES)}.")
    needed = ["imageio"] if path.suffix.lower() == ".gif" else ["imageio", "imageio_ffmpeg"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"`video` needs {' and '.join(missing)}: pip install 'ppo2[video]'.")
    return path


@contextlib.contextmanager
def _film(path: Path, fps: float | None) -> Iterator[Callable[[Any], None]]:
    """A function that adds a frame. The file takes its name when all frames are in it."""
    import imageio.v2 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    fps = fps or DEFAULT_FPS
    options: dict[str, Any] = {"format": "FFMPEG", "fps": fps, "macro_block_size": 2}
    if path.suffix.lower() == ".gif":
        options = {"format": "GIF", "duration": 1000 / fps, "loop": 0}
    try:
        writer = imageio.get_writer(temporary, mode="I", **options)
        with writer, warnings.catch_warnings():
            # JAX warns of every fork; the one for ffmpeg becomes another program at once.
            warnings.filterwarnings("ignore", ".*os.fork", RuntimeWarning)
            yield writer.append_data
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""Playing episodes with a policy: in a window, or into a film."""

import contextlib
import importlib.util
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import gymnasium.error

from ppo2 import envs
from ppo2.agent.model import Model
from ppo2.config import Config, Device
from ppo2.envs.families.keywords import NOT_OF_ONE
from ppo2.envs.host.env_types import AnyEnv, EnvTraits
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.vec_env import is_made
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import Evaluation, check_request, check_spaces, kwargs_for, placed_for, run_episodes
from ppo2.evaluation.film import SUFFIXES, Film
from ppo2.evaluation.limits import EpisodeEnd, EpisodeLimit
from ppo2.numerics.compilation import transfers_allowed
from ppo2.system.calls import told_plainly
from ppo2.system.signals import Interrupted, StopSignals
from ppo2.system.text import install_command
from ppo2.system.verbosity import spoken


@told_plainly("play(model, 'CartPole-v1', video='film.mp4')")
@spoken
@transfers_allowed
def play(
    model: Model,
    env: Any,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    video: str | os.PathLike[str] | None = None,
    on_episode: Callable[[int, float, int], None] | None = None,
    max_steps: int | None = None,
    progress: bool = True,
    device: Device = Config.device,
    env_kwargs: Mapping[str, Any] | None = None,
    verbose: int = 1,  # noqa: ARG001 (of `spoken`)
) -> Evaluation:
    """Plays whole episodes one after the other: in a window where there is a display, or into a film.

    The episodes are those of `evaluate` on one environment: of the same seeds, treatment, masks and time limit.

    Args:
        model: from `learn` or `load`.
        env: an id, which is made as for training; an environment, or a function that makes one, with the render_mode
            that you want ("rgb_array" for a video). One that you pass in is reset, and not closed.
        episodes: number of episodes.
        seed: seed of the environment.
        deterministic: the most probable action; False samples.
        video: a file to film into, .mp4 or .gif; at the environment's own frames per second. It is there, whole, when
            all episodes are over; after SIGINT (Ctrl-C) or SIGTERM it has what was filmed until then, and an error
            leaves none.
        on_episode: called at each episode's end: on_episode(number from 1, return, length in timesteps).
        max_steps: steps of one episode after which it is cut: see `evaluate`.
        progress: say on standard error, every few seconds, how far a film is.
        device: see `evaluate`.
        env_kwargs: see `evaluate`.
        verbose: 0 prints nothing: see `learn`.

    Raises:
        ValueError: `episodes` or `max_steps` below 1; an environment that can't be made or rendered, or has other
            spaces than the model; a video of another format, or without the packages for it.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came.
    """
    check_request(model, episodes, device)
    path = None if video is None else _checked_video(video)
    ended = itertools.count(1)

    def note(episode: EpisodeEnd) -> None:
        number = next(ended)
        if film is not None:
            film.episode = number + 1
        if on_episode is not None:
            on_episode(number, episode.r, episode.length)

    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals(patient=False))  # until there is something to keep
        kwargs = kwargs_for(model, env, env_kwargs)
        vector = _vector(env, None if path is None else "rgb_array", kwargs)
        if not is_made(env):
            stack.callback(vector.close)
        check_spaces(model, vector)
        model = placed_for(model, vector, device)
        limit = EpisodeLimit(vector, max_steps)
        film = None
        if path is not None:
            film = stack.enter_context(Film(path, vector.metadata.get("render_fps"), episodes, progress=progress))
            vector = HostVectorEnv([_Filmed(vector, film)], copy=False, owned=False, env_timeout=math.inf)

        def stops() -> bool:
            signals.patient = True
            return signals.received is not None

        with _explained_rendering():
            result = run_episodes(
                model,
                vector,
                episodes=episodes,
                deterministic=deterministic,
                seed=seed,
                limit=limit,
                until=stops,
                on_episode=note,
            )
        if signals.received is not None:
            signals.raised_at = time.monotonic()  # another signal shall not break off the writing of the film
            raise Interrupted(signals.received)
    return result


def has_display() -> bool:
    """True if a window can be opened."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


class _Filmed(EnvTraits):
    """A factory that gives the one environment of a vector environment, with a camera in front of it."""

    def __init__(self, vector: HostVectorEnv, film: Film) -> None:
        self._env, self._film = vector.envs[0], film
        self.copy_traits(vector.traits)

    def __call__(self) -> AnyEnv:
        return _Camera(self._env, self._film)


class _Camera(gym.Wrapper[Any, Any, Any, Any]):
    """Films an environment: the first state of an episode before its first step, then the state after each."""

    def __init__(self, env: AnyEnv, film: Film) -> None:
        super().__init__(env)
        self._film, self._is_new = film, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._is_new = True
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self._is_new:
            self._film.add(_frame(self.env))
            self._is_new = False
        outcome = super().step(action)
        self._film.add(_frame(self.env))
        return outcome


def _frame(env: AnyEnv) -> Any:
    try:
        return env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ContractError(_missing_package(error)) from error
    except Exception as error:  # of whatever draws: MuJoCo, OpenGL, SDL
        raise ContractError(
            f"`video`: drawing the environment failed ({type(error).__name__}: {error}). Without a display, MuJoCo "
            "needs MUJOCO_GL=egl or MUJOCO_GL=osmesa in the environment."
        ) from error


def _vector(env: Any, render_mode: str | None, env_kwargs: Mapping[str, Any]) -> HostVectorEnv:
    """One environment, as `ppo2.make` wraps it, in the mode asked for; None is a window where there can be one."""
    kwargs = {name: value for name, value in env_kwargs.items() if name not in NOT_OF_ONE}
    vector: envs.AnyEnvs
    if envs.is_device_env(env) or (isinstance(env, str) and envs.adapter_of(env) is not None):
        raise ValueError(f"`env` (={env!r}) is a device environment, which can't be drawn; `evaluate` plays it.")
    if not isinstance(env, str):
        count = None if is_made(env) else 1
        vector = envs.resolve(env, count, env_kwargs=kwargs).env
    else:
        # Without rendering first: Gymnasium's answer to a mode that an environment lacks depends on the environment.
        vector = made = envs.make(env, num_envs=1, workers=0, **kwargs)
        modes = list(made.metadata.get("render_modes") or ())
        if render_mode is None and has_display() and {"human", "rgb_array"} & set(modes):
            render_mode = "human"
        if render_mode is not None:
            vector.close()
            if render_mode == "rgb_array" and render_mode not in modes:
                raise ValueError(f"`video`: {env} can't be drawn; its render modes are {', '.join(modes) or 'none'}.")
            with _explained_rendering():
                vector = envs.make(env, num_envs=1, workers=0, **{**kwargs, "render_mode": render_mode})
    if not isinstance(vector, HostVectorEnv) or vector.num_envs > 1:
        raise TypeError(f"`env` (={env!r}) must be one environment: an id, a gymnasium.Env, or a function.")
    if render_mode == "rgb_array" and vector.render_mode != render_mode:
        raise ValueError(f"`env` has render_mode {vector.render_mode!r}; a video needs one made with 'rgb_array'.")
    return vector


@contextlib.contextmanager
def _explained_rendering() -> Iterator[None]:
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(_missing_package(error)) from error


def _missing_package(error: Exception) -> str:
    return f"drawing needs a package that isn't installed: {install_command('play')} ({error})."


def _checked_video(video: str | os.PathLike[str]) -> Path:
    path = Path(video).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`video` (={str(video)!r}) must end in one of {', '.join(SUFFIXES)}.")
    needed = ["imageio"] if path.suffix.lower() == ".gif" else ["imageio", "imageio_ffmpeg"]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"`video` needs {' and '.join(missing)}: {install_command('video')}.")
    return path

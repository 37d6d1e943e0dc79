"""Playing episodes with a policy: in a window, or into a film."""

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppo2 import envs
from ppo2.agent.model import Model
from ppo2.config import Config, Device
from ppo2.envs.families.keywords import NOT_OF_ONE
from ppo2.envs.host.env_types import AnyEnv
from ppo2.envs.host.vec_env import is_made
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.camera import explained, filmed, frame
from ppo2.evaluation.evaluate import Evaluation, check_request, check_spaces, kwargs_for, placed_for, run_episodes
from ppo2.evaluation.film import SUFFIXES, Film, missing_packages
from ppo2.evaluation.limits import EpisodeEnd, EpisodeLimit
from ppo2.evaluation.renderers import has_display, headless
from ppo2.evaluation.subject import MODE, subject_of
from ppo2.numerics.compilation import transfers_allowed
from ppo2.system.calls import told_plainly
from ppo2.system.python_stack import with_room
from ppo2.system.signals import Interrupted, StopSignals
from ppo2.system.verbosity import spoken


@with_room
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

    The episodes are those of `evaluate` on one environment: with the same seeds, wrappers, masks and time limit.

    Args:
        model: from `learn` or `load`.
        env: an id, which is made as for training; an environment, or a function that makes one, with the render_mode
            that you want (MODE for a video). One that you pass in is reset, and not closed.
        episodes: number of episodes.
        seed: seed of the environment.
        deterministic: the most probable action; False samples.
        video: a file to film into, .mp4 or .gif; at the environment's own frames per second. It is complete when
            all episodes are over; after SIGINT (Ctrl-C) or SIGTERM it has the frames until then, and after an error
            there is no file.
        on_episode: called at each episode's end: on_episode(number from 1, return, length in timesteps).
        max_steps: steps of one episode after which it is cut: see `evaluate`.
        progress: print on standard error, every few seconds, how much of a film is made.
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
        if path is not None:
            stack.enter_context(headless())
        vector = _vector(env, None if path is None else MODE, kwargs)
        if not is_made(env):
            stack.callback(vector.close)
        check_spaces(model, vector)
        model = placed_for(model, vector, device)
        limit = EpisodeLimit(vector, max_steps)
        film = None
        if path is not None:
            film = stack.enter_context(Film(path, vector.metadata.get("render_fps"), episodes, progress=progress))
            vector = filmed(vector, [_adding_to(film)])

        def stops() -> bool:
            signals.patient = True
            return signals.received is not None

        with explained():
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


def _adding_to(film: Film) -> Callable[[AnyEnv], None]:
    return lambda env: film.add(frame(env))


def _vector(env: Any, render_mode: str | None, env_kwargs: Mapping[str, Any]) -> HostVectorEnv:
    """One environment, as `ppo2.make` wraps it, in the mode asked for; None is a window where there can be one."""
    kwargs = {name: value for name, value in env_kwargs.items() if name not in NOT_OF_ONE}
    vector: envs.AnyEnvs
    if envs.is_on_device(env):
        if render_mode is None:
            raise ValueError(
                f"`env` (={env!r}) is a device environment, which has no window: `evaluate` plays it; `video` films "
                "those that have a method render(state)."
            )
        made: Any = envs.resolve(env, 1, env_kwargs=kwargs).env
        return HostVectorEnv([subject_of(env, kwargs, made.env, "env", "`evaluate` plays it.")], copy=False)
    if not isinstance(env, str):
        count = None if is_made(env) else 1
        vector = envs.resolve(env, count, env_kwargs=kwargs).env
    else:
        # Without rendering first: Gymnasium's answer to a mode that an environment lacks depends on the environment.
        vector = plain = envs.make(env, num_envs=1, workers=0, **kwargs)
        modes = list(plain.metadata.get("render_modes") or ())
        if render_mode is None and has_display() and {"human", MODE} & set(modes):
            render_mode = "human"
        if render_mode is not None:
            vector.close()
            if render_mode == MODE and render_mode not in modes:
                raise ValueError(f"`video`: {env} can't be drawn; its render modes are {', '.join(modes) or 'none'}.")
            with explained():
                vector = envs.make(env, num_envs=1, workers=0, **{**kwargs, "render_mode": render_mode})
    if not isinstance(vector, HostVectorEnv) or vector.num_envs > 1:
        raise TypeError(f"`env` (={env!r}) must be one environment: an id, a gymnasium.Env, or a function.")
    if render_mode == MODE and vector.render_mode != render_mode:
        raise ValueError(f"`env` has render_mode {vector.render_mode!r}; a video needs one made with 'rgb_array'.")
    return vector


def _checked_video(video: str | os.PathLike[str]) -> Path:
    path = Path(video).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`video` (={str(video)!r}) must end in one of {', '.join(SUFFIXES)}.")
    if missing := missing_packages(path.suffix.lower()):
        raise ValueError(f"`video` needs {missing}.")
    return path

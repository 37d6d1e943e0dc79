"""Films of the policy while training goes on."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo2 import distributed
from ppo2 import envs as environments
from ppo2.agent.copies import template_of, weights_of
from ppo2.callbacks.base import Callback, Training
from ppo2.envs import DeviceVector, RemoteEnvs
from ppo2.envs.families.keywords import NOT_OF_ONE
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import check_spaces, kwargs_for, side_by_side
from ppo2.evaluation.film import missing_packages
from ppo2.evaluation.film_maker import FilmMaker
from ppo2.evaluation.studio import Scene
from ppo2.evaluation.subject import subject_of

FOLDER, PREFIX, SUFFIX = "videos", "step_", ".mp4"
"""The folder in the run directory, and parts of the names of films in it."""
SETTINGS = ("video_interval", "video_envs", "video_steps")
"""The arguments of `learn` that stand for a `Video`."""
LAST_SECONDS = 120.0
"""Seconds that the last films may take once training is over."""
TELL_SECONDS = 3.0
"""Seconds of waiting for them after which a line says so."""


class Video(Callback):
    """Films the policy: `run_dir`/videos/step_000123456.mp4, named after the timesteps so far.

    Films are made in a process of their own, with a copy of the weights as they are then, on environments made like
    those that are trained on, and training doesn't wait: films that are due while another is being made wait for it,
    and are left out where many do. The last policy is filmed too, which training waits for at its end. What goes wrong
    is a warning, and training goes on. All films show the same episodes' seeds, those of evaluations. Of several
    processes the first one films.

    Args:
        interval: updates between two films, the first update's included.
        envs: number of environments in a film, side by side: each plays one episode, and its last picture stays,
            dimmed, until all have come to their ends.
        steps: most steps of an episode in a film.
        env: another environment to film than the one that is trained on, in any form that `learn` takes but one that
            exists already.
        env_kwargs: its arguments; None: see `ppo2.evaluate`.
        deterministic: the most probable actions; False samples.

    Attributes:
        films: names of the files so far, those before a resume included.
    """

    def __init__(
        self,
        interval: int = 10,
        *,
        envs: int = 1,
        steps: int = 1000,
        env: Any = None,
        env_kwargs: Mapping[str, Any] | None = None,
        deterministic: bool = True,
    ) -> None:
        for name, value in (("interval", interval), ("envs", envs), ("steps", steps)):
            if type(value) is not int or value < 1:
                raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1.")
        self.interval: int = interval
        self.envs, self.steps, self.env, self.env_kwargs, self.deterministic = (
            envs,
            steps,
            env,
            env_kwargs,
            deterministic,
        )
        self.films: list[str] = []
        self._maker: FilmMaker | None = None

    def on_start(self, training: Training) -> None:
        """Raises ValueError where no film can be made: of this environment, without a run directory or a package."""
        check_films([self], training.run_dir)
        self._filmed, self._has_left_out, self._told = training.update, False, set[str]()
        if distributed.world().is_first:
            self._find_films(training)
            template = template_of(training.model)
            scene = Scene(
                self._subject(training), self.envs, self.steps, training.config.seed, self.deterministic, template
            )
            try:
                self._maker = FilmMaker(scene)
            except ValueError as error:
                raise ValueError(f"{self._name}: {error}") from error.__cause__

    def on_update(self, training: Training) -> None:
        if self._maker is None:
            return
        self._report(training)
        if not self._film(training) and not self._has_left_out:
            self._has_left_out = True
            training.warn(
                f"update {training.update:,}: no film, as {self._maker.left} before it are still to be made; later "
                f"ones are left out without a word. A larger {self._name} avoids that, or fewer steps or "
                "environments in a film"
            )

    def before_end(self, training: Training, until: Callable[[], bool]) -> None:
        """Films the last policy, and waits for what is still to be filmed."""
        maker = self._maker
        if maker is None:
            return
        if self._filmed < training.update:
            self._film(training, first=True)
        done = maker.wait(TELL_SECONDS, until)
        if not done and not until():
            training.say(f"waiting for {maker.left} film{'s' if maker.left > 1 else ''}, {LAST_SECONDS:g} s at most")
            done = maker.wait(LAST_SECONDS, until)
        self._report(training)
        with contextlib.suppress(OSError):  # the newest of all, though some that waited were written after it
            os.utime(self._path(training))
        if not done and not until():
            training.warn(f"{maker.left} films are left out, which would have taken longer")

    def on_end(self, training: Training) -> None:
        if self._maker is not None:
            self._maker.close()
            self._maker = None

    def state_dict(self) -> Mapping[str, Any]:
        return {"films": list(self.films)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.films = [str(name) for name in state["films"]]

    def _find_films(self, training: Training) -> None:
        """Takes note of the films of the run so far, of which its last checkpoint may not know all."""
        assert training.run_dir is not None
        for begun in (training.run_dir / FOLDER).glob(f".{PREFIX}*{SUFFIX}"):  # when the run was killed
            with contextlib.suppress(OSError):
                begun.unlink()
        there = [path.name for path in (training.run_dir / FOLDER).glob(f"{PREFIX}*{SUFFIX}")]
        known = {*self.films, *(name for name in there if 0 <= _timesteps(name) <= training.timesteps)}
        self.films = sorted(known, key=_timesteps) if training.update else []

    @property
    def _name(self) -> str:
        return "`video_interval`" if self.is_setting else "`interval` of Video"

    def _path(self, training: Training) -> Path:
        """The film of the policy as it is now."""
        assert training.run_dir is not None
        return training.run_dir / FOLDER / f"{PREFIX}{training.timesteps:09}{SUFFIX}"

    def _film(self, training: Training, *, first: bool = False) -> bool:
        """Has a film made of the policy as it is now; False where too many wait."""
        assert self._maker is not None
        is_taken = self._maker.film(weights_of(training.model), self._path(training), first=first)
        if is_taken:
            self._filmed = training.update
        return is_taken

    def _report(self, training: Training) -> None:
        """Takes note of films that were made; says once why one wasn't."""
        assert self._maker is not None
        for shot in self._maker.shots():
            if not shot.failure:
                self.films = sorted({*self.films, shot.path.name}, key=_timesteps)
            elif (reason := shot.failure.replace(shot.path.stem, "")) not in self._told:
                self._told.add(reason)
                training.warn(f"no film {shot.path.name}: {shot.failure.rstrip('.')}. Training continues")

    def _subject(self, training: Training) -> Factory:
        """The factory of environments to film."""
        config, env = training.config, self.env
        is_own_vector = isinstance(config.env, str) and not isinstance(training.env, HostVectorEnv | RemoteEnvs)
        if env is None and (environments.is_device_env(training.env) or not is_own_vector):
            remedy = "Give an id, or a function that makes environments; or film another: "
            remedy += f"callbacks=[ppo2.callbacks.Video(env=...)]{f', not {self._name}' if self.is_setting else ''}."
            return subject_of(config.env, config.env_kwargs, training.env, "env", remedy)
        env, name = (config.env, "env") if env is None else (env, "env of Video")
        kwargs = {k: v for k, v in kwargs_for(training.model, env, self.env_kwargs).items() if k not in NOT_OF_ONE}
        count = side_by_side(env, 1)  # None of what exists already
        if count is not None and not environments.is_on_device(env):
            kwargs["workers"] = 0
        made = environments.resolve(env, count, name, env_kwargs=kwargs)
        try:
            check_spaces(training.model, made.env, name)
            vector = made.env.env if isinstance(made.env, DeviceVector) else made.env
            return subject_of(env, kwargs, vector, name, "Give another one.")
        finally:
            if made.owned:
                made.env.close()


def _timesteps(name: str) -> int:
    """The timesteps in a film's name, which may have more digits than nine; -1 where it isn't one of these names."""
    number = name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(number) if number.isdecimal() else -1


def with_films(callbacks: Sequence[Callback], settings: Mapping[str, Any], run_dir: Path | None) -> Sequence[Callback]:
    """Callbacks, and one more where `video_interval` among the settings asks for films; see `check_films`."""
    if settings["video_interval"]:
        mine = Video(settings["video_interval"], envs=settings["video_envs"], steps=settings["video_steps"])
        mine.is_setting = True
        callbacks = [*callbacks, mine]
    check_films(callbacks, run_dir)
    return callbacks


def check_films(callbacks: Sequence[Callback], run_dir: Path | None) -> None:
    """Raises ValueError where films are asked for, and none can be made here."""
    asked = [callback for callback in callbacks if isinstance(callback, Video)]
    if not asked:
        return
    name = asked[-1]._name
    if run_dir is None and distributed.world().is_first:  # whose directory counts
        raise ValueError(f"{name}: films are written into the run directory: give `run_dir`.")
    if missing := missing_packages(SUFFIX):
        raise ValueError(f"{name}: films need {missing}.")
    if sys.platform == "win32":
        raise ValueError(f"{name}: films are not made here while training goes on: `ppo2 play RUN --video FILE` films.")
    if len(asked) > 1:
        raise ValueError(f"{name}: {len(asked)} Videos would film into the same files: give one alone.")

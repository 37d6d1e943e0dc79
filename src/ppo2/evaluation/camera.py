"""Cameras in front of environments, and the grid in which the pictures of several become one film."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import gymnasium.error

from ppo2.envs.host.env_types import AnyEnv, EnvTraits
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation import renderers
from ppo2.evaluation.film import Film
from ppo2.evaluation.pictures import Mosaic, NDArray, as_picture
from ppo2.system.text import install_command

Take = Callable[[AnyEnv], None]
"""Takes a frame of an environment."""


def frame(env: AnyEnv) -> Any:
    """A picture that an environment draws.

    Raises:
        ContractError: it can't; with the remedy, where one is known.
    """
    try:
        return env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ContractError(missing_package(error)) from error
    except Exception as error:  # of whatever draws: MuJoCo, OpenGL, SDL
        raise ContractError(
            f"`video`: drawing the environment failed ({type(error).__name__}: {error}).{renderers.remedy()}"
        ) from error


def missing_package(error: Exception) -> str:
    """Words for a package that drawing needs."""
    return f"drawing needs a package that isn't installed: {install_command('play')} ({error})."


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Context whose errors of packages that drawing needs say how to install them."""
    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError(missing_package(error)) from error


def filmed(vector: HostVectorEnv, takes: Sequence[Take]) -> HostVectorEnv:
    """The environments of a vector environment, all of this process, with a camera in front of each."""
    factories = [_Filmed(vector, env, take) for env, take in zip(vector.envs, takes, strict=True)]
    return HostVectorEnv(factories, copy=False, owned=False, env_timeout=math.inf, info_keys=vector.info_keys)


class Grid:
    """Makes one film of environments that are stepped together: each plays one episode, and its last picture stays,
    dimmed, until all have come to their ends.
    """

    def __init__(self, film: Film, count: int) -> None:
        self._film = film
        self._waiting: list[deque[NDArray]] = [deque() for _ in range(count)]
        self._shown: list[NDArray] = []
        self._over = [False] * count
        self._mosaic: Mosaic | None = None

    def takes(self) -> list[Take]:
        """For each environment, what takes its frames."""
        return [lambda env, i=i: self._take(i, env) for i in range(len(self._over))]  # type: ignore[misc]

    def end(self, i: int) -> None:
        """Ends the episode of an environment; frames of later ones are not asked for."""
        self._over[i] = True
        self._show()

    def _take(self, i: int, env: AnyEnv) -> None:
        if not self._over[i]:
            try:
                self._waiting[i].append(as_picture(frame(env)))
            except ValueError as error:
                raise ContractError(str(error)) from None
            self._show()

    def _show(self) -> None:
        """Adds to the film what there is of every environment that goes on."""
        while any(self._waiting) and all(
            waiting or over for waiting, over in zip(self._waiting, self._over, strict=True)
        ):
            if not self._shown:
                self._shown = [waiting[0] for waiting in self._waiting]
            dimmed = [not waiting for waiting in self._waiting]
            self._shown = [q.popleft() if q else last for q, last in zip(self._waiting, self._shown, strict=True)]
            self._mosaic = self._mosaic or Mosaic(self._shown)
            self._film.add(self._mosaic.of(self._shown, dimmed))


class _Filmed(EnvTraits):
    """A factory that gives an environment of a vector environment, with a camera in front of it."""

    def __init__(self, vector: HostVectorEnv, env: AnyEnv, take: Take) -> None:
        self._env, self._take = env, take
        self.copy_traits(vector.traits)

    def __call__(self) -> AnyEnv:
        return Camera(self._env, self._take)


class Camera(gym.Wrapper[Any, Any, Any, Any]):
    """Films an environment: the first state of an episode before its first step, then the state after each."""

    def __init__(self, env: AnyEnv, take: Take) -> None:
        super().__init__(env)
        self._take, self._is_new = take, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._is_new = True
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self._is_new:
            self._take(self.env)
            self._is_new = False
        outcome = super().step(action)
        self._take(self.env)
        return outcome

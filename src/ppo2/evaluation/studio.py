"""The studio: films episodes of a policy, in whatever process this is."""

import time
from pathlib import Path
from typing import NamedTuple

from ppo2.agent.copies import ActorWeights, ModelTemplate, set_weights
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.camera import Grid, explained, filmed
from ppo2.evaluation.evaluate import check_spaces, run_episodes
from ppo2.evaluation.film import Film
from ppo2.evaluation.limits import EpisodeLimit
from ppo2.numerics.compilation import transfers_allowed
from ppo2.system import files
from ppo2.system.text import printable

MOST_WORDS = 600
"""Characters of an error: ffmpeg tells everything."""


class Scene(NamedTuple):
    """A scene: the environments and the policy that all films of a run show.

    Attributes:
        factory: makes environments that draw themselves.
        envs: number of environments in a film.
        steps: most steps of an episode.
        seed: seed of the environments, the same for each film.
        deterministic: the most probable actions; False samples.
        template: the model, without its weights.
    """

    factory: Factory
    envs: int
    steps: int
    seed: int
    deterministic: bool
    template: ModelTemplate


class Shot(NamedTuple):
    """A film that was made, or the reason why it wasn't.

    Attributes:
        path: the file.
        frames: number of its frames.
        seconds: time that it took.
        failure: words; "" where it was made.
    """

    path: Path
    frames: int = 0
    seconds: float = 0.0
    failure: str = ""


class Studio:
    """Films a scene with one set of weights after the other.

    Raises:
        Exception: raised by the environments' constructor; ValueError where they have other spaces than the model.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene, self._model = scene, scene.template.build()
        with explained():
            self._vector = HostVectorEnv([scene.factory] * scene.envs, copy=False)
        check_spaces(self._model, self._vector)

    @transfers_allowed
    def film(self, weights: ActorWeights, path: Path) -> Shot:
        """Makes a film; what goes wrong is told by the result."""
        began = time.monotonic()
        try:
            set_weights(self._model, weights)
            frames = self._film(path)
        except OSError as error:
            return Shot(path, failure=f"{path}: {error.strerror or error}: {files.remedy(error)}")
        except Exception as error:  # of an environment, of whatever draws
            words = printable(" ".join(str(error).split()))[:MOST_WORDS]
            return Shot(path, failure=words if isinstance(error, ValueError) else f"{type(error).__name__}: {words}")
        return Shot(path, frames, time.monotonic() - began)

    def _film(self, path: Path) -> int:
        scene, vector = self._scene, self._vector
        with Film(path, vector.metadata.get("render_fps"), scene.envs, progress=False) as film:
            grid = Grid(film, scene.envs)
            run_episodes(
                self._model,
                filmed(vector, grid.takes()),
                episodes=scene.envs,
                deterministic=scene.deterministic,
                seed=scene.seed,
                limit=EpisodeLimit(vector, scene.steps, say=lambda _: None),
                on_episode=lambda episode: grid.end(episode.env),
            )
        return film.frames

    def close(self) -> None:
        """Closes the environments."""
        self._vector.close()

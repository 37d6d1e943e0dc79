"""The experiment trackers that there are, and the videos that they get."""

from pathlib import Path

from ppo2.reporting.mlflow_run import MLflow
from ppo2.reporting.trackers import Tracker, WeightsAndBiases
from ppo2.reporting.trackio_run import Trackio

TRACKERS: dict[str, type[Tracker]] = {one.name: one for one in (WeightsAndBiases, Trackio, MLflow)}
FILM_SUFFIXES = (".mp4", ".gif", ".webm")


class Films:
    """Video files in a run's directory `videos`, each of which is taken once: they get their names when they are whole.

    Args:
        is_new: False: those that are there already were taken before.
    """

    def __init__(self, run_dir: Path | None, *, is_new: bool) -> None:
        self._folder = None if run_dir is None else run_dir / "videos"
        self._taken: set[Path] = set()
        if not is_new:
            self._taken |= {*self.new()}

    def new(self) -> list[Path]:
        """Files that were not taken yet, by name."""
        if self._folder is None or not self._folder.is_dir():
            return []
        found = {path for path in self._folder.iterdir() if path.suffix in FILM_SUFFIXES and path.name[0] != "."}
        return sorted(found - self._taken)

    def take(self, path: Path) -> bool:
        """True the first time."""
        is_first = path not in self._taken
        self._taken.add(path)
        return is_first

"""Runs of Trackio."""

import contextlib
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppo2.reporting.sinks import Row
from ppo2.reporting.trackers import FINAL_SCORE, PROJECT, Tracker, as_os_error


class Trackio(Tracker):
    """A run of Trackio, whose own thread writes the rows. One that the program has begun itself is taken, and left
    open.
    """

    name = "trackio"

    def _begin(self, known: str | None) -> str:
        import trackio

        own = trackio.context_vars.current_run.get()
        self._is_ours = own is None
        if own is not None:
            self._run: Any = own
            return str(own.name)
        given = {"project": os.environ.get("TRACKIO_PROJECT", PROJECT), "name": self.run.name, **self.options}
        if self.run.group is not None:
            given.setdefault("group", self.run.group)
        if known is not None:
            given["name"] = known
        with contextlib.redirect_stdout(io.StringIO()):  # what it tells of itself
            self._run = trackio.init(
                **given, config=_plain(self.run.settings), resume="never" if known is None else "allow", embed=False
            )
        return str(self._run.name)

    def _log(self, row: Row, timestep: int) -> None:
        self._run.log(dict(row), step=timestep)

    def _film(self, path: Path, timestep: int) -> None:
        import trackio

        self._run.log({"video": trackio.Video(str(path), format=path.suffix[1:])}, step=timestep)

    def _end(self, score: float, timestep: int, failed: bool) -> None:
        if math.isfinite(score):
            self._run.log({FINAL_SCORE: score}, step=timestep)

    def close(self) -> None:
        import trackio

        if not self._is_ours:
            return
        with as_os_error(), contextlib.redirect_stdout(io.StringIO()):
            if trackio.context_vars.current_run.get() is self._run:
                trackio.finish()
            else:
                self._run.finish()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without names that Trackio keeps for itself."""
    return {key: value for key, value in settings.items() if not key.startswith("_")}

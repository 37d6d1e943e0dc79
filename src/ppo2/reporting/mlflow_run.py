"""Runs of MLflow."""

import json
import logging
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ppo2.reporting.sinks import Row
from ppo2.reporting.trackers import FINAL_SCORE, PROJECT, Tracker, as_os_error
from ppo2.system import verbosity

LAST_SECONDS = 60.0
"""Seconds that a tracker gets at the end for what it has not sent yet."""
MOST_PARAMETERS = 100
"""Settings that MLflow takes in one call."""
MOST_CHARACTERS = 500
"""Characters of a setting that each version of MLflow takes."""
NOT_PARAMETERS = ("sessions", "versions", "engine")
"""Entries of config.json that are no settings."""


class MLflow(Tracker):
    """A run of MLflow, to which a thread sends the rows: a slow server doesn't hold up training. A run that the
    program has begun itself is taken, and left open.
    """

    name = "mlflow"

    def _begin(self, known: str | None) -> str:
        import mlflow
        from mlflow.entities import Param

        if verbosity.is_quiet():
            logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of the tables that it makes
        own = mlflow.active_run()
        self._is_ours, self._status, self._courier = own is None, "FINISHED", _Courier()
        self._client = client = mlflow.MlflowClient(self.options.get("tracking_uri"))
        if own is not None:
            self._id = own.info.run_id
        elif known is not None:
            self._id = known
            client.update_run(known, status="RUNNING")
        else:
            self._id = self._created(mlflow)
        if known is None:
            pairs = [Param(key, _text(value)) for key, value in self.run.settings.items() if key not in NOT_PARAMETERS]
            for first in range(0, len(pairs), MOST_PARAMETERS):
                client.log_batch(self._id, params=pairs[first : first + MOST_PARAMETERS])
        return str(self._id)

    def _created(self, mlflow: Any) -> str:
        client, tags = self._client, self.options.get("tags", {})
        experiment = self.options.get("experiment") or os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(experiment)
        number = client.create_experiment(experiment) if found is None else found.experiment_id
        tags = dict(tags) if isinstance(tags, Mapping) else dict.fromkeys(tags, "true")
        if self.run.group is not None:
            tags.setdefault("group", self.run.group)
        name = self.options.get("name", self.run.name)
        made = client.create_run(number, run_name=name, tags=tags)
        return str(made.info.run_id)

    def _log(self, row: Row, timestep: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(key), float(value), now, timestep) for key, value in row.items()]
        self._courier.send(lambda: self._client.log_batch(self._id, metrics=metrics))

    def _film(self, path: Path, timestep: int) -> None:
        self._courier.send(lambda: self._client.log_artifact(self._id, str(path), "videos"))

    def _end(self, score: float, timestep: int, failed: bool) -> None:
        self._status = "FAILED" if failed else "FINISHED"
        if math.isfinite(score):
            self._log({FINAL_SCORE: score}, timestep)

    def close(self) -> None:
        with as_os_error():
            if self._is_ours:
                self._courier.send(lambda: self._client.set_terminated(self._id, self._status))
            self._courier.close()


class _Courier:
    """Makes calls one after another in a thread of its own, which doesn't hold up the end of the program."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="ppo2-tracker", daemon=True)
        self._thread.start()

    def send(self, call: Callable[[], Any]) -> None:
        """Has a call made; raises what an earlier one raised."""
        self._calls.put(call)
        self._raise()

    def close(self) -> None:
        """Returns once all calls are made; raises what one raised, or TimeoutError."""
        self._calls.put(None)
        self._thread.join(LAST_SECONDS)
        self._raise()
        if self._thread.is_alive():
            raise TimeoutError(f"no answer within {LAST_SECONDS:.0f} s")

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception as error:  # whatever it is, training goes on
                self._error = error


def _name(key: str) -> str:
    """A figure's name as MLflow takes it, which refuses all rows with another."""
    return "/".join(re.sub(r"[^\w. -]", "_", part) for part in key.split("/") if part.strip(".")) or "_"


def _text(value: Any) -> str:
    """A setting as MLflow holds it."""
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:MOST_CHARACTERS]

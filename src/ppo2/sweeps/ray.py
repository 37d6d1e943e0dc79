"""The runs of a sweep in actors of Ray, on this machine or on others."""

import importlib.util
import threading
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppo2.agent.model import Model
from ppo2.agent.pickling import packed, unpacked
from ppo2.agent.surroundings import Surroundings, alike
from ppo2.runners import ray_cluster
from ppo2.sweeps.messages import Failed, Message, Reported, Reporter, train, trained
from ppo2.sweeps.plan import SweepRun
from ppo2.sweeps.processes import take_note
from ppo2.sweeps.screen import SweepScreen
from ppo2.system import processors, verbosity
from ppo2.system.signals import StopSignals
from ppo2.system.text import install_command, printable

LOOK_SECONDS = 0.2
"""Interval of asking actors how far they are."""
ANSWER_SECONDS = 5.0
"""Seconds that one which has ended has to answer."""


class RunActor:
    """An actor that trains one run, in one thread, and is asked about it in another."""

    def __init__(self) -> None:
        self._stop, self._reports = threading.Event(), list[Reported]()

    def train(
        self, run: int, episodes: int, run_dir: Path | None, surroundings: bytes, pickled: bytes, verbose: int
    ) -> bytes:
        """Trains a run. Returns the message about how it ended, packed."""
        with verbosity.speaking(verbose):
            return packed(self._train(run, episodes, run_dir, surroundings, pickled))

    def reports(self, first: int) -> list[Reported]:
        """The reports so far, from a number of them on."""
        return self._reports[first:]

    def stop(self) -> None:
        """Has the run stop after its update, with a checkpoint."""
        self._stop.set()

    def _train(self, run: int, episodes: int, run_dir: Path | None, surroundings: bytes, pickled: bytes) -> Message:
        report = Reporter(run, episodes, lambda message: self._reports.append(message))

        def update_fn(update: int, model: Model, stats: Any) -> bool:
            report(update, model, stats)
            return not self._stop.is_set() or update == model.config.nupdates

        try:
            there: Surroundings = unpacked(surroundings)
            there.take_up()
            processors.take_share(there.processors, ())
            env, settings = unpacked(pickled)
            model = train(env, run_dir, settings, update_fn)
        except Exception as error:
            return Failed.of(run, error)
        return trained(run, model, stopped=self._stop.is_set() and report.update < model.config.nupdates)


def check_ray() -> None:
    """Raises ValueError where Ray isn't installed."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"`backend` (='ray') needs a package that isn't installed: {install_command('ray')}.")


def train_on_cluster(
    env: Any, runs: Sequence[SweepRun], most: int | None, screen: SweepScreen, stop: StopSignals
) -> None:
    """Trains each run in an actor of its own, wherever the cluster has a processor for it.

    Args:
        most: number of runs at a time; None: as many as there are processors.
    """
    ray, owns = ray_cluster.connect(1)
    waiting, running = list(runs), dict[Any, tuple[SweepRun, Any]]()  # by the reference to the answer
    surroundings, told, read = packed(Surroundings.here()), False, Counter[int]()
    verbose = 0 if verbosity.is_quiet() else 1
    most = most or max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        while waiting or running:
            while waiting and len(running) < most:
                run = waiting.pop(0)
                actor = _start(ray)
                work = packed((env, dict(run.settings)))
                asked = (run.index, run.episodes, run.run_dir, surroundings, work, verbose)
                running[actor.train.remote(*asked)] = run, actor
                run.status = "running"
            ended, _ = ray.wait([*running], timeout=LOOK_SECONDS)
            for answer, (run, actor) in running.items():
                seconds = ANSWER_SECONDS if answer in ended else LOOK_SECONDS
                for report in _reports(ray, actor, read[run.index], seconds):
                    read[run.index] += 1
                    take_note(report, run, screen, stop)
            for answer in ended:
                run, actor = running.pop(answer)
                take_note(_answer(ray, run, answer), run, screen, stop)
                ray.kill(actor)
            screen.tick(0)
            if stop.received is not None and not told:
                told = True
                waiting.clear()
                for _, actor in running.values():
                    actor.stop.remote()
    finally:
        for _, actor in running.values():
            ray.kill(actor)
        if owns:
            ray.shutdown()


def _start(ray: Any) -> Any:
    variables = {**ray_cluster.jax_variables(), **alike(), "PPO2_ALONE": "1"}
    how = {"num_cpus": 1, "max_restarts": 0, "scheduling_strategy": "SPREAD", "max_concurrency": 2}
    return ray.remote(**how, runtime_env={"env_vars": variables})(RunActor).remote()


def _reports(ray: Any, actor: Any, first: int, seconds: float) -> list[Reported]:
    """An actor's reports; none where it hasn't begun, or was lost, which its answer tells."""
    try:
        found: list[Reported] = ray.get(actor.reports.remote(first), timeout=seconds)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):
        return []
    return found


def _answer(ray: Any, run: SweepRun, answer: Any) -> Message:
    try:
        message: Message = unpacked(ray.get(answer))
    except ray.exceptions.RayError as error:
        words = f"its actor was lost: {printable(error)}"
        return Failed(run.index, packed(RuntimeError(words)), words, "".join(traceback.format_exception(error)))
    return message

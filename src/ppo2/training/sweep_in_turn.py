"""The runs of a sweep on environments of the host: one `learn` after another."""

import functools
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.agent.model import Model
from ppo2.system.signals import StopSignals
from ppo2.training.learn import learn
from ppo2.training.sweep_plan import SweepRun


def train_in_turn(
    env: Any,
    settings: Sequence[Mapping[str, Any]],
    runs: Sequence[SweepRun],
    path: Path | None,
    say: Callable[[str], None],
    stop: StopSignals,
) -> None:
    """Trains one run after another; those that come after a stop stay untrained."""
    for i, (arguments, run) in enumerate(zip(settings, runs, strict=True)):
        if stop.received is not None:
            return
        run_dir = None if path is None else path / "runs" / f"{i:04}"
        try:
            learn(env=env, run_dir=run_dir, update_fn=functools.partial(_record, run), **arguments)
        except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard the signal, and finished its update
            stop.received = signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else signal.SIGTERM
        say(f"run {i + 1}/{len(runs)}  return {run.points[-1][1] if run.points else np.nan:.1f}")


def _record(run: SweepRun, update: int, model: Model, stats: Any) -> None:
    """Keeps the model as it is now, and its mean return: an `update_fn`."""
    run.model = model
    run.record(update, stats.eprewmean)

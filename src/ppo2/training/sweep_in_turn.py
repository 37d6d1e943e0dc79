"""The runs of a sweep on environments of the host: one `learn` after another."""

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppo2.agent.model import Model
from ppo2.system.signals import StopSignals
from ppo2.training.learn import learn
from ppo2.training.sweep_plan import Curve, Plan, Trained


def train_in_turn(
    env: Any,
    settings: Sequence[Mapping[str, Any]],
    plans: Sequence[Plan],
    path: Path | None,
    say: Callable[[str], None],
    stop: StopSignals,
) -> list[Trained]:
    """Trains one run after another; those that come after a stop stay untrained."""
    trained = []
    for i, (arguments, plan) in enumerate(zip(settings, plans, strict=True)):
        recorded = RecordCurve(plan)
        if stop.received is None:
            run_dir = None if path is None else path / "runs" / f"{i:04}"
            try:
                learn(env=env, run_dir=run_dir, update_fn=recorded, **arguments)
            except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard the signal, and finished its update
                stop.received = signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else signal.SIGTERM
            say(f"run {i + 1}/{len(plans)}  return {recorded.points[-1][1] if recorded.points else np.nan:.1f}")
        trained.append(Trained(recorded.model, Curve.of(recorded.points)))
    return trained


class RecordCurve:
    """An `update_fn` that records the model and its learning curve."""

    def __init__(self, plan: Plan) -> None:
        self.config, self.model = plan.config, plan.model
        self.points: list[tuple[int, float]] = []

    def __call__(self, update: int, model: Model, stats: Any) -> None:
        self.model = model
        if update == 1 or update % self.config.log_interval == 0 or update == self.config.nupdates:
            self.points.append((update * self.config.nbatch, stats.eprewmean))

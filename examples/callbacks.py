"""Callbacks: one of your own that logs a figure, and a ready one that stops when the task is solved.

Usage: python examples/callbacks.py --threshold 400
"""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro

import ppo2
from ppo2.callbacks import Callback, RewardThreshold, Training


class LeftShare(Callback):
    """Logs the share of actions that push the cart to the left; a policy that has learned pushes evenly."""

    def __init__(self) -> None:
        self.steps = 0

    def on_rollout(self, training: Training) -> None:
        assert training.rollout is not None
        self.steps += training.rollout.actions.size
        training.log("actions/left", float((training.rollout.actions == 0).mean()))

    def state_dict(self) -> dict[str, Any]:  # saved in each checkpoint, and restored where the run goes on
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


def main(total_timesteps: int = 100_000, threshold: float = 400.0, seed: int = 0, run_dir: str = "runs/calls") -> None:
    shutil.rmtree(run_dir, ignore_errors=True)
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(
        env="CartPole-v1", run_dir=run_dir, callbacks=[LeftShare(), RewardThreshold(threshold)], **settings
    )
    print(model.stop_reason or "the threshold was not reached")
    with (Path(run_dir) / "progress.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    print(f"share of actions to the left: {float(row['actions/left']):.2f}; mean return {float(row['eprewmean']):.1f}")


if __name__ == "__main__":
    tyro.cli(main)

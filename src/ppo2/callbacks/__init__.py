"""Callbacks of `ppo2.learn(callbacks=[...])`: the base class, and ready ones. See docs/callbacks.md."""

from ppo2.callbacks.base import Callback, Training
from ppo2.callbacks.evaluation import EvaluateOn
from ppo2.callbacks.freezing import Freeze
from ppo2.callbacks.pruning import OptunaPruning
from ppo2.callbacks.saving import CheckpointByTime
from ppo2.callbacks.stopping import NoImprovement, RewardThreshold
from ppo2.callbacks.video import Video

__all__ = [
    "Callback",
    "CheckpointByTime",
    "EvaluateOn",
    "Freeze",
    "NoImprovement",
    "OptunaPruning",
    "RewardThreshold",
    "Training",
    "Video",
]

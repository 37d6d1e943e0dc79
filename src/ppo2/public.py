"""What users call."""

from ppo2 import distributed, envs, networks
from ppo2.config import Config
from ppo2.device_runner import DeviceRunner
from ppo2.envs import make, preset
from ppo2.evaluate import Evaluation, evaluate
from ppo2.learn import learn
from ppo2.model import MicrobatchedModel, Model, load
from ppo2.networks import register
from ppo2.runner import Runner
from ppo2.runtime import configure_runtime
from ppo2.sweep import Sweep, sweep

__all__ = [
    "Config",
    "DeviceRunner",
    "Evaluation",
    "MicrobatchedModel",
    "Model",
    "Runner",
    "Sweep",
    "configure_runtime",
    "distributed",
    "envs",
    "evaluate",
    "learn",
    "load",
    "make",
    "networks",
    "preset",
    "register",
    "sweep",
]

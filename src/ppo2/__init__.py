"""PPO as OpenAI Baselines' `ppo2` would be today: `ppo2.learn(network=..., env=..., total_timesteps=...)`.

Public names are imported when they are first used, so that `import ppo2` is quick and starts nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppo2 import distributed, envs, networks
    from ppo2.agent.loading import load
    from ppo2.agent.microbatched import MicrobatchedModel
    from ppo2.agent.model import Model
    from ppo2.config import Config
    from ppo2.envs import make, preset
    from ppo2.evaluation.evaluate import Evaluation, evaluate
    from ppo2.networks import register
    from ppo2.numerics.statistics import weighted_mean
    from ppo2.runners.device import DeviceRunner
    from ppo2.runners.host import Runner
    from ppo2.system.runtime import configure_runtime
    from ppo2.training.learn import learn
    from ppo2.training.sweep import Sweep, sweep

__version__ = "0.1.0"

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
    "weighted_mean",
]

_MODULES = {
    "agent.loading": ("load",),
    "agent.microbatched": ("MicrobatchedModel",),
    "agent.model": ("Model",),
    "config": ("Config",),
    "envs": ("make", "preset"),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "networks": ("register",),
    "numerics.statistics": ("weighted_mean",),
    "runners.device": ("DeviceRunner",),
    "runners.host": ("Runner",),
    "system.runtime": ("configure_runtime",),
    "training.learn": ("learn",),
    "training.sweep": ("Sweep", "sweep"),
}
"""Modules and the public names that each defines; other names in `__all__` are subpackages."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = getattr(importlib.import_module(f"ppo2.{module}"), name)
            return globals()[name]
    return importlib.import_module(f"ppo2.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

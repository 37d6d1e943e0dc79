"""PPO as OpenAI Baselines' `ppo2` would be today: `ppo2.learn(network=..., env=..., total_timesteps=...)`.

Public names are imported when they are first used, so that `import ppo2` is quick and starts nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ppo2.system.garbage import collection_put_off
from ppo2.system.python_stack import with_room

if TYPE_CHECKING:
    from ppo2 import callbacks, distributed, envs, networks, plot
    from ppo2.agent.loading import load
    from ppo2.agent.microbatched import MicrobatchedModel
    from ppo2.agent.model import Model
    from ppo2.algorithm.gae import gae
    from ppo2.algorithm.losses import policy_loss, ppo_loss, value_loss
    from ppo2.config import Config
    from ppo2.deployment.export import export
    from ppo2.diagnosis.doctor import doctor
    from ppo2.envs import make, preset
    from ppo2.evaluation.evaluate import Evaluation, evaluate
    from ppo2.evaluation.play import play
    from ppo2.networks import register
    from ppo2.numerics.statistics import weighted_mean
    from ppo2.reports.page import report
    from ppo2.runners.device import DeviceRunner
    from ppo2.runners.host import Runner
    from ppo2.sharing.push import push
    from ppo2.sweeps.result import Sweep
    from ppo2.sweeps.sweep import sweep
    from ppo2.system.runtime import configure_runtime
    from ppo2.training.interruption import interrupted
    from ppo2.training.learn import learn
    from ppo2.tuning.result import Tuning
    from ppo2.tuning.tune import tune

__version__ = "0.1.0"

__all__ = [
    "Config",
    "DeviceRunner",
    "Evaluation",
    "MicrobatchedModel",
    "Model",
    "Runner",
    "Sweep",
    "Tuning",
    "callbacks",
    "configure_runtime",
    "distributed",
    "doctor",
    "envs",
    "evaluate",
    "export",
    "gae",
    "interrupted",
    "learn",
    "load",
    "make",
    "networks",
    "play",
    "plot",
    "policy_loss",
    "ppo_loss",
    "preset",
    "push",
    "register",
    "report",
    "sweep",
    "tune",
    "value_loss",
    "weighted_mean",
]

_MODULES = {
    "Config": "ppo2.config",
    "DeviceRunner": "ppo2.runners.device",
    "Evaluation": "ppo2.evaluation.evaluate",
    "MicrobatchedModel": "ppo2.agent.microbatched",
    "Model": "ppo2.agent.model",
    "Runner": "ppo2.runners.host",
    "Sweep": "ppo2.sweeps.result",
    "Tuning": "ppo2.tuning.result",
    "configure_runtime": "ppo2.system.runtime",
    "doctor": "ppo2.diagnosis.doctor",
    "evaluate": "ppo2.evaluation.evaluate",
    "export": "ppo2.deployment.export",
    "gae": "ppo2.algorithm.gae",
    "interrupted": "ppo2.training.interruption",
    "learn": "ppo2.training.learn",
    "load": "ppo2.agent.loading",
    "make": "ppo2.envs",
    "play": "ppo2.evaluation.play",
    "policy_loss": "ppo2.algorithm.losses",
    "ppo_loss": "ppo2.algorithm.losses",
    "preset": "ppo2.envs",
    "push": "ppo2.sharing.push",
    "register": "ppo2.networks",
    "report": "ppo2.reports.page",
    "sweep": "ppo2.sweeps.sweep",
    "tune": "ppo2.tuning.tune",
    "value_loss": "ppo2.algorithm.losses",
    "weighted_mean": "ppo2.numerics.statistics",
}
"""The module that defines each public name; a name in `__all__` without one is a subpackage."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _MODULES:
        return importlib.import_module(f"ppo2.{name}")
    globals()[name] = found = _imported(name)
    return found


@with_room
@collection_put_off()
def _imported(name: str) -> Any:
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

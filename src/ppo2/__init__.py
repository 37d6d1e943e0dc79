"""PPO as OpenAI Baselines' `ppo2` would be today: `ppo2.learn(network=..., env=..., total_timesteps=...)`."""

import importlib
import sys
from typing import Any

__version__ = "0.1.0"

if sys.orig_argv[1:3] == ["-m", "ppo2.envs.worker"]:
    # A process that only steps environments starts without JAX, unless an environment asks for something of ours.
    def __getattr__(name: str) -> Any:
        # the rooms that stepping needs: imported like any module
        if name in ("envs", "launch", "processors", "spaces"):
            raise AttributeError(name)
        public = importlib.import_module("ppo2.public")
        if name not in public.__all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # All of it, as importing ppo2.learn has just made `learn` a module here.
        globals().update({verb: getattr(public, verb) for verb in public.__all__})
        return globals()[name]
else:
    from ppo2.public import *  # noqa: F403
    from ppo2.public import __all__  # noqa: F401

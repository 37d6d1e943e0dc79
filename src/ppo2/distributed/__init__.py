"""Several processes that train one model."""

from ppo2.distributed.processes import *  # noqa: F403

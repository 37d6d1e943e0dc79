"""Several processes that train one model."""

from ppo2.distributed.processes import World, init, world

__all__ = ["World", "init", "world"]

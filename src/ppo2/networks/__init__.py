"""Networks by name, and how a `network` argument becomes one."""

from ppo2.networks.adapters import has_weights
from ppo2.networks.mlp import mlp
from ppo2.networks.registry import Builder, Network, build, check, known, options, register

register("mlp")(mlp)

__all__ = ["Builder", "Network", "build", "check", "has_weights", "known", "mlp", "options", "register"]

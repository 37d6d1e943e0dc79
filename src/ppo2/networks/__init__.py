"""Networks by name, and how a `network` argument becomes one."""

from ppo2.networks.cnn import cnn, cnn_small, conv_only, impala_cnn
from ppo2.networks.mlp import mlp
from ppo2.networks.registry import Builder, Network, apply, build, check, known, options, register

for _builder in (mlp, cnn, cnn_small, conv_only, impala_cnn):
    register(_builder.__name__)(_builder)

__all__ = [
    "Builder",
    "Network",
    "apply",
    "build",
    "check",
    "cnn",
    "cnn_small",
    "conv_only",
    "impala_cnn",
    "known",
    "mlp",
    "options",
    "register",
]

"""Networks by name, and how a `network` argument becomes one."""

from ppo2.networks.adapters import has_weights
from ppo2.networks.cells import State
from ppo2.networks.cnn import cnn, cnn_small, conv_only, for_images, has_convolutions, impala_cnn
from ppo2.networks.encoders import assemble
from ppo2.networks.mlp import mlp
from ppo2.networks.recurrent import advance, is_recurrent, recurrent, unroll
from ppo2.networks.registry import Builder, Network, apply, build, check, known, options, register

for _builder in (mlp, cnn, cnn_small, conv_only, impala_cnn):
    register(_builder.__name__)(_builder)
for _cell in ("lstm", "lnlstm", "gru"):
    register(_cell)(recurrent(None, _cell))
for _trunk, _cell in (("cnn", "lstm"), ("cnn", "lnlstm"), ("impala_cnn", "lstm")):
    register(f"{_trunk}_{_cell}")(recurrent(_trunk, _cell))

__all__ = [
    "Builder",
    "Network",
    "State",
    "advance",
    "apply",
    "assemble",
    "build",
    "check",
    "cnn",
    "cnn_small",
    "conv_only",
    "for_images",
    "has_convolutions",
    "has_weights",
    "impala_cnn",
    "is_recurrent",
    "known",
    "mlp",
    "options",
    "recurrent",
    "register",
    "unroll",
]

"""Networks by name, and how a `network` argument becomes one."""

from ppo2.networks.adapters import has_weights
from ppo2.networks.encoders import assemble
from ppo2.networks.mlp import mlp
from ppo2.networks.recurrent import State, is_recurrent, recurrent, restarted, unroll
from ppo2.networks.registry import Builder, Network, build, check, known, options, register

register("mlp")(mlp)
register("lstm")(recurrent(None, "lstm"))
register("lnlstm")(recurrent(None, "lnlstm"))
register("gru")(recurrent(None, "gru"))

__all__ = [
    "Builder",
    "Network",
    "State",
    "assemble",
    "build",
    "check",
    "has_weights",
    "is_recurrent",
    "known",
    "mlp",
    "options",
    "recurrent",
    "register",
    "restarted",
    "unroll",
]

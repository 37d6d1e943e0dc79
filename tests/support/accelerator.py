"""A CPU that is taken for an accelerator, so that programs are made as for one."""

from collections import OrderedDict

import pytest

from ppo2.agent import compiled
from ppo2.envs.device import unroll
from ppo2.networks import layers
from ppo2.numerics import pieces, recurrence
from ppo2.runners import rollout_ends

ASKING = (pieces, recurrence, rollout_ends, unroll, layers)
"""The modules that make other programs for a CPU."""


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on programs are made as for a GPU, and shared with no others."""
    monkeypatch.setattr(compiled, "SHARED", OrderedDict())
    for module in ASKING:
        monkeypatch.setattr(module, "platform", lambda: "gpu")

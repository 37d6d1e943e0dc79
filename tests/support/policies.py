"""Models with spaces and networks of every kind, untrained, to be exported."""

from typing import Any

import jax
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.algorithm.normaliser import BoxStatistics, Normaliser
from ppo2.config import Config
from ppo2.numerics.statistics import Moments

FLOATS = Box(-1, 1, (4,))
IMAGE = Box(0, 255, (21, 24, 3), np.uint8)

CASES: dict[str, dict[str, Any]] = {
    "discrete": {"action_space": Discrete(3, start=5), "normalize_obs": True},
    "gaussian": {
        "observation_space": Box(-np.inf, np.inf, (5,), np.float64),
        "action_space": Box(np.array([-0.1, -np.inf]), np.array([0.1, 3]), dtype=np.float64),
        "normalize_obs": True,
    },
    "squashed": {"action_space": Box(np.float32([-0.1, -2]), np.float32([0.3, 3])), "action_dist": "squashed_gaussian"},
    "half": {"action_space": Box(-1, 1, (2,), np.float16)},
    "lstm": {"network": "lstm", "normalize_obs": True},
    "lnlstm": {"network": "lnlstm", "action_space": MultiBinary(3)},
    "gru": {
        "network": "gru", "value_network": "copy",
        "action_space": MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [0, 7]]),
    },
    "mlp and a separate value": {"value_network": "copy", "action_space": MultiBinary((2, 2))},
    "masked": {
        "observation_space": Dict(observation=FLOATS, action_mask=MultiBinary(5)),
        "action_space": MultiDiscrete([2, 3]),
        "normalize_obs": True,
    },
    "masked lstm": {
        "observation_space": Dict(observation=FLOATS, action_mask=Box(0, 1, (2,), np.int8)), "network": "lstm",
    },
    "masked parts": {
        "observation_space": Dict(observation=FLOATS, action_mask=Tuple([MultiBinary(2), MultiBinary(3)])),
        "action_space": Tuple([Discrete(2), Discrete(3)]),
    },
    "choices seen": {"observation_space": Tuple([Discrete(7, start=2), MultiDiscrete([3, 4, 4], start=[1, 0, -3])])},
    "integers seen": {"observation_space": Box(-(2**40), 2**40, (3,), np.int64), "normalize_obs": True},
    "parts": {
        "observation_space": Dict(b=MultiBinary((2, 3)), a=Tuple([FLOATS, Box(0, 1, (2,), np.float16)])),
        "action_space": Dict(
            move=Discrete(3, start=-1), arm=Box(-1, 1, (2, 2)), also=Tuple([MultiBinary(2), MultiDiscrete([2, 2])])
        ),
        "normalize_obs": True,
    },
    "cnn_small": {"observation_space": IMAGE, "network": "cnn_small"},
    "cnn": {"observation_space": Box(0, 255, (3, 36, 40), np.uint8), "network": "cnn"},
    "conv_only": {
        "observation_space": Box(0, 255, (21, 24), np.float32), "network": "conv_only",
        "kwargs": {"convs": [(4, 3, 1), (4, 5, 2)]},
    },
    "impala_cnn": {"observation_space": IMAGE, "network": "impala_cnn", "kwargs": {"depths": [4, 8]}},
    "cnn_lstm": {"observation_space": IMAGE, "network": "cnn_lstm", "kwargs": {"nlstm": 8, "pad": "SAME"}},
    "camera and speed": {"observation_space": Dict(camera=IMAGE, speed=Box(-5, 5, (2,))), "normalize_obs": True},
    "bf16": {"precision": "bf16"},
}  # fmt: skip
"""Arguments of `untrained`."""


def untrained(
    observation_space: Any = FLOATS,
    action_space: Any = None,
    network: Any = "mlp",
    *,
    normalize_obs: bool = False,
    value_network: Any = None,
    action_dist: str = "gaussian",
    precision: str | None = None,
    kwargs: dict[str, Any] | None = None,
) -> Model:
    """A model whose heads and statistics are random, so that its outputs depend on everything."""
    policy = build_policy(
        observation_space,
        Discrete(2) if action_space is None else action_space,
        network=network,
        value_network=value_network,
        network_kwargs=kwargs or {},
        action_dist=action_dist,
        precision=precision,
        key=jax.random.key(0),
    )
    settings: Any = {"normalize_obs": normalize_obs, "action_dist": action_dist, "precision": precision}
    model = Model(policy=policy, config=Config(total_timesteps=10**6, **settings), key=jax.random.key(1))
    rng = np.random.default_rng(0)
    params = np.asarray(model.state.params)
    params = params + rng.normal(0, 0.1, params.shape).astype(np.float32)
    model.state = model.state._replace(params=jax.device_put(params), normaliser=_counted(model.state.normaliser, rng))
    return model


def _counted(normaliser: Normaliser, rng: np.random.Generator) -> Normaliser:
    """The normaliser with made-up statistics."""

    def counted(part: BoxStatistics | None) -> BoxStatistics | None:
        if part is None:
            return None
        shape = np.shape(part.origin)
        origin, mean = np.round(rng.normal(0, 2, shape)), rng.normal(0, 0.3, shape)
        var, count = rng.uniform(0.5, 2, shape), np.float32(100)
        numbers: Any = [np.asarray(x, np.float32) for x in (mean - origin, var, count)]
        return BoxStatistics(jax.device_put(origin.astype(np.float32)), Moments(*numbers), narrowed=part.narrowed)

    obs = jax.tree.map(counted, normaliser.obs, is_leaf=lambda x: x is None or isinstance(x, BoxStatistics))
    return Normaliser(obs=obs, returns=normaliser.returns, masked=normaliser.masked)

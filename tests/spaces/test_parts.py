"""Spaces of several parts."""

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector.utils import batch_space, iterate

from ppo2 import spaces

NESTED = Dict(
    {
        "turn": Discrete(3, start=-1),
        "arm": Tuple([Box(-2, 2, (2, 1), np.float64), MultiDiscrete([2, 3], start=[5, 0])]),
        "lamps": MultiBinary((1, 2)),
        "speed": Box(0, 1, ()),
    }
)


def test_a_batch_is_separated_as_gymnasium_would():
    batched = batch_space(
        NESTED,
        2,
    )
    batched.seed(0)
    batch = batched.sample()
    alone = spaces.separate(NESTED, batch)
    assert [NESTED.contains(one) for one in alone] == [True, True]
    assert isinstance(alone[0]["arm"], tuple)
    for one, theirs in zip(alone, iterate(batched, batch), strict=True):
        assert data_equivalence(one, {**theirs, "speed": np.asarray(theirs["speed"])})
    alone = spaces.separate(NESTED["arm"], batch["arm"])
    assert [NESTED["arm"].contains(one) for one in alone] == [True, True]

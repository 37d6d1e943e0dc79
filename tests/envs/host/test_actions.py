"""Actions one by one, as environments get them."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from ppo2.envs.host.actions import MANY, splitter


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
@pytest.mark.parametrize("count", [3, MANY + 1])
def test_choices_are_as_a_sample_is(count: int, dtype: Any) -> None:
    space = spaces.Discrete(count, start=-1, dtype=dtype)
    actions = list(splitter(space)([np.array([-1, 1], dtype)]))
    assert actions == [-1, 1]
    assert [type(action) for action in actions] == [type(space.sample())] * 2
    assert all(map(space.contains, actions))


def test_arrays_are_the_environments_to_keep() -> None:
    batch = np.zeros((2, 3), np.float32)
    actions = list(splitter(spaces.Box(-1, 1, (3,)))([batch]))
    batch[:] = 1
    assert np.array_equal(actions, np.zeros((2, 3)))

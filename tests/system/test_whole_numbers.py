import numpy as np
import pytest

from ppo2.system.whole_numbers import is_whole


@pytest.mark.parametrize("value", [0, -3, np.int64(2), np.uint8(1)])
def test_whole_numbers(value: object) -> None:
    assert is_whole(value)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float32(2), "3", None])
def test_others(value: object) -> None:
    assert not is_whole(value)

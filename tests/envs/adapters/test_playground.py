"""Environments of MuJoCo Playground; test_brax.py holds them against the library."""

import pytest

from ppo2.envs import adapters
from support.adapters import needs


@needs("playground")
def test_playground_refuses_pictures() -> None:
    with pytest.raises(TypeError, match=r"CartpoleBalance\(vision=True\).*observation space of pictures"):
        adapters.make("playground:CartpoleBalance", vision=True)

"""The stepper: one interface to vector environments of any autoreset mode."""

import pytest
from gymnasium.vector import AutoresetMode

from ppo2.distributions import action_distribution
from ppo2.envs.host.stepper import Stepper
from support.environments import Script, vector


def test_an_unknown_autoreset_mode_is_refused() -> None:
    env = vector(lambda: Script(3), mode=AutoresetMode.SAME_STEP)
    env.metadata["autoreset_mode"] = "sometimes"
    with pytest.raises(ValueError, match=r"autoreset_mode.*'sometimes'.*must be one of"):
        Stepper(env, action_distribution(env.single_action_space))
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=r"autoreset_mode.*None"):
        Stepper(env, action_distribution(env.single_action_space))

"""One bad observation costs one update: memory and actions don't suffer from it afterwards."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from support.device_envs import good

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BOX = gym.spaces.Box(-1, 1, (1,), np.float32)


class Sensor(gym.Env[Any, Any]):
    """A never-ending episode whose 20th observation is bad; so is every one after an action that is."""

    observation_space, action_space = BOX, BOX

    def __init__(self, bad: float) -> None:
        self.bad, self.t, self.broken = bad, 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.t, self.broken = 0, False
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        self.broken |= not np.isfinite(action).all()
        return np.float32([self.bad if self.t == 20 or self.broken else 0.5]), 1.0, False, False, {}


def blind_at_reset() -> SimpleNamespace:
    """A device environment whose first observations are NaN, those of the first episode alone."""

    def step(state: Any, action: Any, key: Any) -> Any:
        return state + 1, jnp.full(1, 0.5), 1.0, False, False, {}

    return good(
        observation_space=BOX, action_space=BOX, reset=lambda key: (jnp.int32(0), jnp.full(1, jnp.nan)), step=step
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("network", ["mlp", "gru"])
def test_one_bad_observation_costs_one_update(network: str, bad: float, capsys: pytest.CaptureFixture[str]) -> None:
    model = learn_on(lambda: Sensor(bad), network, {"num_hidden" if network == "mlp" else "ngru": 4})
    assert int(model.state.counters.skipped_updates) == 1
    said = capsys.readouterr().out
    assert said.count("skipped") == 1
    assert "update 2 skipped: an observation is NaN or infinite; environment 0 gave it at step" in said


def test_on_the_device_too() -> None:
    model = learn_on(blind_at_reset(), "gru", {"ngru": 4})
    assert int(model.state.counters.skipped_updates) == 1


def test_it_leaves_the_statistics_alone() -> None:
    model = learn_on(lambda: Sensor(np.nan), "mlp", {"num_hidden": 4}, normalize_obs=True, normalize_rewards=True)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.state.normaliser))


def learn_on(env: Any, network: str, size: dict[str, int], **more: Any) -> Any:
    settings = {"env": env, "network": network, "num_envs": 2, "nsteps": 16, "total_timesteps": 32 * 5, **size, **more}
    return ppo2.learn(**settings, nminibatches=2, seed=0, on_nonfinite="skip")

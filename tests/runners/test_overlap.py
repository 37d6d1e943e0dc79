"""Two groups of environments: the policy acts for one while workers step the other."""

import time
from typing import Any

import jax
import numpy as np
import pytest

import ppo2
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import Legal, Recall

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"env": "CartPole-v1", "normalize_obs": True, "normalize_rewards": True},
    "truncated": {"env": "Pendulum-v1", "make": {"max_episode_steps": 9}},
    "lstm": {"factory": Recall, "network": "lstm", "nlstm": 8, "nminibatches": 2},
    "masked": {"factory": Legal},
}


def learned(case: str, *, workers: int, groups: int) -> Any:
    settings = {"nsteps": 32, "total_timesteps": 4 * 32 * 3, "noptepochs": 2, **SETTINGS[case]}
    factory, env_id, how = settings.pop("factory", None), settings.pop("env", ""), settings.pop("make", {})
    if factory is None:
        env = ppo2.make(env_id, num_envs=4, seed=1, workers=workers, groups=groups, **how)
    else:
        env = HostVectorEnv([factory] * 4, workers=workers, groups=groups)
    rows: list[Any] = []
    model = ppo2.learn(env=env, seed=1, update_fn=lambda *args: rows.append(args[2]), **settings)
    env.close()
    return jax.device_get(model.state.params), rows[-1].eprewmean


@pytest.mark.parametrize(
    "case", ["lstm", *(pytest.param(case, marks=pytest.mark.slow) for case in ("mlp", "masked", "truncated"))]
)
@pytest.mark.exact
def test_two_groups_learn_what_one_does_and_the_same_each_time(case: str) -> None:
    once, once_more = (learned(case, workers=1, groups=2) for _ in range(2))
    here = learned(case, workers=0, groups=2)
    at_once = learned(case, workers=0, groups=1)
    assert np.array_equal(once[0], once_more[0])
    assert np.array_equal(once[0], here[0])
    np.testing.assert_allclose(once[0], at_once[0], rtol=2e-4, atol=2e-5)
    assert once[1] == pytest.approx(at_once[1], rel=1e-3, nan_ok=True)


def test_one_group_goes_on_while_the_other_is_looked_at() -> None:
    """Both are begun; then, without anybody asking for the first, its observations change."""
    env = HostVectorEnv([Recall] * 4, workers=2, groups=2)
    env.reset(seed=0)
    env.buffers.rewards[:] = np.nan
    env.start([0, 0], 0)
    env.start([0, 0], 1)
    second = env.finish(1)
    deadline = time.monotonic() + 10
    while np.isnan(env.buffers.rewards[:2]).any() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert np.isfinite(env.buffers.rewards[:2]).all()
    assert len(env.finish(0)[1]) == len(second[1]) == 2
    env.close()

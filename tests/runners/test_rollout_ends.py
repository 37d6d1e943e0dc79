"""Values of final observations and running returns, on CPU and as on an accelerator."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.runners import rollout_ends
from ppo2.runners.rollout_ends import carried_returns, final_values
from support import accelerator
from support.device_cartpole import fresh

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "accelerator"])
def test_values_of_final_observations_in_as_many_batches_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, on_cpu: bool
) -> None:
    made = fresh()
    next_obs = np.float32(np.random.default_rng(0).normal(size=(5, 4, 4)))
    values = made.value(next_obs.reshape(-1, 4)).reshape(5, 4)
    if not on_cpu:
        accelerator.pretend(monkeypatch)
    for batch, share in ((3, 0.5), (3, 1.0), (3, 0.0), (256, 0.5)):
        monkeypatch.setattr(rollout_ends, "FINAL_BATCH", batch)
        truncated = np.random.default_rng(1).random((5, 4)) < share
        step: Any = SimpleNamespace(
            truncated=jnp.asarray(truncated), next_obs=jnp.asarray(next_obs), recurrent_state=None
        )
        found, wanted = final_values(made, made.state, step)
        truncated[-1] = True  # what follows the last step is not in the rollout either
        np.testing.assert_array_equal(wanted, truncated)
        np.testing.assert_allclose(found, np.where(truncated, values, 0.0), rtol=1e-5)


@pytest.mark.parametrize("on_cpu", [True, False], ids=["cpu", "accelerator"])
def test_returns_are_carried_from_the_last_end_on(monkeypatch: pytest.MonkeyPatch, on_cpu: bool) -> None:
    if not on_cpu:
        accelerator.pretend(monkeypatch)
    rng = np.random.default_rng(0)
    rewards, before = np.float32(rng.normal(size=(40, 6))), np.float32(rng.normal(size=6))
    terminated, truncated = (rng.random((40, 6)) < 0.03 for _ in range(2))
    terminated[-1, 0], terminated[:, 1], truncated[:, 1], rewards[3, 1] = True, False, False, np.nan
    expected = before.astype(np.float64)
    for reward, ended in zip(np.nan_to_num(rewards), terminated | truncated, strict=True):
        expected = np.where(ended, 0.0, 0.9 * expected + reward)
    step: Any = SimpleNamespace(rewards=rewards, terminated=terminated, truncated=truncated)
    found = jax.jit(lambda: carried_returns(jnp.asarray(before), step, jnp.float32(0.9)))()
    assert found[0] == 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

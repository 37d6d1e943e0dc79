"""Runs of a sweep that train together: the programs that they share, and their faults."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2.sweeps import vmapped
from ppo2.system import runtime
from support.device_envs import Line
from support.runs import SWEPT


@pytest.mark.slow
def test_static_settings_make_a_program_each(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    together = vmapped.VmappedRuns
    monkeypatch.setattr(vmapped, "VmappedRuns", lambda env, plans: made.append(len(plans)) or together(env, plans))
    result = ppo2.sweep(env=Line(), seed=range(2), vf_coef=[0.5, 1.0], **{**SWEPT, "num_hidden": [4, 8]})
    assert made == [4, 4]
    sizes = [model.state.params.size for model in result.models]
    assert sizes == [47, 47, 123, 123] * 2  # of four and of eight units, in the order of the table


@pytest.mark.slow
def test_runs_that_memory_cannot_hold_train_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ppo2.sweep(env=Line(), seed=range(2), **SWEPT)
    monkeypatch.setattr(vmapped, "_runs_at_once", lambda plan: 1)
    parts = ppo2.sweep(env=Line(), seed=range(2), **SWEPT)
    for one, other in zip(whole.models, parts.models, strict=True):
        np.testing.assert_allclose(one.state.params, other.state.params, atol=1e-6)


@pytest.mark.slow
def test_one_run_that_diverges_harms_no_other() -> None:
    result = ppo2.sweep(env=Line(), lr=[1e-3, 1e30], seed=[0], **SWEPT)
    assert result.table[0]["skipped_updates"] == 0
    assert result.table[1]["skipped_updates"] > 0
    assert np.isfinite(result.models[1].state.params).all()


@pytest.mark.usefixtures("quickly_compiled")
def test_memory_is_kept_from_an_update_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr(runtime, "updated", lambda: calls.append(None))
    ppo2.sweep(env=Line(), seed=[0], **{**SWEPT, "total_timesteps": 8 * 16})
    assert len(calls) == 1


@dataclass(frozen=True)
class Failing:
    """Some environments give a reward that is NaN at step 20, others an observation that is none from step 36."""

    observation_space = gym.spaces.Discrete(3)
    action_space = gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        return (jax.random.bernoulli(key), jnp.int32(0)), jnp.int32(0)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        first, t = state
        t = t + 1
        reward = jnp.where(first & (t == 20), jnp.nan, 1.0)
        return (first, t), jnp.where(~first & (t >= 36), 7, 1), reward, False, False, {}


@pytest.mark.slow
def test_a_fault_that_ends_training_is_told_though_others_were_skipped_before() -> None:
    with pytest.raises(ValueError, match=r"the run of seed 0, update 3: an observation is out of range"):
        ppo2.sweep(env=Failing(), seed=[0, 1], **{**SWEPT, "log_interval": 8, "total_timesteps": 8 * 8 * 16})


@pytest.mark.slow
def test_settings_that_look_alike_stay_apart() -> None:
    """Two functions of one name are two configurations; a tuple is one value."""
    result = ppo2.sweep(env=Line(), lr=[lambda frac: 1e-4, lambda frac: 1e-2], seed=[1, 2], **SWEPT)
    assert [row["runs"] for row in result.configurations()] == [2, 2]


class OwnVfCoef(ppo2.Model):
    """Looks at its settings while it is traced."""

    def loss(self, policy: Any, normaliser: Any, batch: Any, hyper: Any) -> Any:
        return super().loss(policy, normaliser, batch, hyper._replace(vf_coef=self.config.vf_coef * 10))


@pytest.mark.slow
def test_a_model_of_ones_own_sees_the_settings_of_its_run() -> None:
    result = ppo2.sweep(env=Line(), vf_coef=[0.0, 1.0], seed=[0], model_fn=OwnVfCoef, **SWEPT)
    alone = ppo2.learn(env=Line(), vf_coef=1.0, seed=0, model_fn=OwnVfCoef, **SWEPT)
    np.testing.assert_allclose(result.models[1].state.params, alone.state.params, atol=1e-5)


class OwnTrain(ppo2.Model):
    def train(self, *arguments: Any, **more: Any) -> Any:
        raise AssertionError


def test_a_model_that_cannot_be_traced_is_refused() -> None:
    with pytest.raises(TypeError, match="replaces `train`"):
        ppo2.sweep(env=Line(), model_fn=OwnTrain, **SWEPT)

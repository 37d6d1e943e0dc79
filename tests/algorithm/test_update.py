"""The update as on an accelerator, beside a CPU's; tests of a model's training (tests/agent) say what it does."""

from collections import OrderedDict
from typing import Any

import jax
import numpy as np
import pytest

from ppo2.agent import compiled
from ppo2.algorithm import update
from support import accelerator
from support.device_cartpole import fresh, on_device

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize("target_kl", [None, 1e-9], ids=["all", "stopped"])
def test_an_accelerator_stores_the_same_figures(monkeypatch: pytest.MonkeyPatch, target_kl: float | None) -> None:
    """Four minibatches; with a tiny `target_kl` the first, whose ratio is 1, is the only one or two."""
    _, rollouts, _ = on_device(False)

    def trained() -> Any:
        made = fresh(target_kl=target_kl)
        stats = made.train(rollouts[0], lr=1e-2, cliprange=0.2)
        return jax.device_get(made.state.params), stats

    params, stats = trained()
    accelerator.pretend(monkeypatch)
    same_params, same_stats = trained()
    np.testing.assert_allclose(same_params, params, rtol=1e-4, atol=1e-6)  # advantages: another order of sums
    assert jax.tree.map(lambda x: np.asarray(x).dtype, same_stats) == jax.tree.map(lambda x: np.asarray(x).dtype, stats)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), same_stats, stats)
    assert 0 < stats.gradient_steps <= 4
    assert (stats.gradient_steps < 4) == (target_kl is not None)


def test_large_vectors_are_padded_and_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd number of parameters, with zeros behind them while they are learned."""
    _, rollouts, _ = on_device(False)

    def trained() -> Any:
        made = fresh()
        made.frozen = ((3, 9),)
        made.train(rollouts[0], lr=1e-2, cliprange=0.2)
        return jax.device_get((made.state.params, made.state.opt_state))

    plain = trained()
    assert plain[0].size % 2
    monkeypatch.setattr(update, "SMALL", 0)
    monkeypatch.setattr(compiled, "SHARED", OrderedDict())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), trained(), plain)

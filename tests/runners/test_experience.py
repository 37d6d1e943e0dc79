"""Rollouts completed, and learned from, in pieces that fit in memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.algorithm.rollout import Batch, Rollout
from ppo2.algorithm.update import batch_of
from ppo2.networks import recurrent
from ppo2.numerics import pieces
from ppo2.numerics.memory import peak_bytes
from ppo2.runners.experience import Experience, evaluate_steps
from support import accelerator
from support.device_cartpole import fresh, on_host, runner_for

pytestmark = pytest.mark.usefixtures("quickly_compiled")

AMPLE, SCARCE = 2**31, 2**15
"""Bytes for a piece: of the whole, and of about a twentieth of it."""
NETWORKS: list[dict[str, Any]] = [{"num_hidden": 32}, {"network": recurrent("mlp", "lstm"), "nlstm": 8}]


def made(monkeypatch: pytest.MonkeyPatch, limit: int, network: dict[str, Any]) -> tuple[Any, Rollout]:
    """A model and its rollout of 1,024 steps, as an accelerator with so much memory makes it."""
    accelerator.pretend(monkeypatch)
    monkeypatch.setattr(pieces, "activation_limit", lambda: limit)
    model = fresh(num_envs=32, nsteps=32, nminibatches=1, **network)
    return model, on_host(runner_for(model).run())


@pytest.mark.parametrize("network", NETWORKS, ids=["mlp", "lstm"])
def test_a_rollout_is_completed_in_pieces(monkeypatch: pytest.MonkeyPatch, network: dict[str, Any]) -> None:
    model, whole = made(monkeypatch, AMPLE, network)
    known = Experience(**{name: getattr(whole, name) for name in Experience._fields})

    def taken() -> int:
        return peak_bytes(lambda of: evaluate_steps(model.policy, model.state.normaliser, of), known)

    at_once = taken()
    _, found = made(monkeypatch, SCARCE, network)
    assert taken() < at_once / 2
    for name in ("actions", "logp", "values", "next_values"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("rows", [1024, 1021], ids=["equal", "overlapping"])  # 1,021 is a prime
@pytest.mark.parametrize("network", NETWORKS, ids=["mlp", "lstm"])
def test_a_gradient_is_made_in_pieces(monkeypatch: pytest.MonkeyPatch, network: dict[str, Any], rows: int) -> None:
    model, rollout = made(monkeypatch, AMPLE, network)
    rollout = jax.tree.map(jnp.asarray, rollout)
    valid = jax.random.bernoulli(jax.random.key(1), 0.7, rollout.valid.shape)
    batch: Batch = batch_of(rollout._replace(valid=valid), model.advantages(model.state.normaliser, rollout))
    if model.is_recurrent:  # as many sequences as environments, 32 or 31
        steps = batch._replace(recurrent_state=None)
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1)[: 32 - (rows < 1024)], steps)._replace(
            recurrent_state=jax.tree.map(lambda x: x[0][: 32 - (rows < 1024)], batch.recurrent_state)
        )
    else:
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:rows], batch)
    hyper = model.hyperparameters(lr=1e-3, cliprange=0.2)

    def gradient(batch: Batch) -> Any:
        return model.gradients(model.state.params, model.state.normaliser, batch, hyper)

    def of(limit: int) -> tuple[Any, int]:
        monkeypatch.setattr(pieces, "activation_limit", lambda: limit)
        # by functions of its own, as traces of one are kept
        return jax.jit(lambda batch: gradient(batch))(batch), peak_bytes(lambda batch: gradient(batch), batch)

    (whole, at_once), (found, in_pieces) = of(AMPLE), of(SCARCE)
    assert in_pieces < at_once / 3
    for name, one, other in (("gradient", whole[0], found[0]), *zip(whole[1]._fields, whole[1], found[1], strict=True)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=name)

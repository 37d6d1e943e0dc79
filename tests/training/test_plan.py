"""The plan of a training that is printed before it starts."""

import jax
import pytest

from support.runs import learn


def test_the_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    learn(total_timesteps=300, normalize_obs=True)
    out = capsys.readouterr().out
    for part in (
        "4 environments x 16 steps = 64 timesteps an update",
        "4 epochs x 4 minibatches of 16 = 16 gradient steps",
        "4 updates = 256 timesteps of 300 asked for, after 64 that only fill the normaliser",
        "3.01 kB for a rollout",  # 64 * (16 obs + 4 action + 8 noise + 16 numbers + 3 flags) = 3,008
        "seed 7",
    ):
        assert part in out, out


def test_the_plan_tells_of_the_precision_of_products(capsys: pytest.CaptureFixture[str]) -> None:
    learn(total_timesteps=64, precision="bf16", update_fn=lambda _: False)
    assert "= 16 gradient steps an update, products in bf16\n" in capsys.readouterr().out
    learn(total_timesteps=64, num_envs=1, nsteps=64, noptepochs=1, nminibatches=1, update_fn=lambda _: False)
    out = capsys.readouterr().out
    assert "batch     1 environment x 64 steps" in out
    assert "learning  1 epoch x 1 minibatch of 64 = 1 gradient step an update\n" in out
    with jax.default_matmul_precision("tensorfloat32"):
        learn(total_timesteps=64, update_fn=lambda _: False)
    assert "an update, products by jax_default_matmul_precision (tensorfloat32)\n" in capsys.readouterr().out

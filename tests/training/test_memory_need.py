"""The memory that a training is expected to need, and what is said where a device has less."""

from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest

from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.config import Config
from ppo2.numerics import memory as numerics_memory
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.system.text import human_bytes
from ppo2.training import memory, plan
from ppo2.training.memory import check_memory, in_one_memory, memory_need
from support.runs import learn

IMAGE = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)


def model_of(space: gym.Space[Any], network: str, **settings: object) -> Model:
    config = Config(env=None, network=network, total_timesteps=2**20, seed=0, **settings)  # type: ignore[arg-type]
    policy = build_policy(space, gym.spaces.Discrete(6), network=network, key=jax.random.key(0))
    return Model(policy=policy, config=config, key=jax.random.key(0))


def limit(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    for module in (memory, plan, numerics_memory):
        monkeypatch.setattr(module, "memory_limit", lambda: count)


def test_each_device_has_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(IMAGE, "cnn_small", num_envs=8, nsteps=16, nminibatches=4)
    alone, shared = memory_need(model.config, model), memory_need(model.config, model, 2)
    # 128 x 28,224 bytes of images; 4 of action, 24 of noise, 16 of numbers and 3 flags beside each
    assert alone.rollout == 128 * (28_224 + 47)
    assert alone.copies == 128 * (2 * 28_224 + 5 * 47)
    assert (2 * shared.rollout, 2 * shared.copies, shared.parameters) == (alone.rollout, alone.copies, alone.parameters)
    assert alone.activations == 0  # a small rollout on a device that doesn't tell its memory
    assert alone.parameters == 8 * 4 * model.state.params.size


def test_states_of_all_steps_stay_on_the_device() -> None:
    """Two vectors of 128 numbers at each of 8 x 16 steps; the host keeps those that sequences begin with."""
    model = model_of(gym.spaces.Box(-1, 1, (4,), np.float32), "lstm", num_envs=8, nsteps=16, nminibatches=4)
    host, device = (memory_need(model.config, model, 2, on_device=on) for on in (False, True))
    assert device == host._replace(copies=host.copies + 8 * 16 // 2 * 2 * 128 * 4)
    without = model_of(IMAGE, "cnn_small", num_envs=8, nsteps=16, nminibatches=4)
    assert memory_need(without.config, without, on_device=True) == memory_need(without.config, without)


@pytest.mark.parametrize(
    ("network", "space"), [("cnn_small", IMAGE), ("lstm", gym.spaces.Box(-1, 1, (64,), np.float32))]
)
def test_activations_are_those_of_pieces(monkeypatch: pytest.MonkeyPatch, network: str, space: gym.Space[Any]) -> None:
    monkeypatch.setattr("ppo2.numerics.pieces.platform", lambda: "gpu")
    monkeypatch.setattr("ppo2.networks.convolution.platform", lambda: "gpu")
    model = model_of(space, network, num_envs=64, nsteps=128, nminibatches=4)
    limit(monkeypatch, 2**36)
    whole = memory_need(model.config, model).activations
    limit(monkeypatch, 2**25)  # an eighth for a piece
    assert memory_need(model.config, model).activations < 2**22 + 2**23 < whole


def test_a_training_that_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(IMAGE, "cnn_small", num_envs=1024, nsteps=128, nminibatches=4)  # 3.7 GB of images
    need = memory_need(model.config, model)._replace(activations=10**9)
    assert check_memory(model.config, need) is None  # nothing is known of the device
    limit(monkeypatch, 16 * 10**9)
    assert check_memory(model.config, need) is None
    limit(monkeypatch, 10 * 10**9)
    warning = check_memory(model.config, need)
    assert warning is not None
    for part in ("`num_envs` (=1024) x `nsteps` (=128)", "about 12.1 GB", "10 GB", "Lower `num_envs` or `nsteps`"):
        assert part in warning, warning
    limit(monkeypatch, 4 * 10**9)
    with pytest.raises(ValueError, match=r"`num_envs` \(=1024\) x `nsteps` \(=128\) make a rollout of 3.71 GB which"):
        check_memory(model.config, need)


def test_it_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    limit(monkeypatch, 1000)
    with pytest.raises(ValueError, match="must fit in 1 kB"):
        learn(run_dir=f"{tmp_path}/run")
    assert not list(tmp_path.iterdir())  # type: ignore[attr-defined]


def test_the_plan_tells_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit(monkeypatch, 2**30)
    learn(total_timesteps=64)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("memory")]
    assert "3.01 kB for a rollout, 139 parameters; about " in line
    assert " of 1.07 GB in all, " in line
    assert line.endswith("inside the network; seed 7")


def test_each_of_the_cpus_devices_has_a_copy_of_what_it_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices have a half of each minibatch, and both the whole rollout."""
    monkeypatch.setattr("ppo2.numerics.sharding.devices_here", lambda: [0, 1])
    model = model_of(IMAGE, "cnn_small", num_envs=16, nsteps=128, nminibatches=4)
    model.most_parts = 1
    alone = memory_need(model.config, model)
    assert (model.minibatch_parts, in_one_memory(model, ONE_DEVICE, on_device=False)) == (1, 1)
    model.most_parts = 2
    assert (model.minibatch_parts, in_one_memory(model, ONE_DEVICE, on_device=False)) == (2, 2)
    shared = memory_need(model.config, model)
    assert (shared.rollout, shared.parameters) == (alone.rollout, alone.parameters)
    # of images two copies are halves; of the rest, 47 bytes, two are whole and three are halves
    assert shared.copies == 2048 * 28_224 + 2 * 2048 * 47 + 3 * 2048 * 47 // 2
    assert in_one_memory(model, DataAxis(3), on_device=True) == 3
    told = plan.batch_plan(model.config, model, shared, first=1, warm_up_steps=0, together=2)
    assert f"about {human_bytes(2 * shared.total)} in all" in told
    assert ", on 2 CPU devices; seed 0" in told

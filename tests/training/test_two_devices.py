"""Two devices learn what one does, with the same shards."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import ppo2
from ppo2 import plot
from ppo2.numerics import sharding
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis, default_shards, split_for
from ppo2.runners import ends
from support import accelerator
from support.device_cartpole import learn, leaves, rows
from support.environments import Catch
from support.jobs import call_on_two_devices

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")

ON_TWO_DEVICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalisers, target_kl, microbatches of a minibatch": {
        "normalize_obs": True,
        "normalize_rewards": True,
        "target_kl": 2e-4,
        "lr": 3e-3,
        "model_fn": functools.partial(ppo2.MicrobatchedModel, microbatch_size=512),  # a device has half of it
    },
    "programs of an accelerator": {"normalize_rewards": True},
    "every kth episode": {"monitor_limit": 7},
}


def learn_on_both(folder: Path) -> None:
    """For the process below: each of the settings on one device and on two, with the same two shards."""
    jax.config.update("jax_disable_most_optimizations", True)
    plot.curve = lambda *_: None  # type: ignore[assignment]
    usual = sharding.split_for
    assert usual(2) == DataAxis(2)
    assert default_shards(64, 16, 4) == 2
    assert default_shards(64, 16, 4, devices=1) == 1
    assert split_for(2, devices=1) == ONE_DEVICE
    for name, more in ON_TWO_DEVICES.items():
        for devices, split in ((1, lambda shards, devices: ONE_DEVICE), (2, usual)):
            sharding.split_for = split
            run_dir = folder / name / str(devices)
            with pytest.MonkeyPatch.context() as patch:
                if "accelerator" in name:
                    accelerator.pretend(patch)
                if "every" in name:
                    patch.setattr(ends, "CHOICE_PAYS", 0)  # in the program
                trained = learn(num_envs=64, total_timesteps=3 * 1024, log_interval=1, run_dir=run_dir, **more)
            assert trained.config.shards == 2
            np.savez(run_dir / "state.npz", *leaves(trained.state))


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    call_on_two_devices(__file__, "learn_on_both", folder)
    return folder


@pytest.mark.parametrize("name", ON_TWO_DEVICES)
def test_two_devices_learn_what_one_does(both_ways: Path, name: str) -> None:
    one, two = (both_ways / name / devices for devices in ("1", "2"))
    states = [list(np.load(folder / "state.npz").values()) for folder in (one, two)]
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    steps = [[int(row["misc/gradient_steps"]) for row in rows(folder)] for folder in (one, two)]
    assert steps[0] == steps[1]
    assert (min(steps[0]) < 4) == ("target_kl" in name)
    for name_of_loss in ("loss/value_loss", "loss/policy_entropy", "misc/explained_variance", "misc/grad_norm"):
        a, b = ([float(row[name_of_loss]) for row in rows(folder)] for folder in (one, two))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    episodes = [[(e["l"], e["env"]) for e in rows(folder, "monitor.csv")] for folder in (one, two)]
    assert episodes[0] == episodes[1]
    if "every" in name:
        assert len(episodes[0]) == 3 * 7
    else:
        assert {int(env) for _, env in episodes[0]} == set(range(64))
    means = [[float(row["eprewmean"]) for row in rows(folder)] for folder in (one, two)]
    np.testing.assert_allclose(*means, rtol=1e-4)
    returns = [[float(e["r"]) for e in rows(folder, "monitor.csv")] for folder in (one, two)]
    np.testing.assert_allclose(*returns, rtol=1e-4)


IMAGES: dict[str, Any] = {"env": Catch, "num_envs": 4, "nsteps": 32, "nminibatches": 2, "noptepochs": 2, "seed": 3}
BY_SAMPLES: dict[str, dict[str, Any]] = {
    "images": {"network": "cnn_small", "target_kl": 1.0},
    "sequences of images": {"network": "cnn_lstm", "nlstm": 8},
}


def learn_from_samples(folder: Path) -> None:
    """For the process below: minibatches on one device, and divided between two."""
    jax.config.update("jax_disable_most_optimizations", True)
    usual = sharding.over_samples
    assert usual(64) == usual(2, 32) == DataAxis(2, by_sample=True)
    assert usual(65) == usual(62) == usual(1, 128) == ONE_DEVICE  # no halves of 32 samples
    for name, more in BY_SAMPLES.items():
        settings = {**IMAGES, **more}
        for devices, divided in ((1, lambda *_, **__: ONE_DEVICE), (2, usual)):
            sharding.over_samples = divided
            trained = ppo2.learn(**settings, total_timesteps=2 * settings["num_envs"] * settings["nsteps"])
            np.savez(folder / f"{name} {devices}.npz", *leaves(trained.state))
    sharding.over_samples = usual
    ppo2.learn(**IMAGES, network="cnn_small", total_timesteps=128, run_dir=folder / "run")
    images = ppo2.learn(**IMAGES, network="cnn_small", total_timesteps=0)
    for steps, devices in ((64, 2), (65, 1)):  # rollouts of other sizes than the settings tell of
        rollout: Any = SimpleNamespace(valid=np.zeros((2 * steps, 1)), recurrent_state=None)
        assert images.learning_axis(rollout).devices == devices


@pytest.fixture(scope="module")
def by_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    call_on_two_devices(__file__, "learn_from_samples", folder)
    return folder


@pytest.mark.parametrize("name", BY_SAMPLES)
def test_minibatches_divided_between_two_devices_teach_the_same(by_samples: Path, name: str) -> None:
    one, two = (list(np.load(by_samples / f"{name} {devices}.npz").values()) for devices in (1, 2))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_with_as_many_parts(by_samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or says that it can't: this process has one CPU device."""
    run = by_samples / "run"
    again = ppo2.learn(**IMAGES, network="cnn_small", total_timesteps=256, load_path=run, run_dir=run)
    assert again.most_parts == 2
    assert json.loads((run / "config.json").read_text())["most_parts"] == 2
    assert "JAX_NUM_CPU_DEVICES=2" in " ".join(capsys.readouterr().out.split())
    fresh = ppo2.learn(**IMAGES, network="cnn_small", total_timesteps=0, load_path=run)
    assert fresh.most_parts == 1

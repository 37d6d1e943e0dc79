"""Names of other libraries: each leads to a setting that there is."""

import inspect

import pytest

import ppo2
from ppo2 import networks
from ppo2.config.foreign_names import CONVERTED, SAME_VALUE, counterpart, explained

COMING = {"callbacks", "log", "video_interval"}
"""Arguments of `learn` that are announced."""
OURS = {*inspect.signature(ppo2.learn).parameters, *networks.options(networks.known()["mlp"]), *COMING}
KNOWN = {"num_envs": 8, "nsteps": 128, "lr": "linear:2.5e-4"}


def test_every_name_leads_to_one_of_ours_and_is_none_itself():
    others = [name for names in SAME_VALUE.values() for name in names.split()]
    assert len(set(others)) == len(others)
    assert set(SAME_VALUE) <= OURS
    assert not {*others, *CONVERTED} & (OURS - COMING)
    for name in CONVERTED:
        found = counterpart(name, 1, {})
        assert found is not None
        assert set(found.settings) <= OURS, name


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", 3e-4, "it is called `lr` here: lr=0.0003."),
        ("n_steps", 2048, "it is called `nsteps` here: nsteps=2048."),
        ("batch_size", 64, "`nminibatches` here: nminibatches=16; the batch of num_envs * nsteps (=8 * 128 = 1,024)."),
        ("batch_size", 100, "nminibatches=8; the batch of num_envs * nsteps (=8 * 128 = 1,024), the nearest that"),
        ("batch_size", 10**6, "nminibatches=..."),
        ("gae_lambda", 0.9, "lam=0.9"),
        ("clip_range", 0.1, "cliprange=0.1"),
        ("clip_range_vf", None, "value_cliprange=None"),
        ("n_epochs", 10, "noptepochs=10"),
        ("update_epochs", 4, "noptepochs=4"),
        ("clip_coef", 0.2, "cliprange=0.2"),
        ("total_steps", 1e6, "total_timesteps=1000000.0"),
        ("train_batch_size", 4000, "nsteps=500"),
        ("policy", "MlpPolicy", "network='mlp'"),
        ("policy", "CnnLstmPolicy", "network='cnn_lstm'"),
        ("policy_kwargs", {"net_arch": [32, 32], "activation_fn": "ReLU"}, "num_layers=2, num_hidden=32, act"),
        ("policy_kwargs", {"net_arch": {"pi": [64], "vf": [64]}}, "num_layers=1, num_hidden=64"),
        ("anneal_lr", True, "lr='linear:2.5e-4'"),
        ("norm_adv", True, "advantages are always normalised"),
        ("eval_freq", 1280, "eval_interval=10; in updates"),
        ("use_sde", True, "leave it out"),
        ("value_loss_coef", 1, "vf_coef=2.0; twice the value"),
        ("vf_loss_coeff", None, "vf_coef=...; twice the value"),
        ("desired_kl", 0.01, "target_kl=0.01; it ends an update early"),
        ("vf_clip_param", 10.0, "RLlib cuts the squared error at it: leave it out"),
    ],
)  # fmt: skip
def test_values(name, value, words):
    assert words in counterpart(name, value, KNOWN).words("python")


def test_values_depend_on_what_is_given_beside_them():
    found = explained({"n_steps": 16, "n_envs": 4, "batch_size": 16, "bogus": 1}, KNOWN)
    assert found["batch_size"].settings == {"nminibatches": 4}
    assert "bogus" not in found


def test_forms():
    assert counterpart("normalize_observations", True, {}).words("option").endswith("here: --normalize-obs.")
    assert counterpart("frame_stack", 4, {}).words("option").endswith(": --env.frame-stack 4.")
    assert "`lr: 0.001`" in counterpart("learning_rate", 1e-3, {}).words("file")


@pytest.mark.parametrize("call", [ppo2.learn, ppo2.sweep])
def test_learn_says_them(call):
    with pytest.raises(ValueError, match=r"`learning_rate` \(=0.001\): it is called `lr` here: lr=0.001") as raised:
        call(env="CartPole-v1", learning_rate=1e-3, n_steps=64, batch_size=64)
    assert "nsteps=64" in str(raised.value)
    assert "nminibatches=8" in str(raised.value)


@pytest.mark.parametrize("name", ["track", "use_wandb", "tensorboard_log"])
def test_logs_that_are_off_stay_off(name):
    assert explained({name: None}, {})[name].settings == {}
    assert "log" in explained({name: True}, {})[name].settings


def test_a_rate_that_is_not_annealed_stays_a_number():
    assert explained({"anneal_lr": False, "learning_rate": 1e-3}, {})["anneal_lr"].settings == {"lr": 1e-3}
    assert explained({"anneal_lr": True, "learning_rate": 1e-3}, {})["anneal_lr"].settings == {"lr": "linear:0.001"}

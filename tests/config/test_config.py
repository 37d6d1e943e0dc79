"""Settings together: the batch, the trace of compiled programs, JSON."""

import dataclasses
import json
import types

import numpy as np
import pytest

from ppo2.agent.model import Model
from ppo2.config import Config

NAN, INF = float("nan"), float("inf")


def message(kind, **settings):
    with pytest.raises(kind) as error:
        Config(**settings)
    return str(error.value)


def test_shards_must_divide_the_environments():
    found = message(ValueError, num_envs=8, shards=3)
    assert found.startswith("`shards` (=3) must divide `num_envs` (=8): ")


@pytest.mark.parametrize(
    ("settings", "product", "good"),
    [
        # 1024 = 2^10: of its divisors 4 is next below 5, and 8 next above
        ({"nminibatches": 5, "num_envs": 8, "nsteps": 128}, "(=8 * 128 = 1024)", "; 4 and 8 do."),
        # 15: 5 is next below 7, 15 next above
        ({"nminibatches": 7, "num_envs": 3, "nsteps": 5}, "(=3 * 5 = 15)", "; 5 and 15 do."),
        ({"nminibatches": 4, "num_envs": 1, "nsteps": 1}, "(=1 * 1 = 1)", "; 1 does."),
    ],
)
def test_minibatches_must_divide_the_batch(settings, product, good):
    found = message(ValueError, **settings)
    assert found.startswith(f"`nminibatches` (={settings['nminibatches']}) must divide `num_envs * nsteps` {product}")
    assert found.endswith(good)


def test_minibatches_must_divide_a_shard():
    # 4 divides 4 * 5 = 20, but each of 2 blocks has 10: 5 and 2 are nearest
    found = message(ValueError, nminibatches=4, num_envs=4, nsteps=5, shards=2)
    assert found == ("`nminibatches` (=4) must divide `num_envs * nsteps` / shards (=2) (=4 * 5 / 2 = 10); 2 and 5 do.")
    Config(nminibatches=4, num_envs=4, nsteps=5)


@pytest.mark.parametrize("nminibatches", [5, 7, 11, 100])
def test_the_minibatches_proposed_are_accepted(nminibatches):
    found = message(ValueError, nminibatches=nminibatches, num_envs=6, nsteps=8)
    for number in found.rpartition("; ")[2].removesuffix(" do.").removesuffix(" does.").split(" and "):
        assert Config(nminibatches=int(number), num_envs=6, nsteps=8).nbatch == 48


def test_less_than_one_batch_is_refused():
    found = message(ValueError, total_timesteps=1023, num_envs=8, nsteps=128)
    assert found == (
        "`total_timesteps` (=1023) is less than one batch of `num_envs * nsteps` (=8 * 128 = 1024), so that nothing "
        "would be learned: raise it, or lower `nsteps` or `num_envs`."
    )
    assert Config(total_timesteps=1024, num_envs=8, nsteps=128).nupdates == 1
    assert Config(total_timesteps=0, num_envs=8, nsteps=128).nupdates == 0


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(TypeError, match="nenvs"):
        Config(nenvs=8)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().gamma = 0.5


def test_updates_and_fraction_by_hand():
    config = Config(total_timesteps=4500, num_envs=4, nsteps=256)
    # 4500 // 1024 = 4 updates
    assert (config.nbatch, config.nupdates) == (1024, 4)
    assert [config.frac(update) for update in (1, 2, 3, 4)] == [1, 0.75, 0.5, 0.25]


# Each setting is one of these: what compiled programs depend on, what reaches them by number, and all others.
STATIC = {
    "nminibatches": 8,
    "noptepochs": 5,
    "shards": 2,
    "bootstrap_truncated": False,
    "value_cliprange": None,
    "action_dist": "squashed_gaussian",
    "precision": "bf16",
    "max_grad_norm": None,
    "target_kl": 0.01,
}


BY_NUMBER = {"ent_coef": 0.25, "vf_coef": 0.25, "max_grad_norm": 0.25, "target_kl": 0.25, "value_cliprange": 0.25}


OTHERS = {
    *(
        "env",
        "env_kwargs",
        "eval_env",
        "eval_env_kwargs",
        "num_envs",
        "keep",
        "info_keys",
        "log",
        "log_options",
        "video_interval",
        "video_envs",
        "video_steps",
        "device",
        "devices",
        "network",
        "network_kwargs",
        "value_network",
        "encoders",
        "model_fn",
        "seed",
        "nsteps",
    ),  # shapes, objects
    *("gamma", "lam"),  # in the rollout
    *("lr", "cliprange"),  # an argument of each update
    *("normalize_obs", "normalize_rewards"),  # the structure of the state
    *("total_timesteps", "log_interval", "save_interval", "eval_interval", "eval_episodes", "on_nonfinite"),  # learn
    "monitor_limit",  # an argument of the program
}


def test_every_setting_is_accounted_for():
    assert {field.name for field in dataclasses.fields(Config)} == {*STATIC, *BY_NUMBER, *OTHERS}


@pytest.mark.parametrize(("name", "value"), STATIC.items())
def test_static_settings_change_the_trace(name, value):
    assert Config(**{name: value}).trace != Config().trace
    assert hash(Config(**{name: value}).trace) == hash(Config(**{name: value}).trace)


def hyperparameters(**settings):
    host = types.SimpleNamespace(config=Config(**settings))
    return Model.hyperparameters(host, lr=0.1, cliprange=0.2)


@pytest.mark.parametrize(("name", "value"), BY_NUMBER.items())
def test_settings_by_number_reach_the_update_and_not_the_trace(name, value):
    assert getattr(hyperparameters(**{name: value}), name) == np.float32(value)
    # another number, the same program
    assert Config(**{name: value}).trace == Config(**{name: 2 * value}).trace
    assert getattr(hyperparameters(**{name: 2 * value}), name) == np.float32(2 * value)


@pytest.mark.parametrize("name", ["gamma", "lam", "lr", "cliprange", "seed", "total_timesteps", "log_interval"])
def test_no_other_setting_changes_the_trace(name):
    value = 10**7 if name == "total_timesteps" else 1
    assert getattr(Config(**{name: value}), name) != getattr(Config(), name)
    assert Config(**{name: value}).trace == Config().trace


def test_json_round_trip():
    config = Config(
        env="CartPole-v1",
        total_timesteps=1e6,
        network_kwargs={"num_layers": 3, "activation": "relu", "sizes": [1, 2], "layer_norm": True},
        value_network="copy",
        lr="linear:3e-4",
        cliprange=0.1 + 0.2,
        value_cliprange=None,
        max_grad_norm=None,
        target_kl=0.015,
        eval_interval=3,
        num_envs=16,
        shards=4,
        normalize_obs=True,
        on_nonfinite="skip",
    )
    text = json.dumps(config.to_json(), allow_nan=False)
    assert Config.from_json(json.loads(text)) == config
    assert Config.from_json(json.loads(json.dumps(Config().to_json()))) == Config()

import dataclasses
import functools
import json
import math
import re
import types

import numpy as np
import pytest

from ppo2.agent.model import Model
from ppo2.config import PLACEHOLDER, Config, is_placeholder, jsonable

NAN, INF = float("nan"), float("inf")


def message(kind, **settings):
    with pytest.raises(kind) as error:
        Config(**settings)
    return str(error.value)


# --- errors ---------------------------------------------------------------------------------------------------------

WHOLE = {
    "total_timesteps": 0,
    "num_envs": 1,
    "seed": 0,
    "nsteps": 1,
    "log_interval": 1,
    "nminibatches": 1,
    "noptepochs": 1,
    "save_interval": 0,
    "eval_interval": 1,
    "eval_episodes": 1,
    "shards": 1,
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", ["8", True, NAN, INF, [1], 1j])
def test_whole_numbers_by_type(name, value):
    assert message(TypeError, **{name: value}) == f"`{name}` (={value!r}) must be a whole number."


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "eval_interval"])
def test_whole_numbers_cannot_be_left_out(name):
    assert message(TypeError, **{name: None}) == f"`{name}` (=None) must be a whole number."
    assert Config(eval_interval=None).eval_interval is None


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "total_timesteps"])
def test_fractions_are_no_whole_numbers(name):
    assert message(TypeError, **{name: 2.5}) == f"`{name}` (=2.5) must be a whole number."


@pytest.mark.parametrize(("name", "least"), WHOLE.items())
def test_whole_numbers_have_a_least(name, least):
    assert message(ValueError, **{name: least - 1}) == f"`{name}` (={least - 1}) must be at least {least}."


def test_whole_numbers_as_people_write_them():
    config = Config(total_timesteps=1e6, nsteps=np.int64(8), num_envs=4.0, seed=np.uint32(7))
    found = (config.total_timesteps, config.nsteps, config.num_envs, config.seed)
    assert found == (1_000_000, 8, 4, 7)
    assert {type(number) for number in found} == {int}
    assert Config(total_timesteps=99_999.9).total_timesteps == 99_999  # int()-ed, as in Baselines


RULES = {
    "ent_coef": "0 or more",
    "vf_coef": "0 or more",
    "gamma": "between 0 and 1",
    "lam": "between 0 and 1",
    "max_grad_norm": "above 0 (None switches it off)",
    "target_kl": "above 0 (None switches it off)",
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", ["0.5", True, [0.5], 1j])
def test_numbers_by_type(name, value):
    assert message(TypeError, **{name: value}) == f"`{name}` (={value!r}) must be a number."


@pytest.mark.parametrize(("name", "rule"), RULES.items())
@pytest.mark.parametrize("value", [-0.1, NAN, INF])
def test_numbers_by_range(name, rule, value):
    assert message(ValueError, **{name: value}) == f"`{name}` (={value!r}) must be finite and {rule}."


@pytest.mark.parametrize(("name", "value"), [("gamma", 1.01), ("lam", 2), ("max_grad_norm", 0), ("target_kl", 0.0)])
def test_numbers_just_out_of_range(name, value):
    assert message(ValueError, **{name: value}) == f"`{name}` (={value!r}) must be finite and {RULES[name]}."


def test_numbers_at_the_edge():
    config = Config(gamma=1, lam=0, ent_coef=0, vf_coef=np.float32(2), max_grad_norm=None, target_kl=None)
    found = (config.gamma, config.lam, config.ent_coef, config.vf_coef)
    assert found == (1.0, 0.0, 0.0, 2.0)
    assert {type(number) for number in found} == {float}


@pytest.mark.parametrize("name", ["ent_coef", "vf_coef", "gamma", "lam"])
def test_these_numbers_cannot_be_switched_off(name):
    assert message(TypeError, **{name: None}) == f"`{name}` (=None) must be a number."


@pytest.mark.parametrize("name", ["normalize_obs", "normalize_rewards", "bootstrap_truncated"])
@pytest.mark.parametrize("value", [1, "yes", None])
def test_flags(name, value):
    assert message(TypeError, **{name: value}) == f"`{name}` (={value!r}) must be True or False."


@pytest.mark.parametrize("name", ["lr", "cliprange", "value_cliprange"])
def test_schedules_are_checked_under_their_name(name):
    assert message(ValueError, **{name: -1.0}).startswith(f"`{name}` (=-1.0) must be finite and not negative")
    assert message(ValueError, **{name: "fast"}).startswith(f"`{name}` (='fast') is not a schedule")
    assert message(TypeError, **{name: True}).startswith(f"`{name}` (=True) must be a number, text")
    assert message(ValueError, **{name: lambda frac: -frac}).startswith(f"`{name}` (=-1.0 at frac=1)")


def test_only_value_cliprange_is_none_or_same():
    assert Config(value_cliprange=None).value_cliprange is None
    assert Config(value_cliprange="same").value_cliprange == "same"
    for name in ("lr", "cliprange"):
        assert message(TypeError, **{name: None}).startswith(f"`{name}` (=None) must be")
        assert message(ValueError, **{name: "same"}).startswith(f"`{name}` (='same') is not a schedule")


def test_schedules_are_kept_but_numbers_are_floats():
    def schedule(frac):
        return frac

    config = Config(lr=1, cliprange="linear:0.2", value_cliprange=schedule)
    assert (config.lr, type(config.lr)) == (1.0, float)
    assert config.cliprange == "linear:0.2"
    assert config.value_cliprange is schedule


def test_on_nonfinite():
    assert message(ValueError, on_nonfinite="ignore") == "`on_nonfinite` (='ignore') must be 'raise' or 'skip'."
    assert Config(on_nonfinite="skip").on_nonfinite == "skip"


def test_encoders_are_a_mapping():
    with pytest.raises(TypeError, match=re.escape("`encoders` (='cnn') must be a mapping from paths")):
        Config(encoders="cnn")


def test_action_dist():
    assert Config(action_dist="squashed_gaussian").action_dist == "squashed_gaussian"
    for value in ("squashed", None, 1):
        with pytest.raises(ValueError, match=re.escape(f"`action_dist` (={value!r}) must be 'gaussian' or 'squashed_")):
            Config(action_dist=value)


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


# --- what follows from the settings ---------------------------------------------------------------------------------


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
    "max_grad_norm": None,
    "target_kl": 0.01,
}
BY_NUMBER = {"ent_coef": 0.25, "vf_coef": 0.25, "max_grad_norm": 0.25, "target_kl": 0.25, "value_cliprange": 0.25}
OTHERS = {
    *(
        "env",
        "eval_env",
        "num_envs",
        "keep",
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


# --- JSON -----------------------------------------------------------------------------------------------------------


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


def test_objects_become_placeholders():
    def my_network():
        pass

    class Environment:
        pass

    found = Config(env=Environment(), network=my_network, lr=lambda frac: frac, model_fn=Environment).to_json()
    assert found["env"] == {PLACEHOLDER: "Environment"}
    assert found["network"] == {PLACEHOLDER: "my_network"}
    assert found["lr"] == {PLACEHOLDER: "<lambda>"}
    assert found["model_fn"] == {PLACEHOLDER: "Environment"}
    assert {name for name, value in found.items() if is_placeholder(value)} == {"env", "network", "lr", "model_fn"}
    json.dumps(found)
    assert jsonable(functools.partial(my_network)) == {PLACEHOLDER: "partial"}


def test_only_placeholders_are_placeholders():
    for value in ({}, {"object": 1, "more": 2}, {"num_layers": 2}, "object", None, ["object"]):
        assert not is_placeholder(value)
    assert is_placeholder(jsonable(math.sin))


def test_nested_values_are_kept():
    value = {"a": [1, 2.5, None, (True, "x")], "b": {"c": math.sin}}
    assert jsonable(value) == {"a": [1, 2.5, None, [True, "x"]], "b": {"c": {PLACEHOLDER: "sin"}}}

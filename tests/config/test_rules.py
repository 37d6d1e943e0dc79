"""Rules: which values a setting may have, and the errors for the others."""

import re

import numpy as np
import pytest

from ppo2.config import Config

NAN, INF = float("nan"), float("inf")


def message(kind, **settings):
    with pytest.raises(kind) as error:
        Config(**settings)
    return str(error.value)


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


def quotes(value):
    """The remedy for a number in quotes."""
    return ", without quotes" if isinstance(value, str) else ""


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", ["8", True, NAN, INF, [1], 1j])
def test_whole_numbers_by_type(name, value):
    assert message(TypeError, **{name: value}) == f"`{name}` (={value!r}) must be a whole number{quotes(value)}."


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
    assert message(TypeError, **{name: value}) == f"`{name}` (={value!r}) must be a number{quotes(value)}."


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

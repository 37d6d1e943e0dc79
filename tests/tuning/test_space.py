"""Spaces: the shipped ones, those of users, and the settings that parameters stand for."""

from typing import Any

import pytest

import ppo2
from ppo2.config import Config, names
from ppo2.envs.families.registry import DEVICE_FAMILIES, FAMILIES
from ppo2.tuning.axes import Choice, Range
from ppo2.tuning.space import Space, default, listed, of_family, space_of

BASE: dict[str, Any] = {"network": "mlp", "total_timesteps": 100_000, "num_envs": 8, "nsteps": 128, "lr": "linear:5e-4"}


def space(given: Any = None, family: str = "default", base: Any = BASE, fixed: Any = (), **more: Any) -> Space:
    return space_of(given, family, base, dict.fromkeys(fixed), **more)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_familys_space_has_its_preset_among_its_settings(family: Any) -> None:
    """The first trial is made of parameters, which must stand for the preset to the last digit."""
    assert of_family(family.name)
    for change in ({}, *family.environments.values()):
        base = {**family.settings, **change}
        mine = space(None, family.name, base, on_device=family in DEVICE_FAMILIES)
        assert len(mine.axes) >= 5
        again = mine.settings(mine.of_base)
        for name in mine.axes:
            assert _plain(again[name]) == _plain(default(name, base))


def _plain(value: Any) -> Any:
    """A setting, in which linear:5e-4 and linear:0.0005 are the same."""
    kind, colon, number = str(value).partition(":")
    return (kind, float(number)) if colon else value


def test_numbers_of_a_range_stay_in_it_and_apart() -> None:
    """0.9996 with three digits would be 1, which is no number of the range."""
    narrow = space({"gamma": {"low": 0.9, "high": 0.9999}, "lr": {"low": 1e-5, "high": 1e-2, "log": True}})
    found = [
        narrow.settings({"gamma": g, "lr": 1.23456e-5, "lr_schedule": "linear"}) for g in (0.99964, 0.99961, 0.9999)
    ]
    assert [one["gamma"] for one in found] == [0.9996, 0.9996, 0.9999]
    assert found[0]["lr"] == "linear:1.23e-05"
    wide = space({"vf_coef": {"low": 0.0, "high": 1000.0}})
    assert [wide.settings({"vf_coef": x})["vf_coef"] for x in (0.0, 12.345, 999.96)] == [0.0, 12.3, 1000.0]


def test_arguments_of_networks_that_are_searched() -> None:
    """The preset's network hasn't them all; those that a trial's network hasn't are left out of its settings."""
    for networks in (["mlp", "gru"], {"values": ["mlp", "gru"]}):
        mine = space({"network": networks, "ngru": [64, 128], "num_hidden": [32, 64]})
        assert mine.of_base == {"network": "mlp", "ngru": 64, "num_hidden": 64}
        assert "ngru" not in mine.settings(mine.of_base)
        gru = mine.settings({"network": "gru", "ngru": 128, "num_hidden": 32})
        assert (gru["ngru"], "num_hidden" in gru) == (128, False)


def test_minibatches_of_environments_that_exist() -> None:
    """Two environments of 9 steps have no four equal parts, eight would."""
    base = {"network": "mlp", "total_timesteps": 1000, "nsteps": 9}
    mine = space({"nminibatches": [2, 4]}, base=base, num_envs=2)
    assert mine.settings({"nminibatches": 4})["nminibatches"] == 3


def test_only_numbers_of_one_program_are_searched_on_the_device() -> None:
    mine = space(None, "default", on_device=True)
    assert set(mine.axes) <= set(names(together=True))
    assert {"lr", "gamma"} <= set(mine.axes)


def test_what_is_given_is_not_searched() -> None:
    assert {"gamma", "lr"}.isdisjoint(space(fixed=("gamma", "lr")).axes)
    with pytest.raises(ValueError, match="nothing to search"):
        space({"gamma": [0.9, 0.99]}, fixed=("gamma",))


def test_arguments_of_another_network_are_left_out() -> None:
    assert "num_hidden" in space().axes
    assert "num_hidden" not in space(base={**BASE, "network": "cnn"}).axes


def test_batches_too_large_for_the_timesteps_are_left_out_but_for_the_presets() -> None:
    """8 environments and ten updates: 100,000 / 80 = 1250."""
    assert space().parameters["nsteps"] == Choice((64, 128, 256, 512, 1024))
    assert space(base={**BASE, "total_timesteps": 10_000}).parameters["nsteps"] == Choice((64, 128))


def test_parameters_and_settings() -> None:
    mine = space(
        {
            "lr": {"low": 1e-4, "high": 1e-2, "log": True, "schedule": ["constant", "linear"]},
            "noptepochs": {"low": 3, "high": 20},
            "value_cliprange": ["same", None],
            "nminibatches": [4, 48],
            "num_hidden": (32, 64),
        }
    )
    assert mine.parameters == {
        "lr": Range(1e-4, 1e-2, log=True),
        "lr_schedule": Choice(("constant", "linear")),
        "noptepochs": Range(3, 20, log=False),
        "value_cliprange": Choice(("same", None)),
        "nminibatches": Choice((4, 48)),
        "num_hidden": Choice((32, 64)),
    }
    found = mine.settings(
        {"lr": 0.00123456, "lr_schedule": "linear", "noptepochs": 7, "value_cliprange": None, "nminibatches": 48,
         "num_hidden": 32}
    )  # fmt: skip
    assert found == {
        **BASE, "lr": "linear:0.00123", "noptepochs": 7, "value_cliprange": None,
        "nminibatches": 32,  # of 8 x 128 samples: the next lower number that divides them
        "num_hidden": 32,
    }  # fmt: skip
    assert mine.settings({**mine.of_base, "lr_schedule": "constant", "lr": 1e-3})["lr"] == 1e-3
    assert listed(found, ["lr", "noptepochs"]) == "lr linear:0.00123, noptepochs 7"


def test_the_presets_value_is_added() -> None:
    mine = space({"gamma": [0.9], "lr": {"low": 1e-3, "high": 1e-2}}, base={**BASE, "lr": 1e-4, "gamma": 0.97})
    assert mine.parameters == {"gamma": Choice((0.9, 0.97)), "lr": Range(1e-4, 1e-2, log=False)}
    assert mine.of_base == {"gamma": 0.97, "lr": 1e-4}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gama": [0.9]}, "`gama` .*did you mean `gamma`"),
        ({"learning_rate": [1e-3]}, "`learning_rate`.*`lr"),
        ({"gamma": 0.9}, "must be a list of values"),
        ({"gamma": []}, "must be a list of values"),
        ({"gamma": [0.9, 1.5]}, r"`gamma` \(=1.5\)"),
        ({"gamma": [0.9, 0.9]}, "twice"),
        ({"gamma": [[0.9]]}, "single values"),
        ({"lr": {"low": 1e-2, "high": 1e-3}}, "`low` must be below `high`"),
        ({"ent_coef": {"low": 0.0, "high": 0.1, "log": True}}, "above 0"),
        ({"lr": {"low": 1e-4, "high": 1e-3, "scale": "log"}}, "must be a list of values"),
        ({"lr": {"low": 1e-4, "high": 1e-3, "schedule": ["stairs"]}}, "constant, linear, cosine"),
        ({"gamma": {"low": 0.9, "high": 0.99, "schedule": ["linear"]}}, "`schedule` is for lr"),
        ({"nsteps": [0, 8]}, r"`nsteps` \(=0\)"),
        ({"ent_coef": {"low": 0.01, "high": 0.1, "log": True}}, "the preset's value"),
        ({"seed": [1, 2]}, "`seed`"),
        ({"convs": [1, 2]}, "`convs`"),
        ({}, "is empty"),
    ],
)
def test_what_can_be_no_space(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        space(given, base={**BASE, "ent_coef": 0.0})


def test_what_is_no_space_at_all() -> None:
    with pytest.raises(TypeError, match="must be a file, or a dict"):
        space(["gamma"])


def test_a_file(tmp_path: Any) -> None:
    file = tmp_path / "my space.toml"
    file.write_text("gamma = [0.9, 0.99]\nlr = {low = 1e-4, high = 1e-2, log = true}\n")
    mine = space(file)
    assert mine.parameters == {"gamma": Choice((0.9, 0.99)), "lr": Range(1e-4, 1e-2, log=True)}
    assert mine.settings({"gamma": 0.9, "lr": 1e-3})["lr"] == "linear:0.001"  # the preset's schedule


def test_every_setting_of_the_file_is_one_that_there_is() -> None:
    network = {"num_hidden", "num_layers", "activation"}
    for family in FAMILIES:
        assert set(of_family(family.name)) <= {*Config.__dataclass_fields__} | network
    assert ppo2.preset("CartPole-v1")["lr"] == "linear:1e-3"

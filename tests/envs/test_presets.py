"""Presets: by the family of an id, and by what the observations of others are."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import ppo2
from ppo2.cli import main
from ppo2.cli.options import choose
from ppo2.envs.families.registry import DEFAULT, IMAGES, MINIGRID
from support.environments import Script, Spaced

TWO = spaces.Discrete(2)
BYTES = spaces.Box(0, 255, (36, 36, 3), np.uint8)
VECTOR = spaces.Box(-1, 1, (4,))


class Pixels:
    """A device environment, as far as a preset looks at it."""

    observation_space = BYTES
    action_space = TWO

    def reset(self, key: Any) -> Any:
        raise NotImplementedError

    def step(self, state: Any, action: Any, key: Any) -> Any:
        raise NotImplementedError


def looks(space: spaces.Space[Any]) -> dict[str, Any]:
    """The networks of the preset for an environment with these observations."""
    preset = ppo2.preset(lambda: Spaced(space, TWO))
    return {name: preset[name] for name in ("network", "encoders", "normalize_obs", "value_network") if name in preset}


@pytest.fixture
def registered() -> Iterator[list[int]]:
    """An id whose environments give images; the list grows with each that is made."""
    made: list[int] = []

    def entry(**_: Any) -> gym.Env[Any, Any]:
        made.append(1)
        return Spaced(BYTES, TWO)

    gym.register("ppo2-tests/Seen-v0", entry_point=entry)
    yield made
    del gym.registry["ppo2-tests/Seen-v0"]


def box(*shape: int, low: int = 0, high: int = 255, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


@pytest.mark.parametrize(
    ("space", "network"),
    [
        (box(84, 84, 3), "cnn"),
        (box(3, 60, 80), "cnn"),  # channels first
        (box(84, 84), "cnn"),
        (box(84, 84, 3, dtype=np.float32), "cnn"),  # declared as an image
        (box(84, 84, 3, high=1), "cnn"),  # bytes
        (box(36, 36, 3), "cnn"),
        (box(35, 35, 3), "cnn_small"),
        (box(20, 300, 1), "cnn_small"),
        (box(19, 300, 1), "mlp"),  # too small for both
        (box(7, 7, 3), "mlp"),
        (box(84), "mlp"),
        (spaces.Dict({"observation": box(84, 84, 3), "action_mask": spaces.MultiBinary(2)}), "cnn"),
        (VECTOR, "mlp"),
    ],
    ids=str,
)
def test_the_network_is_by_size(space: spaces.Space[Any], network: str) -> None:
    found = looks(space)
    assert found["network"] == network
    assert "encoders" not in found
    assert ("value_network" in found) == (network == "mlp")  # of two CNNs the second would double the time


def test_images_among_several_parts_get_encoders() -> None:
    parts = spaces.Dict({"arm": spaces.Dict({"eye": box(64, 64, 3), "angles": VECTOR}), "far": box(24, 24), "n": TWO})
    found = {"network": "mlp", "encoders": {"arm/eye": "cnn", "far": "cnn_small"}, "normalize_obs": True}
    assert looks(parts) == found
    assert looks(spaces.Tuple((BYTES, TWO))) == {"network": "mlp", "encoders": {"0": "cnn"}}
    assert looks(spaces.Dict({"tiny": box(9, 9, 3), "arm": VECTOR})) == {
        name: DEFAULT.settings[name] for name in ("network", "normalize_obs", "value_network")
    }


@pytest.mark.parametrize("form", ["env", "vector", "device", "factory"])
def test_environments_in_any_form(form: str) -> None:
    """The number of those that exist already isn't in it."""
    envs: dict[str, Any] = {
        "env": lambda: Spaced(BYTES, TWO),
        "vector": lambda: gym.vector.SyncVectorEnv([lambda: Spaced(BYTES, TWO)] * 2),
        "device": Pixels,
        "factory": lambda: lambda: Spaced(BYTES, TWO),
    }
    preset = ppo2.preset(envs[form]())
    assert preset["network"] == "cnn"
    assert ("num_envs" in preset) == (form in ("device", "factory"))
    assert ppo2.preset(gym.make("CartPole-v1")) == {
        name: value for name, value in ppo2.preset("CartPole-v1").items() if name != "num_envs"
    }


def test_car_racing_and_others_of_known_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment is made for them."""
    monkeypatch.setattr("ppo2.envs.presets.resolve", lambda *_: pytest.fail("it was made"))
    pytest.importorskip("Box2D")
    racing = ppo2.preset("CarRacing-v3")
    assert (racing["network"], racing["value_network"], racing["gamma"]) == ("cnn", None, 0.99)
    assert ppo2.preset("LunarLander-v3")["network"] == "mlp"
    assert ppo2.preset("FrozenLake-v1") == DEFAULT.settings
    pytest.importorskip("minigrid")
    assert ppo2.preset("MiniGrid-Empty-5x5-v0") == MINIGRID.settings


def test_an_id_of_another_package_is_made_once(registered: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ppo2.preset("ppo2-tests/Seen-v0") == {**IMAGES.settings, "network": "cnn"}
    assert len(registered) == 1
    chosen = choose(["ppo2-tests/Seen-v0"])
    assert (chosen.family, chosen.network, len(registered)) == ("images", "cnn", 2)
    assert main(["presets", "ppo2-tests/Seen-v0"]) == 0
    out = capsys.readouterr().out
    assert out.split().count("cnn") == 1
    assert "images: as Atari" in out


def test_an_environment_that_cannot_be_made_is_told_by_training() -> None:
    def broken(**_: Any) -> gym.Env[Any, Any]:
        raise RuntimeError("no display")

    gym.register("ppo2-tests/Broken-v0", entry_point=broken)
    try:
        assert ppo2.preset("ppo2-tests/Broken-v0") == DEFAULT.settings
    finally:
        del gym.registry["ppo2-tests/Broken-v0"]
    with pytest.raises(ValueError, match="no environment of this id"):
        ppo2.preset("ppo2-tests/None-v0")


def test_what_the_command_line_chose_is_printed_and_saved(
    registered: list[int], tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of --verbose 1, with as few timesteps as possible."""
    import json

    words = ["--total-timesteps", "32", "--num-envs", "2", "--nsteps", "16", "--noptepochs", "1", "--verbose", "1"]
    assert main(["train", "ppo2-tests/Seen-v0", "--run-dir", str(tmp_path / "run"), *words]) == 0
    out = capsys.readouterr().out
    assert "(images preset)" in out
    assert "network   cnn" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["network"] == "cnn"


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_encoders_of_a_preset_on_the_command_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images in a Dict: printed as a setting, and passed on."""
    seen: dict[str, Any] = {}
    gym.register("ppo2-tests/Parts-v0", entry_point=lambda **_: Spaced(spaces.Dict({"eye": BYTES, "arm": VECTOR}), TWO))
    monkeypatch.setattr("ppo2.training.learn.learn", seen.update)
    monkeypatch.setattr("ppo2.sweeps.sweep.sweep", seen.update)
    monkeypatch.setattr("ppo2.cli.sweep._finish", lambda *_, **__: 0)
    try:
        assert main([command, "ppo2-tests/Parts-v0", "--run-dir", "None"]) == 0
        assert (seen["network"], seen["encoders"]) == ("mlp", {"eye": "cnn"})
        if command == "train":
            assert "encoders {'eye': 'cnn'}" in capsys.readouterr().out
        assert main([command, "ppo2-tests/Parts-v0", "--run-dir", "None", "--encoders", "eye", "cnn_small"]) == 0
        assert seen["encoders"] == {"eye": "cnn_small"}
    finally:
        del gym.registry["ppo2-tests/Parts-v0"]


def test_a_script_without_images_is_of_the_default_family() -> None:
    assert ppo2.preset(lambda: Script(3)) == DEFAULT.settings


def test_a_preset_is_for_the_environment_with_its_arguments(
    registered: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    env = "ppo2-tests/Seen-v0"
    assert ppo2.preset(env)["network"] == "cnn"
    assert ppo2.preset(env, {"flatten": True, "workers": 2})["network"] == "mlp"
    assert len(registered) == 2
    assert main(["config", env, "--env.flatten"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "network: mlp" in lines
    assert "  flatten: true" in lines


@pytest.mark.parametrize(
    ("env_id", "kwargs", "network", "others"),
    [
        ("CarRacing-v3", {"flatten": True}, "mlp", {"value_network": "copy", "normalize_obs": True, "nsteps": 512}),
        ("CarRacing-v3", {"frame_stack": 4}, "cnn", {"value_network": None, "nsteps": 512}),
        ("CarRacing-v3", {"max_episode_steps": 9, "workers": 0}, "cnn", {"value_network": None}),
        ("CartPole-v1", {"sutton_barto_reward": True}, "mlp", {"lr": "linear:1e-3"}),
    ],
)
def test_the_network_follows_what_the_arguments_make(
    env_id: str, kwargs: dict[str, Any], network: str, others: dict[str, Any]
) -> None:
    pytest.importorskip("Box2D")
    preset = ppo2.preset(env_id, kwargs)
    assert (preset["network"], {name: preset.get(name) for name in others}) == (network, others)


def test_a_known_family_with_images_by_its_wrappers() -> None:
    """And with parts, of which one is an image."""

    class Drawn(gym.ObservationWrapper[Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any], among_parts: bool = False) -> None:
            super().__init__(env)
            self.observation_space = spaces.Dict({"eye": BYTES, "n": TWO}) if among_parts else BYTES

        def observation(self, _: Any) -> Any:
            return self.observation_space.sample()

    wrapper = gym.envs.registration.WrapperSpec("Drawn", f"{__name__}:Drawn", {})
    entry = "gymnasium.envs.classic_control:CartPoleEnv"
    gym.register("ppo2-tests/Drawn-v0", entry_point=entry, additional_wrappers=(wrapper,))
    globals()["Drawn"] = Drawn
    try:
        assert ppo2.preset("ppo2-tests/Drawn-v0") == {**IMAGES.settings, "network": "cnn"}
        assert choose(["ppo2-tests/Drawn-v0"]).family == "images"
    finally:
        del gym.registry["ppo2-tests/Drawn-v0"], globals()["Drawn"]
    assert ppo2.preset(Drawn(gym.make("CartPole-v1")))["network"] == "cnn"
    assert ppo2.preset(Drawn(gym.make("CartPole-v1"), True))["encoders"] == {"eye": "cnn"}
    pytest.importorskip("Box2D")
    assert ppo2.preset(gym.wrappers.FlattenObservation(gym.make("CarRacing-v3")))["network"] == "mlp"


@pytest.mark.parametrize("env", ["FrozenLake-v1", "Blackjack-v1", lambda: gym.make("FrozenLake-v1")])
def test_observations_without_floats_are_not_normalised(env: Any) -> None:
    assert "normalize_obs" not in ppo2.preset(env)
    assert ppo2.preset(lambda: gym.make("CartPole-v1"))["normalize_obs"]

"""Environments of other libraries: the remedy for each kind, by stand-ins for their classes."""

import sys
import types
from typing import Any

import gymnasium as gym
import pytest

import ppo2
from ppo2.envs.families.foreign import hint, old_gym_id

SETTINGS: dict[str, Any] = {"network": "mlp", "nsteps": 8, "total_timesteps": 64, "seed": 0}


def _of(package: str, *members: str, base: type = object) -> Any:
    """An object of a class that seems to be of a package, with some members."""
    return type("Theirs", (base,), {"__module__": f"{package}.core", **dict.fromkeys(members, lambda self: 0)})()


ENV = ("reset", "step")
CASES = {
    "old gym": (_of("gym", *ENV, "seed"), r"package gym: .* pip install shimmy, .*GymV21CompatibilityV0"),
    "old gym, no seed": (_of("gym", *ENV), r"GymV21.* calls the environment's seed\(seed\), which this one lacks"),
    "old vector": (_of("gym", *ENV, "num_envs"), r"a vector environment of the old package gym.* shimmy"),
    "dm_control": (
        _of("dm_control", *ENV, "observation_spec", "action_spec"),
        r"shimmy\[dm-control\].*DmControlCompat",
    ),
    "bsuite": (_of("bsuite", *ENV, "observation_spec", "action_spec"), r"shimmy\[bsuite\]'.*BSuiteCompatibilityV0"),
    "parallel": (_of("zoo", *ENV, "possible_agents"), r"PettingZoo's.*supersuit\.pettingzoo_env_to_vec_env_v1"),
    "aec": (_of("zoo", *ENV, "possible_agents", "agent_iter"), r"PettingZoo's.*aec_to_parallel"),
    "envpool": (_of("envpool", *ENV, "num_envs"), r"envpool\.make_gymnasium"),
    "gymnax": (_of("gymnax", *ENV), "named by id: 'gymnax:NAME'"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_remedy_for_an_environment_of_another_library(case: str) -> None:
    given, words = CASES[case]
    for env in (given, lambda: given):
        with pytest.raises(TypeError, match=words):
            ppo2.learn(env=env, **SETTINGS)
    with pytest.raises(TypeError, match=words):
        ppo2.make(lambda: given)


def test_the_newer_interface_of_old_gym() -> None:
    kind = type("New", (), {"__module__": "gym.core", "reset": lambda self, seed=None, options=None: 0, "step": 0})
    assert "GymV26CompatibilityV0(env=...)" in hint(kind())
    kind = type(
        "Between", (), {"__module__": "gym.core", "reset": lambda s, seed=None, return_info=False: 0, "step": 0}
    )
    assert "GymV21CompatibilityV0(env=...)" in hint(kind())
    assert hint(3) == ""


@pytest.mark.parametrize(("registry", "words"), [
    ({"Olden-v0": 0}, r"The old package gym knows it: .*GymV26CompatibilityV0\(env_id='Olden-v0', make_kwargs="),
    (types.SimpleNamespace(env_specs={"Olden-v0": 0}), r"GymV21CompatibilityV0\(env_id='Olden-v0'\)"),
])  # fmt: skip
def test_an_id_of_old_gym(monkeypatch: pytest.MonkeyPatch, registry: Any, words: str) -> None:
    module: Any = types.ModuleType("gym.envs.registration")
    module.registry = registry
    monkeypatch.setitem(sys.modules, "gym.envs.registration", module)
    with pytest.raises(ValueError, match=rf"`env` \(='Olden-v0'\).*{words}"):
        ppo2.make("Olden-v0")
    assert old_gym_id("Newer-v0") == ""


def test_an_id_of_gymnasium_that_makes_an_environment_of_old_gym(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Any:
        raise TypeError("Gym is incompatible with Gymnasium, please update the environment class")

    gym.register("OldInside-v0", entry_point=make)
    try:
        with pytest.raises(ValueError, match=r"the old package gym, which Gymnasium doesn't take: .* shimmy"):
            ppo2.make("OldInside-v0")
    finally:
        del gym.registry["OldInside-v0"]

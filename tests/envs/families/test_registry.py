"""Families: their presets and the ids that belong to them."""

import importlib.util

import gymnasium as gym
import pytest

import ppo2
from ppo2 import envs
from ppo2.envs.families.registry import FAMILIES, family_of

MUJOCO = ("HalfCheetah", "Hopper", "Walker2d", "InvertedPendulum", "InvertedDoublePendulum", "Swimmer", "Reacher")


def test_every_family_has_a_source_and_its_ids_belong_to_it() -> None:
    for family in FAMILIES:
        assert family.source
    for env_id, named in (
        ("CartPole-v1", "classic control"),
        ("LunarLander-v3", "Box2D"),
        *((f"{name}-v5", "MuJoCo") for name in MUJOCO),
        ("ALE/Pong-v5", "Atari"),
        ("PongNoFrameskip-v4", "Atari"),
        ("MiniGrid-DoorKey-5x5-v0", "MiniGrid"),
    ):
        if named in ("Atari", "MiniGrid") and not importlib.util.find_spec(
            "ale_py" if named == "Atari" else "minigrid"
        ):
            continue
        assert ppo2.preset(env_id)["total_timesteps"] > 0
        assert envs.family_of(env_id).name == named


def test_what_shimmy_registers_for_others_is_no_dm_control(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> None: ...

    make.__module__ = "shimmy.registration"
    for env_id, name in (("bsuite/catch-v0", "default"), ("dm_control/cartpole-balance-v0", "DeepMind Control")):
        monkeypatch.setitem(gym.registry, env_id, gym.envs.registration.EnvSpec(env_id, entry_point=make))
        assert family_of(env_id).name == name

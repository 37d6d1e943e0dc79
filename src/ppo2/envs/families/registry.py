"""Families of environments: the settings, wrappers and packages of their ids."""

import functools
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, parse_env_id

from ppo2.envs import adapters
from ppo2.envs.families.atari import AtariFactory
from ppo2.envs.families.factories import Options, SpecFactory, numeric_minigrid
from ppo2.envs.host.env_types import Factory
from ppo2.system.text import install_command


@dataclass(frozen=True)
class Family:
    """Environments with the same preset and treatment.

    Attributes:
        name: shown to users.
        modules: beginnings of its environments' entry points; for device environments, of their ids.
        settings: the preset: arguments of `learn` that suit it.
        source: origin of the settings.
        environments: changes of the preset for single ids (without version).
        extra: extra of ppo2 that installs it.
        package: package that registers its environments when it is imported, which happens when one is asked for.
        needs: other modules without which it registers none.
        ids: pattern of the ids that the package registers.
        listed: pattern of the ids that a list should have; the others are older names.
        factory: makes the factory of an environment, with the family's treatment.
        remark: words to add when one of its environments can't be made.
        last_python: the last Python that its package has a wheel for; None: it has one for all.
    """

    name: str
    modules: tuple[str, ...]
    settings: Mapping[str, Any]
    source: str
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extra: str | None = None
    package: str | None = None
    needs: tuple[str, ...] = ()
    ids: str | None = None
    listed: str = ".*"
    factory: Callable[[EnvSpec, Mapping[str, Any], Options], Factory] = SpecFactory
    remark: str | None = None
    last_python: tuple[int, int] | None = None

    @property
    def remedy(self) -> str | None:
        """Words that say what to install for its environments."""
        python = sys.version_info[:2]
        if self.last_python is not None and python > self.last_python:
            have, last = (".".join(map(str, version)) for version in (python, self.last_python))
            return f"there is none for Python {have} yet: use Python {last}."
        return self.remark or (install_command(self.extra) if self.extra else None)

    def preset(self, env_id: str) -> dict[str, Any]:
        """The preset of one of its environments."""
        _, name, _ = parse_env_id(env_id.rpartition(":")[2])
        return {**self.settings, **self.environments.get(name, {})}


TWO_MLPS = {"network": "mlp", "value_network": "copy"}
"""Settings of a policy and a value network with nothing in common."""

CLASSIC_CONTROL = Family(
    name="classic control", modules=("gymnasium.envs.classic_control",),
    settings={
        **TWO_MLPS, "total_timesteps": 300_000,
        "num_envs": 8, "nsteps": 128, "nminibatches": 8, "noptepochs": 4,
        "lr": "linear:5e-4", "gamma": 0.99, "lam": 0.95, "ent_coef": 0.01, "value_cliprange": None, "log_interval": 10,
    },
    environments={
        # little weight on the far future: the pole falls within a few steps or not at all
        "CartPole": {
            "total_timesteps": 100_000, "nsteps": 64, "noptepochs": 10, "lr": "linear:1e-3",
            "cliprange": "linear:0.2", "gamma": 0.98, "lam": 0.9, "ent_coef": 0.0,
        },
        "Pendulum": {
            "noptepochs": 10, "lr": "linear:1e-3", "gamma": 0.9, "ent_coef": 0.0, "value_cliprange": "same",
            "normalize_obs": True, "normalize_rewards": True,
        },
    },
    source="our own runs, docs/benchmarks.md",
)  # fmt: skip

IMAGES = Family(
    name="images", modules=(),  # of any package: their spaces say it
    settings={
        "network": "cnn", "total_timesteps": 1_000_000,
        "num_envs": 8, "nsteps": 128, "nminibatches": 4, "noptepochs": 4,
        "lr": "linear:2.5e-4", "gamma": 0.99, "lam": 0.95, "cliprange": 0.1, "ent_coef": 0.01, "vf_coef": 0.5,
        "log_interval": 5,
    },
    source="as Atari, for fewer timesteps; the network by the images' size: cnn, or cnn_small below 36 pixels",
)  # fmt: skip

BOX2D = Family(
    name="Box2D", modules=("gymnasium.envs.box2d",), extra="box2d", last_python=(3, 13),
    settings={
        **TWO_MLPS, "total_timesteps": 1_000_000,
        "num_envs": 16, "nsteps": 1024, "nminibatches": 256, "noptepochs": 4,
        "lr": 3e-4, "gamma": 0.999, "lam": 0.98, "ent_coef": 0.01, "value_cliprange": None, "log_interval": 1,
    },
    # a picture of 96 x 96, one network for policy and value, and minibatches that it is quick with
    environments={
        "CarRacing": {
            **IMAGES.settings, "value_network": None, "nsteps": 512, "nminibatches": 32, "noptepochs": 10,
            "lr": "linear:1e-4", "cliprange": 0.2, "ent_coef": 0.0,
        },
    },
    source="rl-baselines3-zoo's LunarLander settings, and our own runs, docs/benchmarks.md; CarRacing after that zoo's",
)  # fmt: skip

MUJOCO = Family(
    name="MuJoCo", modules=("gymnasium.envs.mujoco", "gymnasium_robotics"), extra="mujoco",
    settings={
        **TWO_MLPS, "total_timesteps": 1_000_000,
        "num_envs": 1, "nsteps": 2048, "nminibatches": 32, "noptepochs": 10,
        "lr": "linear:3e-4", "gamma": 0.99, "lam": 0.95, "cliprange": 0.2, "ent_coef": 0.0,
        "normalize_obs": True, "normalize_rewards": True, "log_interval": 1,
    },
    source="OpenAI Baselines, ppo2/defaults.py and run.py",
)  # fmt: skip

ATARI = Family(
    name="Atari", modules=("ale_py",), extra="atari", package="ale_py",
    ids=r"ALE/.*|.*NoFrameskip-v\d+", listed=r"ALE/.*", factory=AtariFactory,
    settings={
        "network": "cnn", "total_timesteps": 10_000_000,
        "num_envs": 8, "nsteps": 128, "nminibatches": 4, "noptepochs": 4,
        "lr": "linear:2.5e-4", "gamma": 0.99, "lam": 0.95, "cliprange": 0.1, "ent_coef": 0.01, "vf_coef": 0.5,
        "log_interval": 1,
    },
    source="OpenAI Baselines, ppo2/defaults.py",
)  # fmt: skip

MINIGRID = Family(
    name="MiniGrid", modules=("minigrid",), extra="minigrid", package="minigrid", ids=r"MiniGrid-.*|BabyAI-.*",
    factory=functools.partial(SpecFactory, wrappers=(numeric_minigrid,)),
    settings={
        **TWO_MLPS, "total_timesteps": 500_000,
        "num_envs": 16, "nsteps": 128, "nminibatches": 8, "noptepochs": 4,
        "lr": 1e-3, "gamma": 0.99, "lam": 0.95, "cliprange": 0.2, "ent_coef": 0.01, "vf_coef": 0.5,
        "normalize_obs": True, "log_interval": 10,
    },
    source="rl-starter-files, which MiniGrid's authors train with, and our own runs, docs/benchmarks.md",
)  # fmt: skip

DM_CONTROL = Family(
    name="DeepMind Control", modules=("shimmy",), package="shimmy", needs=("dm_control",), ids=r"dm_control/.*",
    settings=MUJOCO.settings, source="as MuJoCo",
    remark="dm_control comes with pip install 'shimmy[dm-control]'. Its releases up to 1.0.50 need mujoco < 4 "
    "(pip install 'mujoco<4').",
)  # fmt: skip

GYMNAX = Family(
    name="gymnax", modules=("gymnax:",), extra="jax-envs",
    settings={**CLASSIC_CONTROL.settings, "log_interval": 20},
    environments={
        **CLASSIC_CONTROL.environments,
        # a reward far away: hardly any discount, a long batch, and steps that the gradient's norm hardly limits
        "MountainCarContinuous": {
            "nsteps": 512, "nminibatches": 16, "noptepochs": 10,
            "lr": 3e-4, "gamma": 0.9999, "lam": 0.9, "ent_coef": 0.005, "vf_coef": 0.2, "max_grad_norm": 5.0,
            "normalize_obs": True, "normalize_rewards": True,
        },
    },
    source="as classic control; MountainCarContinuous after rl-baselines3-zoo; docs/benchmarks.md",
)  # fmt: skip

LOCOMOTION = Family(
    name="locomotion", modules=("brax:", "playground:"), extra="jax-envs",
    settings={
        **TWO_MLPS, "num_layers": 3, "num_hidden": 128, "activation": "silu", "total_timesteps": 5_000_000,
        "num_envs": 256, "nsteps": 32, "nminibatches": 8, "noptepochs": 4,
        "lr": 3e-4, "gamma": 0.97, "lam": 0.95, "ent_coef": 0.001, "value_cliprange": None, "normalize_obs": True,
        "log_interval": 10,
    },
    source="Brax's own settings for its locomotion tasks, with fewer environments",
)  # fmt: skip

GRIDS = Family(
    name="grid worlds", modules=("xminigrid:", "navix:", "pgx:", "craftax:"), extra="jax-envs",
    settings={
        **TWO_MLPS, "total_timesteps": 5_000_000,
        "num_envs": 256, "nsteps": 64, "nminibatches": 8, "noptepochs": 4,
        "lr": "linear:5e-4", "ent_coef": 0.01, "value_cliprange": None, "log_interval": 10,
    },
    source="a compromise between the others",
)  # fmt: skip

DEFAULT = Family(
    name="default", modules=("",),
    settings={
        **TWO_MLPS, "total_timesteps": 1_000_000,
        "num_envs": 8, "nsteps": 256, "nminibatches": 8, "noptepochs": 10,
        "lr": "linear:3e-4", "normalize_obs": True, "log_interval": 5,
    },
    source="a compromise between the others",
)  # fmt: skip

DEVICE_FAMILIES = (GYMNAX, LOCOMOTION, GRIDS)
FAMILIES = (CLASSIC_CONTROL, BOX2D, MUJOCO, ATARI, MINIGRID, DM_CONTROL, *DEVICE_FAMILIES, IMAGES, DEFAULT)


def family_of(env_id: str) -> Family:
    """The family of a registered id by its package; the default one for any other."""
    module = env_id
    if adapters.adapter_of(env_id) is None:
        spec = gym.registry.get(env_id.rpartition(":")[2])
        entry = spec.entry_point if spec is not None else ""
        while isinstance(entry, functools.partial):
            entry = entry.func
        module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    name = env_id.rpartition(":")[2]
    # a package that needs others registers for several of them, which only the ids tell apart
    fitting = (one for one in FAMILIES if not one.needs or re.fullmatch(str(one.ids), name))
    return next(family for family in fitting if module.startswith(family.modules))


def family_with(env_id: str, preset: Mapping[str, Any]) -> Family:
    """The family that the preset of an id came from."""
    family = family_of(env_id)
    common = {name: value for name, value in IMAGES.settings.items() if name != "network"}
    return IMAGES if all(preset.get(name) == value for name, value in common.items()) else family

"""Environments of MuJoCo Playground: the DeepMind control suite, locomotion and manipulation on MJX."""

import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from ppo2.envs.adapters import common
from ppo2.envs.adapters.brax import BraxLike


class Playground(BraxLike):
    """Playground's environments, such as "CheetahRun", without its wrappers.

    Arguments override its configuration, by dotted names: `episode_length=500`, `**{"reward_config.scale": 2}`. Unlike
    in the library, `impl` is "jax" unless given: with its default, "warp", results aren't the same bits each time, and
    on CPU steps take 70 to 200 times as long. Of several observations the policy gets "state".

    Raises:
        ValueError: robot models that can't be downloaded: those of locomotion and manipulation come from GitHub when
            one is made for the first time.
        TypeError: observations that are pictures (`vision=True`), or several without an entry "state".
    """

    prefix, package = "playground", "mujoco_playground"
    remedy = "pip install playground"  # in no extra: it brings Warp (470 MB) and IPython
    ends = (
        "Playground's `done` (a fall, a number that isn't one) is a termination; after the `episode_length` of the "
        "environment's configuration it is truncated, unless both fall on one step: then it terminated."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return sorted(common.imported("mujoco_playground").registry.ALL_ENVS)

    def _build(self, name: str, **kwargs: Any) -> None:
        registry = common.imported("mujoco_playground").registry
        config = registry.get_default_config(name)
        self._check_options(kwargs, dict(_settings(config)))
        default = {"impl": "jax"} if "impl" in config else {}
        config.update_from_flattened_dict({**default, **kwargs})
        if config.get("vision"):
            raise self._unsupported("observation", "of pictures, which Warp renders for many at once")
        try:
            env = registry.load(name, config=config)
        except subprocess.CalledProcessError as error:
            raise ValueError(
                f"`env` (={str(self)!r}) needs robot models that its library clones from github.com at first use, "
                f"which failed ({error}) Connect to the internet and try again."
            ) from error
        self._adapt(env, int(config.episode_length), int(config.get("action_repeat", 1)))


def _settings(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names of all settings, and their values."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from _settings(value, f"{before}{name}.")
        else:
            yield before + name, value

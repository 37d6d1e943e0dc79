"""Environments of MuJoCo Playground: the DeepMind control suite, locomotion and manipulation on MJX."""

import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from ppo2.envs.adapters import common
from ppo2.envs.adapters.brax import BraxLike

ENDS = (
    "Playground's `done` (a fall, a number that isn't one) is a termination; after the `episode_length` of the "
    "environment's configuration it is truncated, unless both fall on one step: then it terminated."
)


class Playground(BraxLike):
    """Playground's environments without its wrappers.

    Of several observations ("state" and "privileged_state") the policy gets "state".

    Unlike in the library, `impl` is "jax" unless given: with its default, "warp", results aren't the same bits each
    time, and on CPU steps take 70 to 200 times as long.

    Args:
        name: such as "CheetahRun".
        kwargs: overrides of its configuration, by dotted names: `episode_length=500`, `**{"reward_config.scale": 2}`.

    Raises:
        ValueError: an unknown name or argument, or robot models that can't be downloaded: those of locomotion and
            manipulation come from GitHub when one is made for the first time.
        TypeError: observations that are pictures (`vision=True`), or several without an entry "state".
    """

    prefix = "playground"

    def __init__(self, name: str, **kwargs: Any) -> None:
        common.check_name(self.prefix, name, ids())
        super().__init__(name, kwargs)
        registry = common.imported("mujoco_playground").registry
        with common.quiet():
            config = registry.get_default_config(name)
            common.check_options(f"playground:{name}", kwargs, _names(config))
            default = {"impl": "jax"} if "impl" in config else {}
            config.update_from_flattened_dict({**default, **kwargs})
            if config.get("vision"):
                raise common.unsupported(self, "observation", "of pictures, which Warp renders for many at once")
            try:
                self._env = registry.load(name, config=config)
            except subprocess.CalledProcessError as error:
                raise ValueError(
                    f"`env` (={str(self)!r}) needs robot models that its library clones from github.com at first use, "
                    f"which failed ({error}) Connect to the internet and try again."
                ) from error
        self._episode_length = int(config.episode_length)
        self._action_repeat = int(config.get("action_repeat", 1))
        common.check_counts({"episode_length": self._episode_length, "action_repeat": self._action_repeat})
        self.observation_space, self.action_space = self._spaces()


def _names(config: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Dotted names of all settings."""
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from _names(value, f"{before}{name}.")
        else:
            yield before + name


def ids() -> list[str]:
    return sorted(common.imported("mujoco_playground").registry.ALL_ENVS)

"""Environments of JAX libraries as device environments, by ids such as "gymnax:CartPole-v1"."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ppo2.envs.adapters import brax, common, craftax, gymnax, navix, pgx, playground, xminigrid
from ppo2.envs.adapters.common import AdaptedEnv

__all__ = ["ADAPTERS", "AdaptedEnv", "Adapter", "adapter_of", "make"]


@dataclass(frozen=True)
class Adapter:
    """One library of device environments.

    Attributes:
        prefix: text before the colon of an id.
        package: module that must be importable.
        make: name and keyword arguments -> device environment.
        ids: names of all that can be made, sorted; imports the library.
        ends: words that say how terminations and truncations are told apart.
        extra: extra of ppo2 that installs the library; None if there is none.
        distribution: the library's name for pip.
    """

    prefix: str
    package: str
    make: Callable[..., AdaptedEnv]
    ids: Callable[[], list[str]]
    ends: str
    extra: str | None
    distribution: str

    @property
    def remedy(self) -> str:
        """The command that installs the library."""
        return f"pip install 'ppo2[{self.extra}]'" if self.extra else f"pip install {self.distribution}"


ADAPTERS = {
    adapter.prefix: adapter
    for adapter in (
        Adapter("gymnax", "gymnax", gymnax.Gymnax, gymnax.ids, gymnax.ENDS, "jax-envs", "gymnax"),
        Adapter("brax", "brax", brax.Brax, brax.ids, brax.ENDS, "jax-envs", "brax"),
        # brings Warp (470 MB) and IPython, hence no extra
        Adapter(
            "playground",
            "mujoco_playground",
            playground.Playground,
            playground.ids,
            playground.ENDS,
            None,
            "playground",
        ),
        Adapter("xminigrid", "xminigrid", xminigrid.XMiniGrid, xminigrid.ids, xminigrid.ENDS, "jax-envs", "xminigrid"),
        # brings 60 packages, wandb, black and pylint among them
        Adapter("navix", "navix", navix.Navix, navix.ids, navix.ENDS, None, "navix"),
        # its MinAtar is under the GPL: for users to choose
        Adapter("pgx", "pgx", pgx.Pgx, pgx.ids, pgx.ENDS, None, "pgx"),
        # asks for pygame, which overwrites the files of pygame-ce
        Adapter("craftax", "craftax", craftax.Craftax, craftax.ids, craftax.ENDS, None, "craftax"),
    )
}


def adapter_of(env_id: str) -> tuple[Adapter, str] | None:
    """The adapter of an id and the name behind its colon; None if it has no prefix of an adapter."""
    prefix, colon, name = env_id.partition(":")
    return (ADAPTERS[prefix], name) if colon and prefix in ADAPTERS else None


def check(env_id: str) -> None:
    """Raises ValueError if the library of an id isn't installed or has no such environment."""
    adapter, name = _installed(env_id)
    common.check_name(adapter.prefix, name, adapter.ids())


def make(env_id: str, **kwargs: Any) -> AdaptedEnv:
    """Makes a device environment.

    Args:
        env_id: "prefix:name", such as "gymnax:CartPole-v1".
        kwargs: for the library's environment.

    Raises:
        ValueError: an unknown prefix, name or argument, or a library that isn't installed.
        TypeError: a space that isn't supported.
    """
    adapter, name = _installed(env_id)
    try:
        return adapter.make(name, **kwargs)
    except ImportError as error:
        raise ValueError(
            f"`env` (={env_id!r}): {adapter.package} can't be imported ({error}): {adapter.remedy}."
        ) from error


def _installed(env_id: str) -> tuple[Adapter, str]:
    """`adapter_of`, with an error where there is none or its library isn't installed."""
    found = adapter_of(env_id)
    if found is None:
        raise ValueError(
            f"`env` (={env_id!r}) names no library of device environments; known are {', '.join(ADAPTERS)}, as in "
            "'gymnax:CartPole-v1'."
        )
    if importlib.util.find_spec(found[0].package) is None:
        raise ValueError(f"`env` (={env_id!r}) needs a package that isn't installed: {found[0].remedy}.")
    return found

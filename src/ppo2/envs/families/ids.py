"""Ids of environments: lookup, registration, and what must be installed for them."""

import difflib
import importlib
import importlib.util
import re
import warnings

import gymnasium as gym
import gymnasium.error
from gymnasium.envs.registration import EnvSpec

from ppo2.envs import adapters
from ppo2.envs.families.registry import FAMILIES, Family

ENVPOOL = "envpool:"


def check_id(env_id: str) -> None:
    """Checks that an id is known, importing the module that it names, if any.

    Raises:
        ValueError: no such environment is registered; the message has the closest ids.
    """
    if adapters.adapter_of(env_id) is not None:
        adapters.check(env_id)
    elif env_id.startswith(ENVPOOL):
        if importlib.util.find_spec("envpool") is None:
            raise ValueError(f"`env` (={env_id!r}) needs a package that isn't installed: pip install envpool")
        import envpool

        if env_id.removeprefix(ENVPOOL) not in envpool.list_all_envs():
            raise ValueError(f"`env` (={env_id!r}): EnvPool has no such environment; envpool.list_all_envs() has all.")
    else:
        spec_of(env_id)


def spec_of(env_id: str) -> EnvSpec:
    """The registered spec of an id of Gymnasium; raises as `check_id` does."""
    module, _, name = env_id.rpartition(":")
    # the package that registers ids of this form, if it is known, must be imported first
    families = [] if name in gym.registry else [one for one in FAMILIES if one.ids and re.fullmatch(one.ids, name)]
    missing = [family for family in families if not _is_imported(family)]
    try:
        # an old version is the user's choice
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            if module:
                importlib.import_module(module)  # gym.spec doesn't, gym.make does
            return gym.spec(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"`env` (={env_id!r}): the module {module!r} can't be imported ({error}).") from error
    except gymnasium.error.Error as error:
        close = difflib.get_close_matches(name, list(gym.registry), n=3, cutoff=0.5)
        hint = f" The closest known are {', '.join(close)}." if close else ""
        if missing:
            hint = f" {missing[0].remedy}"
        raise ValueError(
            f"`env` (={env_id!r}): no environment of this id is registered.{hint} `ppo2 envs` lists all; one of your "
            "own package is 'module:Name-v0'."
        ) from error


def register_all() -> None:
    """Imports every package that registers environments of a family, if it is installed."""
    for family in FAMILIES:
        if family.package is not None:
            _is_imported(family)


def _is_imported(family: Family) -> bool:
    """Imports the package that registers a family's environments; True if it is installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # the package's own affair
            importlib.import_module(str(family.package))
    except ImportError:
        return False
    return True

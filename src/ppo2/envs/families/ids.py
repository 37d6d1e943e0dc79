"""Ids of environments: lookup, registration, and what must be installed for them."""

import difflib
import importlib
import importlib.util
import re
import sys
import types
import warnings

import gymnasium as gym
import gymnasium.error
from gymnasium.envs.registration import EnvSpec

from ppo2.envs import adapters
from ppo2.envs.families.foreign import old_gym_id
from ppo2.envs.families.packages import PACKAGES, Package
from ppo2.envs.families.registry import FAMILIES, Family
from ppo2.envs.host.constructors import ConstructorError, what_and_where

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
    known: list[Family | Package] = [] if name in gym.registry else [*FAMILIES, *PACKAGES]
    packages = [one for one in known if one.ids and re.fullmatch(one.ids, name)]
    if any(_letters(env_id) == _letters(name) for env_id in gym.registry):  # cartpole_v1 is none of PettingZoo's
        packages = [one for one in packages if one.package is not None]
    missing = [words for package in packages if (words := _obstacle(package))]
    try:
        # an old version is the user's choice
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            if module:
                import_named(module, env_id)  # gym.spec doesn't, gym.make does
            return gym.spec(name)
    except ModuleNotFoundError as error:
        hint = f" {missing[0]}" if missing else ""
        raise ValueError(f"`env` (={env_id!r}): the module {module!r} can't be imported ({error}).{hint}") from error
    except gymnasium.error.Error as error:
        hint = f" {missing[0]}" if missing else _of_class(module, name) or _closest(name)
        raise ValueError(
            f"`env` (={env_id!r}): no environment of this id is registered.{hint} `ppo2 envs` lists all; one of your "
            "own package is 'module:Name-v0'."
        ) from error


def import_named(module: str, env_id: str) -> types.ModuleType:
    """Imports the module that an id names.

    Raises:
        ModuleNotFoundError: it isn't there, or another that it needs.
        ConstructorError: it raised another error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of whatever it does
        said = what_and_where(error)
        raise ConstructorError(f"`env` (={env_id!r}): importing {module!r} raised {said}. Fix it there.") from error


def _of_class(module: str, name: str) -> str:
    """Words for the name of a class or function of a module, which is no id; "" for any other name."""
    if not (module and callable(getattr(sys.modules.get(module), name, None))):
        return ""
    return (
        f" {name} is in the module {module}, but isn't an id: register one there, gymnasium.register('{name}-v0', "
        f"entry_point='{module}:{name}'), and name it as '{module}:{name}-v0'; or pass {name} to learn in Python."
    )


def _closest(name: str) -> str:
    """Words for the ids that are like one that nobody has registered, first those of the same name."""
    for family in FAMILIES:
        if family.extra is not None and family.package is not None:  # packages of ours, which are quick to import
            _obstacle(family)
    same = [env_id for env_id in reversed(gym.registry) if _plain(env_id) == _plain(name)]
    same.sort(key=lambda env_id: env_id.count("/") != name.count("/"))
    words = "" if same else old_gym_id(name)
    if words:
        return words
    close = same[:3] or difflib.get_close_matches(name, list(gym.registry), n=3, cutoff=0.5)
    return f" The closest known {'is' if len(close) == 1 else 'are'} {', '.join(close)}." if close else ""


def _plain(env_id: str) -> str:
    """The name in an id, without namespace and version."""
    return re.sub(r"-v\d+$", "", env_id).rpartition("/")[2].lower()


def _letters(env_id: str) -> str:
    """The name in an id, without namespace, version and all but letters and digits."""
    return re.sub(r"[\W_]", "", re.sub(r"[-_]?v\d+$", "", env_id.rpartition("/")[2])).lower()


def register_all() -> None:
    """Imports every package that registers environments of a family, if it is installed."""
    for family in FAMILIES:
        _obstacle(family)


def _obstacle(package: Family | Package) -> str:
    """Imports the package that registers environments; returns what to do where it can't be. "" if it was."""
    remedy = package.remedy or ""
    if package.package is None:
        return remedy
    try:
        with warnings.catch_warnings(action="ignore"):  # the package's own affair
            importlib.import_module(package.package)
            absent = [name for name in package.needs if importlib.util.find_spec(name) is None]
    except ImportError:
        return remedy
    except Exception as error:  # of what it wants of the machine, such as a display
        said = " ".join(f"{type(error).__name__}: {error}".split())
        return f"The package {package.package} is there, but can't be imported ({said}). {remedy}"
    return remedy if absent else ""

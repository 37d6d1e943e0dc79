"""Environments of other libraries that aren't Gymnasium's: the remedy for each kind."""

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
import warnings
from typing import Any

from ppo2.envs import adapters
from ppo2.envs.host.contract import SHIMMY
from ppo2.envs.host.vec_env import is_vec_env

SUPERSUIT = (
    "pip install pettingzoo supersuit, then env=supersuit.pettingzoo_env_to_vec_env_v1(PARALLEL_ENV), or several of "
    "these by supersuit.concat_vec_envs_v1(..., base_class='gymnasium')"
)
"""Words that say how agents of PettingZoo become environments side by side."""
DM_ENVS = {"bsuite": "BSuiteCompatibilityV0", "dm_control": "DmControlCompatibilityV0"}
"""Classes of shimmy that convert environments of dm_env's interface, by the package."""


def hint(given: Any) -> str:
    """A remedy for what looks like an environment of another library; "" for anything else."""
    kind = given if isinstance(given, type) else type(given)
    packages = [base.__module__.partition(".")[0] for base in kind.__mro__]
    if is_vec_env(given):
        return " It is a vector environment already: pass it as it is, env=..., not a function that makes it."
    if "gym" in packages and hasattr(given, "step"):
        return _of_old_gym(given)
    if "envpool" in packages:
        return " EnvPool makes Gymnasium's with envpool.make_gymnasium(...); or pass its id, 'envpool:NAME'."
    if hasattr(given, "possible_agents"):
        takes_turns = hasattr(given, "agent_iter")
        first = ", where PARALLEL_ENV is pettingzoo.utils.aec_to_parallel(env)" if takes_turns else ""
        return f" It is PettingZoo's, of several agents, which one policy can play side by side: {SUPERSUIT}{first}."
    if hasattr(given, "observation_spec") and hasattr(given, "action_spec"):
        known = next((name for name in packages if name in DM_ENVS), "dm_control")
        extra = known.replace("_", "-")
        return (
            f" It has the interface of dm_env: convert it with the package shimmy: pip install 'shimmy[{extra}]', then "
            f"env=shimmy.{DM_ENVS[known]}(...)."
        )
    for adapter in adapters.ADAPTERS.values():
        if adapter.package.partition(".")[0] in packages:
            return f" It is of {adapter.prefix}, whose environments are named by id: '{adapter.prefix}:NAME'."
    if not (hasattr(given, "reset") and hasattr(given, "step")):
        return ""
    if hasattr(given, "num_envs"):
        return (
            " It looks like a vector environment of another library: pass a function that makes one of its "
            "environments, or gymnasium.vector.SyncVectorEnv of such functions."
        )
    return (
        " It has `reset` and `step`: derive its class from gymnasium.Env; or, if it is an environment of the old "
        f"package gym, convert it with the package shimmy: {SHIMMY}."
    )


def _of_old_gym(given: Any) -> str:
    """The remedy for an environment of the old package gym."""
    if hasattr(given, "num_envs"):
        return (
            " It is a vector environment of the old package gym: pass a function that makes one of its environments, "
            f"converted with the package shimmy: {SHIMMY}."
        )
    is_new = _has_new_reset(given)
    kind = "GymV26CompatibilityV0" if is_new else "GymV21CompatibilityV0"
    seed = "" if is_new or hasattr(given, "seed") else " It calls the environment's seed(seed), which this one lacks."
    return (
        " It is an environment of the old package gym: convert it with the package shimmy: pip install shimmy, then "
        f"env=lambda: shimmy.{kind}(env=...), with a new one at each call.{seed}"
    )


def _has_new_reset(given: Any) -> bool:
    """True if `reset` takes a seed and returns an info, as from gym 0.26 on."""
    with contextlib.suppress(TypeError, ValueError):
        names = inspect.signature(getattr(given, "unwrapped", given).reset).parameters
        return "seed" in names and "return_info" not in names
    return False


def old_gym_id(name: str) -> str:
    """A remedy for an id that the old package gym knows; "" for any other."""
    registration = _old_registration()
    known = getattr(registration, "registry", None)
    known = getattr(known, "env_specs", known)
    if not isinstance(known, dict) or name not in known:
        return ""
    kind, checker = "V21", ""
    if isinstance(getattr(registration, "registry", None), dict):  # from gym 0.26 on; its checker fails with NumPy 2
        kind, checker = ("V26", ", make_kwargs={'disable_env_checker': True}")
    return (
        " The old package gym knows it: convert it with the package shimmy: pip install shimmy, then "
        f"env=lambda: shimmy.Gym{kind}CompatibilityV0(env_id={name!r}{checker})."
    )


def _old_registration() -> Any:
    """The module of the old package gym that has its ids; None if it isn't there."""
    name = "gym.envs.registration"
    if name not in sys.modules:
        try:
            if importlib.util.find_spec(name) is None:
                return None
            with (
                warnings.catch_warnings(action="ignore"),
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                importlib.import_module("gym.envs")
        except Exception:  # of whatever is called so, or can't be imported here
            return None
    return sys.modules.get(name)

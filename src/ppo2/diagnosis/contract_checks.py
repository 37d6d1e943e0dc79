"""Checks of what `reset` and `step` take and return; without JAX."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.utils.env_checker import check_env

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.subject import Actions, Case
from ppo2.envs.first import with_mask
from ppo2.envs.host import contract
from ppo2.envs.host.constructors import what_and_where
from ppo2.spaces import MASK_KEY, MASK_METHOD

STEPS = 20
"""Steps that are looked at one by one."""
MOST_SHOWN, MOST_WORDS = 3, 240
"""Remarks of Gymnasium's checker that are shown, and characters of each."""
KNOWN_NOISE = re.compile(
    r"not within the observation space|minimum value is -infinity|maximum value is infinity|symmetric and normalized"
    r"|render|spec.nondeterministic|not inside|casting|out of date|can be replaced|overridden|different from the unwr"
    r"|share an object|does not provide a `seed`"
)
"""Remarks of it that other checks make, or that matter to nobody here."""


def reset_and_step(case: Case) -> Iterator[Finding]:
    """Steps the environment a little, and looks at all that it returns."""
    case.env = env = with_mask(case.env)
    case.facts["observation_space"] = space = env.observation_space
    obs, info = contract.unpack_reset(env, env.reset(seed=case.subject.seed))
    _check_obs(space, obs, "reset")
    actions = Actions(case.facts["action_space"], case.subject.seed)
    has_method = case.kind == "host" and env.has_wrapper_attr(MASK_METHOD)
    gave_mask = MASK_KEY in info or has_method or spaces.is_masked(space)
    kinds = set()
    for _ in range(STEPS):
        obs, reward, terminated, truncated, info = contract.checked_step(env, env.step(actions.draw(obs)), 0)
        over = terminated or truncated
        if not (over and obs is None):
            _check_obs(space, obs, "step")
        if MASK_KEY in info and not gave_mask:
            contract.check_not_forgotten(env, info, "step")
        kinds.add(type(reward).__name__)
        if over:
            obs, info = contract.unpack_reset(env, env.reset())
            _check_obs(space, obs, "reset")
    case.facts["keeps_contract"] = True
    masks = ", with action masks" if gave_mask else ""
    yield Finding("reset and step", "ok", f"take and return what Gymnasium wants{masks}")


def _check_obs(space: spaces.AnySpace, obs: Any, method: str) -> None:
    if obs is None:
        raise ValueError(f"`{method}` gave None as an observation; return one of the observation space.")
    _, is_one = spaces.observation(space, obs, f"the observation of `{method}`")
    if not is_one:
        raise ValueError(f"`{method}` gave a batch of observations; return one, without an axis before it.")


def gymnasium_checker(case: Case) -> Iterator[Finding]:
    """Asks Gymnasium's own checker."""
    name = "Gymnasium"
    if not case.facts.get("keeps_contract"):
        yield Finding(name, "skipped", "its own checker would say the same again")
        return
    env = case.fresh()
    said: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            check_env(_innermost(env), skip_render_check=True, skip_close_check=True)
    except Exception as error:
        is_its_own = isinstance(error, AssertionError) and str(error)
        said.append(" ".join(str(error).split()) if is_its_own else what_and_where(error))
    finally:
        if env is not case.env:
            env.close()
    said += [_plain(str(one.message)) for one in caught]
    said = [one for one in dict.fromkeys(said) if not KNOWN_NOISE.search(one)]
    if not said:
        yield Finding(name, "ok", "its own checker has nothing to say")
    for words in said[:MOST_SHOWN]:
        shown = words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}..."
        yield Finding(name, "warning", f"its own checker says: {shown}")


def _innermost(env: Any) -> gym.Env[Any, Any]:
    """The environment as its author wrote it."""
    made: gym.Env[Any, Any] = env.unwrapped
    return made


def _plain(text: str) -> str:
    """A remark without colours and its label."""
    return re.sub(r"\x1b\[\d+m|^\s*WARN: ", "", re.sub(r"\x1b\[\d+m", "", text)).strip()

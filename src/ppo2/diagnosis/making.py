"""Checks of how an environment is made, and of its spaces; without stepping it."""

import time
from collections.abc import Iterator

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.subject import Case, kind_of, named
from ppo2.distributions import action_distribution
from ppo2.envs.host import contract
from ppo2.envs.host.constructors import made_by
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.stepper import autoreset_mode

SLOW_SECONDS = 5.0
"""Seconds of making an environment above which a remark is due: every worker makes its own."""
LARGE = 1e6
"""Bounds of actions beyond which nobody means them."""


def constructor(case: Case) -> Iterator[Finding]:
    """Makes the environment."""
    name = "constructor"
    began = time.perf_counter()
    env = made_by(case.subject.make, f"`env` (={case.subject.name})", "Give its arguments by name, in env_kwargs.")
    seconds = time.perf_counter() - began
    case.env = env
    if seconds > SLOW_SECONDS and not case.subject.is_one:  # with what it imports, perhaps, which happens once
        began = time.perf_counter()
        other = case.subject.make()
        seconds = min(seconds, time.perf_counter() - began)
        if hasattr(other, "close"):
            other.close()
    case.kind = kind_of(env)
    figures = {"seconds": seconds}
    kind = type(getattr(env, "unwrapped", env)).__name__
    if seconds > SLOW_SECONDS:
        yield Finding(
            name,
            "warning",
            f"{kind} takes {seconds:.1f} s to make; every one of num_envs is made so",
            "load what is large once, outside of __init__, or use few environments",
            figures,
        )
    else:
        yield Finding(name, "ok", f"{kind}, made in {_time(seconds)}", figures=figures)


def space_checks(case: Case) -> Iterator[Finding]:
    """Checks the spaces."""
    env, name = case.env, "spaces"
    prefix = "single_" if case.kind == "vector" else ""
    if case.kind != "device":
        contract.check_members(env)
    if case.kind == "vector":
        autoreset_mode(env)
    obs_space, action_space = (getattr(env, f"{prefix}{kind}_space") for kind in ("observation", "action"))
    spaces.check_observation_space(obs_space)
    action_distribution(action_space)
    case.facts |= {"observation_space": obs_space, "action_space": action_space}
    yield Finding(name, "ok", f"observations {shown(obs_space)}; actions {shown(action_space)}")
    for part, space in named(spaces.unmasked(obs_space)):
        yield from _observation(part, space)
    for part, space in named(action_space):
        yield from _action(part, space)


def _observation(part: str, space: spaces.AnySpace) -> Iterator[Finding]:
    of = f" {part!r}" if part else ""
    if isinstance(space, gym.spaces.Box) and np.any(space.low > space.high):
        yield Finding("spaces", "fault", f"observations{of}: a lower bound is above its upper one", "fix the Box")
    elif spaces.looks_like_image(space) and not spaces.is_image(space):
        yield Finding(
            "spaces",
            "warning",
            f"observations{of} look like an image, {shown(space)}, but aren't declared as one, so that they get no "
            "convolutional network",
            "declare Box(0, 255, (height, width, channels), uint8) and return bytes",
        )


def _action(part: str, space: spaces.AnySpace) -> Iterator[Finding]:
    of = f" {part!r}" if part else ""
    if isinstance(space, gym.spaces.Discrete) and space.n == 1:
        yield Finding("spaces", "warning", f"actions{of}: there is one choice, so that nothing can be learned")
    if not isinstance(space, gym.spaces.Box):
        return
    if np.any(space.low >= space.high):
        yield Finding(
            "spaces",
            "fault" if np.any(space.low > space.high) else "warning",
            f"actions{of}: a lower bound is not below its upper one",
            "fix the Box, or leave out what can't be chosen",
        )
    finite = np.isfinite(space.low) & np.isfinite(space.high)
    if not finite.all() or np.abs(np.where(finite, space.high, 0)).max(initial=0) > LARGE:
        yield Finding(
            "spaces",
            "warning",
            f"actions{of} have no bounds, or such as nobody means ({shown(space)}): a policy begins around 0, within 3",
            "declare bounds, best [-1, 1], and scale actions inside the environment",
        )


def shown(space: spaces.AnySpace) -> str:
    """A space in few words."""
    match space:
        case gym.spaces.Box():
            low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
            low, high = low.min(initial=np.inf), high.max(initial=-np.inf)
            return f"Box {'x'.join(map(str, space.shape)) or 'number'} of {space.dtype} in [{low:.4g}, {high:.4g}]"
        case gym.spaces.Discrete():
            return f"Discrete({space.n})" if space.start == 0 else f"Discrete({space.n}) from {space.start}"
        case gym.spaces.Dict():
            return f"Dict of {', '.join(map(str, space.spaces))}"
        case gym.spaces.Tuple():
            return f"Tuple of {len(space.spaces)}"
    return str(space)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


__all__ = ["ContractError", "constructor", "shown", "space_checks"]

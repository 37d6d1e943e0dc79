"""Environments of gymnax: classic control, MinAtar, bsuite and some of its own."""

import dataclasses
import inspect
from typing import Any

import gymnasium as gym
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, Info

ENDS = (
    "Past `max_steps_in_episode` (a parameter of the environment) it is truncated; any other end of gymnax's is a "
    "termination, also when both fall on one step."
)
NEVER = 2**30
"""Steps beyond any episode that fit into an int32."""


class Gymnax(AdaptedEnv):
    """Environments of gymnax 0.0.x, whose `done` includes the time limit, and 1.0, which keeps them apart.

    Args:
        name: such as "CartPole-v1".
        kwargs: fields of the environment's parameters (`max_steps_in_episode=200`), or arguments of its constructor.

    Raises:
        ValueError: an unknown name, or an argument that is neither.
        TypeError: a space that isn't supported.
    """

    prefix = "gymnax"

    def __init__(self, name: str, **kwargs: Any) -> None:
        common.check_name(self.prefix, name, ids())
        super().__init__(name, kwargs)
        library = common.imported("gymnax")
        with common.quiet():
            env, params = library.make(name)
            fields = {field.name for field in dataclasses.fields(params)}
            options = inspect.signature(type(env)).parameters
            common.check_options(f"gymnax:{name}", kwargs, fields | set(options))
            given = {key: value for key, value in kwargs.items() if key not in fields}
            if given:
                env, params = library.make(name, **given)
        self._env = env
        self._params = params.replace(**{key: value for key, value in kwargs.items() if key in fields})
        never = type(params.max_steps_in_episode)(NEVER)  # of the same type, as some environments divide by it
        self._unlimited = self._params.replace(max_steps_in_episode=never)
        declared = self._space(env.observation_space(self._params), "observation")
        self.observation_space = common.observed(declared, self._reset)
        self.action_space = self._space(env.action_space(self._params), "action")

    def _space(self, space: Any, kind: str) -> gym.Space[Any]:
        match type(space).__name__:
            case "Discrete":
                return common.discrete(space.n)
            case "Box":
                return common.box(space.low, space.high, tuple(space.shape), space.dtype)
        raise common.unsupported(self, kind, space)

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        obs, state = self._env.reset_env(key, self._params)
        return state, obs

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> tuple[Any, Any, Any, Any, Any, Info]:
        obs, after, reward, ended, info = self._env.step_env(key, state, action, self._params)
        if hasattr(self._env, "is_truncated"):  # gymnax 1.0
            return after, obs, reward, ended, self._env.is_truncated(after, self._params), info
        # The same step with a limit that is never reached; the compiler shares what both compute. `is_terminal` of the
        # state wouldn't do: MinAtar stores in it that the limit was reached.
        terminated = self._env.step_env(key, state, action, self._unlimited)[3]
        return after, obs, reward, terminated, ended & ~terminated, info


def ids() -> list[str]:
    """Names of the environments that work in the installed version."""
    library = common.imported("gymnax")
    left_out = {"MNISTBandit-bsuite"}  # downloads its images when made
    if not hasattr(common.imported("gymnax.environments.environment").Environment, "is_truncated"):
        left_out.add("SimpleBandit-bsuite")  # can't be stepped in 0.0.9: its `reset` gives no array of rewards
    return sorted(set(library.registered_envs) - left_out)

"""Environments of gymnax: classic control, MinAtar, bsuite and some of its own."""

from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, AnySpace, StepResult
from ppo2.numerics.randomness import abstract_key


class Gymnax(AdaptedEnv):
    """Environments of gymnax 0.0.x, whose `done` includes the time limit, and 1.0, which keeps them apart.

    Arguments are fields of the environment's parameters (`max_steps_in_episode=200`), or those of its constructor.
    """

    prefix = package = "gymnax"
    remedy = common.JAX_ENVS
    ends = (
        "Past `max_steps_in_episode` (a parameter of the environment) it is truncated; any other end of gymnax's is a "
        "termination, also when both fall on one step."
    )

    @classmethod
    def ids(cls) -> list[str]:
        library = common.imported("gymnax")
        left_out = {"MNISTBandit-bsuite"}  # downloads its images when made
        if not hasattr(common.imported("gymnax.environments.environment").Environment, "is_truncated"):
            left_out.add("SimpleBandit-bsuite")  # can't be stepped in 0.0.9: its `reset` gives no array of rewards
        return sorted(set(library.registered_envs) - left_out)

    def _build(self, name: str, **kwargs: Any) -> None:
        library = common.imported("gymnax")
        env, params = library.make(name)
        fields = common.fields_of(params)
        self._check_options(kwargs, {**common.defaults_of(type(env)), **fields})
        given = {key: value for key, value in kwargs.items() if key not in fields}
        if given:
            env, params = library.make(name, **given)
        self._env = env
        self._params = params.replace(**{key: value for key, value in kwargs.items() if key in fields})
        self.max_episode_steps = int(self._params.max_steps_in_episode)
        never = type(params.max_steps_in_episode)(common.NEVER)  # of the same type, as some environments divide by it
        self._unlimited = self._params.replace(max_steps_in_episode=never)
        self.observation_space = self._space(env.observation_space(self._params), "observation")
        self.action_space = self._space(env.action_space(self._params), "action")

    def _space(self, space: Any, kind: str) -> AnySpace:
        """A space of gymnax, with shape and kind of number corrected to what `reset` returns."""
        if type(space).__name__ == "Discrete":
            return gym.spaces.Discrete(int(space.n))
        if type(space).__name__ != "Box":
            raise self._unsupported(kind, space)
        shape, dtype = tuple(space.shape), space.dtype
        if kind == "observation":
            obs = jax.eval_shape(lambda key: self._reset(key)[1], abstract_key())
            if obs.shape != shape:
                return common.box(obs.shape)
            if jnp.issubdtype(obs.dtype, jnp.floating) and np.issubdtype(dtype, np.integer):
                dtype = np.float32  # floats declared as integers would be rounded
        return common.box(shape, space.low, space.high, dtype)

    def _reset(self, key: PRNGKeyArray) -> tuple[Any, Any]:
        obs, state = self._env.reset_env(key, self._params)
        return state, obs

    def _step(self, state: Any, action: Any, key: PRNGKeyArray) -> StepResult:
        obs, after, reward, ended, info = self._env.step_env(key, state, action, self._params)
        if hasattr(self._env, "is_truncated"):  # gymnax 1.0
            return after, obs, reward, ended, self._env.is_truncated(after, self._params), info
        # The same step with a limit that is never reached; the compiler shares what both compute. `is_terminal` of the
        # state wouldn't do: MinAtar stores in it that the limit was reached.
        terminated = self._env.step_env(key, state, action, self._unlimited)[3]
        return after, obs, reward, terminated, ended & ~terminated, info

"""Environments of Brax, and a base class for libraries of the same interface, such as MuJoCo Playground."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, StepResult
from ppo2.envs.device.env import strongly_typed
from ppo2.numerics.randomness import abstract_key

LEFT_OUT = {
    "fast": "is a stub for Brax's own tests.",
    "swimmer": "calls a JAX function with arguments that JAX no longer has.",
}
PICTURE = (240, 320)
"""Height and width of pictures."""


class CountedState(NamedTuple):
    """State of Brax, and number of the episode's steps, repeated actions counted."""

    inner: Any
    steps: Int[Array, ""]


class BraxLike(AdaptedEnv):
    """Environments with `reset(key) -> State`, `step(State, action) -> State`, `State.obs`, `.reward` and `.done`.

    Actions are in [-1, 1], as in Brax's own training: an environment scales them itself. `info` holds the library's
    metrics.
    """

    def _adapt(self, env: Any, episode_length: Any, action_repeat: Any) -> None:
        """Takes an environment, of `episode_length` steps until truncation; each repeated action is a step of these."""
        for name, value in (("episode_length", episode_length), ("action_repeat", action_repeat)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` (={value!r}) must be a whole number of at least 1.")
        self._env, self._episode_length, self._action_repeat = env, episode_length, action_repeat
        self.max_episode_steps = -(-episode_length // action_repeat)
        obs = jax.eval_shape(lambda key: self._reset(key)[1], abstract_key())
        self.observation_space = common.box(obs.shape)
        self.action_space = common.box((int(env.action_size),), -1, 1)

    def _obs(self, obs: Any) -> Any:
        """Observation of the policy: `obs`, or the entry "state" of several."""
        if not hasattr(obs, "keys"):
            return obs
        if "state" not in obs:
            names = ", ".join(sorted(obs.keys()))
            raise self._unsupported("observation", f"Dict({names}), without an entry 'state' that could be used")
        return obs["state"]

    def _reset(self, key: PRNGKeyArray) -> tuple[CountedState, Any]:
        state = self._env.reset(jax.random.key_data(key))  # these libraries take no typed keys
        return CountedState(state, jnp.zeros((), jnp.int32)), self._obs(state.obs)

    def _step(self, state: CountedState, action: Any, key: PRNGKeyArray) -> StepResult:
        after, reward, done = self._repeated(state.inner, action)
        steps = state.steps + self._action_repeat
        truncated = steps >= self._episode_length
        return CountedState(after, steps), self._obs(after.obs), reward, done, truncated, after.metrics

    def _repeated(self, state: Any, action: Any) -> tuple[Any, Any, Any]:
        """State, sum of rewards and done flag after the action was taken `action_repeat` times."""
        if self._action_repeat == 1:
            after = self._env.step(state, action)
            return after, after.reward, after.done > 0

        def once(state: Any, _: None) -> tuple[Any, tuple[Float[Array, ""], Any]]:
            after = self._env.step(state, action)
            return jax.tree.map(self._steady, after, state), (after.reward, after.done > 0)

        after, (rewards, done) = jax.lax.scan(once, jax.tree.map(strongly_typed, state), length=self._action_repeat)
        return after, jnp.sum(rewards), jnp.any(done)


class Brax(BraxLike):
    """Brax's environments, such as "ant", without its wrappers.

    Arguments are `episode_length`, `action_repeat`, and those of the constructor; `backend` is "generalized" (default),
    "spring", "positional" or "mjx".
    """

    prefix = package = "brax"
    _renderer: Any = None
    remedy = common.JAX_ENVS
    ends = (
        "Brax's `done` (a fall, say) is a termination; after `episode_length` steps, 1000 unless given, it is "
        "truncated, unless both fall on one step: then it terminated."
    )

    @classmethod
    def ids(cls) -> list[str]:
        return sorted(set(common.imported("brax.envs")._envs) - set(LEFT_OUT))

    @classmethod
    def _refusal(cls, name: str) -> str:
        return f"{name!r} {LEFT_OUT[name]}" if name in LEFT_OUT else ""

    def _build(self, name: str, episode_length: int = 1000, action_repeat: int = 1, **kwargs: Any) -> None:
        envs = common.imported("brax.envs")
        more = {"n_frames": inspect.Parameter.empty, "debug": False, "episode_length": 1000, "action_repeat": 1}
        self._check_options(kwargs, {**common.defaults_of(envs._envs[name]), **more})
        self._adapt(envs.get_environment(name, **kwargs), episode_length, action_repeat)

    def render(self, state: CountedState) -> Any:
        """A picture of a state, (height, width, 3) of bytes, by MuJoCo."""
        mujoco, system, positions = common.imported("mujoco"), self._env.sys, state.inner.pipeline_state
        if self._renderer is None:
            self._renderer = mujoco.Renderer(system.mj_model, *PICTURE)
        data = mujoco.MjData(system.mj_model)
        data.qpos, data.qvel = np.asarray(positions.q), np.asarray(positions.qd)
        mujoco.mj_forward(system.mj_model, data)
        self._renderer.update_scene(data, camera=-1)
        return self._renderer.render()

"""Environments of Brax, and a base class for libraries of the same interface, such as MuJoCo Playground."""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ppo2.envs.adapters import common
from ppo2.envs.adapters.common import AdaptedEnv, AnyBox, Info
from ppo2.envs.device.env import strongly_typed
from ppo2.numerics.randomness import abstract_key

ENDS = (
    "Brax's `done` (a fall, say) is a termination; after `episode_length` steps, 1000 unless given, it is truncated, "
    "unless both fall on one step: then it terminated."
)
LEFT_OUT = {
    "fast": "is a stub for Brax's own tests.",
    "swimmer": "calls a JAX function with arguments that JAX no longer has.",
}


class Counted(NamedTuple):
    """State of Brax, and number of the episode's steps, repeated actions counted."""

    inner: Any
    steps: Int[Array, ""]


class BraxLike(AdaptedEnv):
    """Environments with `reset(key) -> State`, `step(State, action) -> State`, `State.obs`, `.reward` and `.done`.

    Actions are in [-1, 1], as in Brax's own training: an environment scales them itself. `info` holds the library's
    metrics.
    """

    _env: Any
    _episode_length: int
    _action_repeat: int

    def _spaces(self) -> tuple[AnyBox, AnyBox]:
        with common.quiet():
            obs = jax.eval_shape(lambda key: self._obs(self._env.reset(common.raw(key)).obs), abstract_key())
        return common.unbounded(obs.shape), common.box(-1, 1, (int(self._env.action_size),))

    def _obs(self, obs: Any) -> Any:
        """Observation of the policy: `obs`, or the entry "state" of several."""
        if not hasattr(obs, "keys"):
            return obs
        if "state" not in obs:
            names = ", ".join(sorted(obs.keys()))
            raise common.unsupported(self, "observation", f"Dict({names}), without an entry 'state' that could be used")
        return obs["state"]

    def _reset(self, key: PRNGKeyArray) -> tuple[Counted, Any]:
        state = self._env.reset(common.raw(key))
        return Counted(state, jnp.zeros((), jnp.int32)), self._obs(state.obs)

    def _step(self, state: Counted, action: Any, key: PRNGKeyArray) -> tuple[Counted, Any, Any, Any, Any, Info]:
        after, reward, done = self._repeated(state.inner, action)
        steps = state.steps + self._action_repeat
        return Counted(after, steps), self._obs(after.obs), reward, done, steps >= self._episode_length, after.metrics

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
    """Brax's environments without its wrappers.

    Args:
        name: such as "ant".
        episode_length: steps until an episode is truncated.
        action_repeat: times that each action is taken; each is a step of the episode.
        kwargs: for the constructor; `backend` is "generalized" (default), "spring", "positional" or "mjx".

    Raises:
        ValueError: an unknown name or argument.
    """

    prefix = "brax"

    def __init__(self, name: str, episode_length: int = 1000, action_repeat: int = 1, **kwargs: Any) -> None:
        reason = f"{name!r} {LEFT_OUT[name]}" if name in LEFT_OUT else ""
        common.check_name(self.prefix, name, ids(), reason)
        lengths = {"episode_length": episode_length, "action_repeat": action_repeat}
        common.check_counts(lengths)
        default = {"episode_length": 1000, "action_repeat": 1}
        super().__init__(name, {**{k: v for k, v in lengths.items() if v != default[k]}, **kwargs})
        envs = common.imported("brax.envs")
        taken = inspect.signature(envs._envs[name]).parameters.values()
        options = {option.name for option in taken if option.kind is not option.VAR_KEYWORD}
        common.check_options(f"brax:{name}", kwargs, options | {"n_frames", "debug", *default})
        with common.quiet():
            self._env = envs.get_environment(name, **kwargs)
        self._episode_length, self._action_repeat = episode_length, action_repeat
        self.observation_space, self.action_space = self._spaces()


def ids() -> list[str]:
    """Names of the environments that work with today's JAX."""
    return sorted(set(common.imported("brax.envs")._envs) - set(LEFT_OUT))

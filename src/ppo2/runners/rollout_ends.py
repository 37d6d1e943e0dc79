"""The figures that a rollout on the device leaves at its ends: values of final observations, running returns."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ppo2.agent.model import Model
from ppo2.algorithm.train_state import TrainState
from ppo2.envs.device.unroll import DeviceTransition
from ppo2.numerics.compilation import platform
from ppo2.numerics.pieces import in_fitting_pieces


def carried_returns(returns: Float[Array, " N"], step: DeviceTransition, gamma: Float[Array, ""]) -> Float[Array, " N"]:
    """The discounted sums of the running episodes' rewards after the steps, given those before."""
    rewards, ended = jnp.where(jnp.isfinite(step.rewards), step.rewards, 0.0), step.terminated | step.truncated
    if platform() == "cpu":

        def add_step(running: Float[Array, " N"], now: tuple[Array, Array]) -> tuple[Array, None]:
            reward, ended = now
            return jnp.where(ended, 0.0, gamma * running + reward), None

        carried: Float[Array, " N"] = jax.lax.scan(add_step, returns, (rewards, ended))[0]
        return carried
    # A loop of such small turns costs an accelerator more than all sums at once, of rewards since the last end alone.
    count = len(rewards)
    steps = jnp.arange(count, dtype=jnp.int32)[:, None]
    last = jnp.max(jnp.where(ended, steps, -1), axis=0)
    weights = jnp.where(steps > last[None], gamma ** (count - 1 - steps).astype(jnp.float32), 0.0)
    return jnp.sum(weights * rewards, axis=0) + jnp.where(last < 0, gamma ** jnp.float32(count) * returns, 0.0)


FINAL_BATCH = 256
"""Final observations that a CPU evaluates together: the policy's cost for a batch hardly falls below this size."""


def final_values(
    model: Model, state: TrainState, step: DeviceTransition
) -> tuple[Float[Array, "T N"], Bool[Array, "T N"]]:
    """V of the next observation where no later step has it: where episodes were truncated, and after the last step.

    Returns the values, and True where they are.
    """
    wanted = step.truncated.at[-1].set(True)
    if platform() == "cpu":
        return _values_where(model, state, step, wanted, FINAL_BATCH), wanted
    # An accelerator evaluates all environments as fast as one. It waits for the host wherever data say what runs next:
    # once here, and where episodes were truncated once or twice more.
    seen = jax.tree.map(lambda x: x[-1], (step.next_obs, step.recurrent_state))
    last = _values_of(model, state, *seen)
    earlier = step.truncated.at[-1].set(False)
    values: Float[Array, "T N"] = jax.lax.cond(
        jnp.any(earlier),
        lambda: _values_where(model, state, step, earlier, earlier.shape[1]),
        lambda: jnp.zeros(earlier.shape, jnp.float32),
    )
    return values.at[-1].set(last), wanted


def _values_where(
    model: Model, state: TrainState, step: DeviceTransition, wanted: Bool[Array, "T N"], most: int
) -> Float[Array, "T N"]:
    """V of the next observations that are wanted, and 0 for others: in batches of one size, as many as it takes."""
    total, nenvs = wanted.size, wanted.shape[1]
    size = min(most, nenvs)
    # their indices, in order; beyond the last of them an index that no array has
    where = jnp.nonzero(wanted.ravel(), size=total + size, fill_value=total)[0].astype(jnp.int32)
    shown = jax.tree.map(lambda x: x.reshape(total, *x.shape[2:]), (step.next_obs, step.recurrent_state))
    count = jnp.sum(wanted, dtype=jnp.int32)

    def one_batch(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        done, values = carry
        rows = jax.lax.dynamic_slice_in_dim(where, done, size)
        found = _values_of(model, state, *jax.tree.map(lambda x: x.at[rows].get(mode="clip"), shown))
        return done + size, values.at[rows].set(found, mode="drop")

    _, values = jax.lax.while_loop(
        lambda carry: carry[0] < count, one_batch, (jnp.int32(0), jnp.zeros(total, jnp.float32))
    )
    return values.reshape(wanted.shape)


def _values_of(model: Model, state: TrainState, *seen: Any) -> Float[Array, " B"]:
    """V of a batch of observations and recurrent states, in pieces that fit in memory."""
    policy = model.policy_of(state.params)
    return in_fitting_pieces(lambda *rows: policy(state.normaliser, *rows).values, *seen)

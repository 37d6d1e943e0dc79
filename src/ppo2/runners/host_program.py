"""The compiled programs of the host's runner: noise, weights, acting, values of final observations, the whole."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from ppo2 import networks
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Rollout
from ppo2.numerics import sharding
from ppo2.numerics.compilation import compiled, platform
from ppo2.numerics.randomness import as_keys
from ppo2.numerics.sharding import REPLICATED, DataAxis
from ppo2.runners.experience import Experience, complete

QUICKLY_COMPILED = {"xla_backend_optimization_level": 1}
"""Options of LLVM for a program of much code that takes little of a rollout's time: the rounds of the random numbers
compile in a third of the time, to the same bits. Nothing is gained from it where a program has many small kernels."""


def weights_program(model: Model) -> Callable[[Float[Array, " P"]], list[Array]]:
    """The policy's arrays, cut out of the flat parameters: once per rollout, as it copies all of them."""

    def weights(params: Float[Array, " P"]) -> list[Array]:
        return jax.tree.leaves(model.unravel(params))

    return compiled(weights)


def act_program(model: Model) -> Callable[..., tuple[PyTree[Shaped[Array, "N ..."]], networks.State]]:
    """An action for each observation, by `weights_program`'s: nothing but what stepping the environments waits for."""

    # A list, as JAX takes it apart at every call: a policy's tree would take longer.
    def act(weights: list[Array], *of: Any) -> tuple[PyTree[Shaped[Array, "N ..."]], networks.State]:
        return model.policy_with(jax.tree.unflatten(model.unravel.structure, weights)).act(*of)

    return compiled(act)


def noise_program(model: Model) -> Callable[..., Float[Array, "T N p"] | Int[Array, " T"]]:
    """`Model.acting_noise` for the steps of a rollout, of keys for `as_keys`."""

    def noise(keys: Any, steps: int) -> Float[Array, "T N p"] | Int[Array, " T"]:
        return model.acting_noise(as_keys(keys), steps)

    return compiled(noise, static_argnums=1, compiler_options=QUICKLY_COMPILED if platform() == "cpu" else None)


def step_noise_program(model: Model) -> Callable[..., Float[Array, "N p"]]:
    """`Model.step_noise`, for rollouts whose steps each draw their own."""

    def noise(keys: Any, now: Int[Array, ""]) -> Float[Array, "N p"]:
        return model.step_noise(as_keys(keys), now)

    return compiled(noise)


def values_program(model: Model) -> Callable[..., Float[Array, " N"]]:
    """V of a batch of observations."""

    def final_values(params: Float[Array, " P"], *of: Any) -> Float[Array, " N"]:
        return model.policy_of(params)(*of).values

    return compiled(final_values)


def complete_program(model: Model, axis: DataAxis) -> Callable[..., Rollout]:
    """`complete`, for observations (T + 1, N, ...) of which the last are those after the last step, with that state.

    Args:
        axis: the devices that complete it together: each has the whole, and evaluates a part.
    """

    def completed(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        experience: Experience,
        last_state: networks.State,
        final_values: Float[Array, "T N"],
        bootstrapped: Bool[Array, "T N"],
    ) -> Rollout:
        last_obs = jax.tree.map(lambda x: x[-1], experience.obs)
        # V of the last observation, unless an episode was truncated before it
        last = model.policy_of(params)(normaliser, last_obs, last_state).values
        final_values = final_values.at[-1].set(jnp.where(bootstrapped[-1], final_values[-1], last))
        steps = experience._replace(obs=jax.tree.map(lambda x: x[:-1], experience.obs))
        return complete(model, params, normaliser, steps, final_values, bootstrapped.at[-1].set(True), axis)

    return compiled(sharding.over_blocks(completed, axis, REPLICATED, REPLICATED))

"""The compiled programs of a model: acting, learning, and filling the normaliser."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ppo2 import networks, spaces
from ppo2.algorithm.faults import Fault, judged
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.algorithm.train_state import TrainState, in_types_of
from ppo2.algorithm.update import fill_normaliser
from ppo2.numerics import sharding
from ppo2.numerics.compilation import compiled, transfers_allowed
from ppo2.numerics.flat import Packed
from ppo2.numerics.randomness import Purpose, for_drawing, stream
from ppo2.numerics.sharding import ONE_DEVICE, REPLICATED, DataAxis

if TYPE_CHECKING:
    from ppo2.agent.model import Model


class ActResult(NamedTuple):
    """The policy's answer to a batch of observations; actions as the distribution gives them.

    `recurrent_state`: (N, ...), for the next step; None for feed-forward policies. `no_legal_action`: True where a mask
    leaves no legal action; None without masks.
    """

    sampled: PyTree[Array]
    mode: PyTree[Array]
    values: Float[Array, " N"]
    logp: Float[Array, " N"]
    recurrent_state: networks.State
    no_legal_action: Bool[Array, " N"] | None


def train_program(model: "Model", axis: DataAxis) -> Callable[..., tuple[TrainState, Packed]]:
    """`Model.update`, compiled, and `judged`; the figures are packed."""

    @transfers_allowed
    def train(state: TrainState, rollout: Rollout, hyper: Hyperparameters) -> tuple[TrainState, Packed]:
        learned, stats = model.update(state, rollout, hyper, *[] if axis == ONE_DEVICE else [axis])
        return in_types_of(state, learned), Packed.of(judged(state, learned, stats))

    specs = (REPLICATED, REPLICATED if axis.by_sample else ROLLOUT_SPECS, REPLICATED)
    return compiled(sharding.over_blocks(train, axis, specs, REPLICATED))


def observe_program(model: "Model", axis: DataAxis) -> Callable[..., tuple[TrainState, Fault]]:
    """`Model.observe`, compiled."""

    @transfers_allowed
    def observe(state: TrainState, rollout: Rollout) -> tuple[TrainState, Fault]:
        return fill_normaliser(model, state, rollout, axis)

    return compiled(sharding.over_blocks(observe, axis, (REPLICATED, ROLLOUT_SPECS), REPLICATED), donate_argnums=0)


def initial_state_program(model: "Model") -> Callable[..., networks.State]:
    """The state of one recurrent policy before its first step, compiled."""

    @transfers_allowed
    def initial_state(params: Float[Array, " P"]) -> networks.State:
        return model.policy_of(params).initial_state()

    return compiled(initial_state)


def act_on_program(model: "Model") -> Callable[..., ActResult]:
    """`Model.act_on`, compiled."""

    def act_on(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        obs: Array,
        key: PRNGKeyArray,
        count: Int[Array, ""],
        state: networks.State,
        episode_starts: Bool[Array, " N"] | None,
    ) -> ActResult:
        obs = spaces.on_device(model.observation_space, obs)
        distribution, values, after = model.policy_of(params)(normaliser, obs, state, episode_starts)
        drawing = for_drawing(stream(key, Purpose.STEP, count))
        drawn = model.distribution.noise(drawing, (jax.tree.leaves(obs)[0].shape[0],))
        sampled = distribution.sample(drawn)
        masked = spaces.is_masked(model.observation_space)
        no_legal_action = model.distribution.none_legal(obs["action_mask"]) if masked else None
        return ActResult(sampled, distribution.mode(), values, distribution.logp(sampled), after, no_legal_action)

    return compiled(act_on)

"""Copies of a model in other processes: its template is sent once, the weights to act with before each rollout."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ppo2.agent.compiled import without_state
from ppo2.agent.model import Model
from ppo2.agent.placement import UNPLACED
from ppo2.algorithm import adam
from ppo2.algorithm.train_state import Counters, TrainState
from ppo2.numerics.flat import ravelled


class ActorWeights(NamedTuple):
    """Parameters, normaliser and key that a copy needs to act, as NumPy's arrays; see `TrainState`."""

    params: Any
    normaliser: Any
    key: Any
    key_impl: str


class ModelTemplate(NamedTuple):
    """A model without its state, and zeros in place of its policy's parameters."""

    model: Model
    arrays: PyTree[Any]

    def build(self) -> Model:
        """The model, which can act after `set_weights`; it doesn't learn."""
        model = self.model
        _, model.unravel = ravelled(self.arrays)
        model.own_programs, model._acting = OrderedDict(), None
        return model


def template_of(model: Model) -> ModelTemplate:
    """The model without its state, to be sent to another process."""
    copied, arrays = without_state(model), model.unravel(model.state.params)
    copied.placement = UNPLACED  # another machine has other processors
    del copied.unravel  # JAX's description of a tree can't be sent; the tree can
    return ModelTemplate(copied, jax.tree.map(np.zeros_like, jax.device_get(arrays)))


def weights_of(model: Model) -> ActorWeights:
    """The weights that a copy of the model acts with."""
    state = model.state
    params, normaliser, key = jax.device_get((state.params, state.normaliser, jax.random.key_data(state.key)))
    return ActorWeights(params, normaliser, key, str(jax.random.key_impl(state.key)))


def set_weights(model: Model, weights: ActorWeights) -> None:
    """Makes a copy act like the model that the weights are from."""
    params, normaliser, key = jax.device_put(weights[:3])
    key = jax.random.wrap_key_data(key, impl=weights.key_impl)
    model.state = TrainState(params, normaliser, adam.start(weights.params[:0]), key, Counters.zero())

"""Cells that multiply their input with weights before the state comes in: LSTM, layer-normalised LSTM, GRU.

Their sequences are computed in another way than those of other cells: see `ppo2.networks.sequences`.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ppo2.networks import registry
from ppo2.networks.layers import orthogonal, weighted, zeros
from ppo2.numerics.precision import multiplied
from ppo2.numerics.randomness import host_split
from ppo2.system.whole_numbers import is_whole

State: TypeAlias = Any  # a pytree of float arrays


class Gated(eqx.Module):
    """A cell with weights for its input and for a part of its state."""

    input_weight: Float[Array, "gates features"]
    state_weight: Float[Array, "gates units"]
    bias: Float[Array, " gates"]

    summed: ClassVar[bool] = False
    """True if only the sum of inputs and product counts in `following`, and no other parameter: their gradients are the
    same."""
    by_unit: ClassVar[bool] = False
    """True if in `following` a unit depends on no other unit's numbers."""

    @property
    def units(self) -> int:
        return self.state_weight.shape[1]

    def inputs(self, x: Float[Array, " features"]) -> Float[Array, " gates"]:
        """The part of a step that doesn't depend on the state."""
        return self.from_product(weighted(self.input_weight, x))

    def from_product(self, product: Float[Array, " gates"]) -> Float[Array, " gates"]:
        """`inputs`, given the product of `input_weight` and the features."""
        return product + self.bias

    @abc.abstractmethod
    def initial_state(self) -> State: ...

    @abc.abstractmethod
    def hidden(self, state: State) -> Float[Array, " units"]:
        """The part of the state that is the output, and that the weights multiply in the next step."""

    @abc.abstractmethod
    def kept(self, state: State) -> Float[Array, " units"]:
        """The part of the state that the next one is made of directly, without weights."""

    @abc.abstractmethod
    def following(
        self, inputs: Float[Array, " gates"], product: Float[Array, " gates"], kept: Float[Array, " units"]
    ) -> State:
        """The next state, given the product of `state_weight` and the hidden part of this one, and its kept part."""

    def step(self, inputs: Float[Array, " gates"], state: State) -> tuple[Float[Array, " units"], State]:
        """The output and the next state."""
        after = self.following(inputs, multiplied(jnp.matmul, self.state_weight, self.hidden(state)), self.kept(state))
        return self.hidden(after), after


class LSTMState(NamedTuple):
    """The state of an LSTM, (units,) each."""

    c: Float[Array, " units"]
    h: Float[Array, " units"]


class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o, u = W x + U h + b;  c' = sigmoid(f) c + sigmoid(i) tanh(u);  h' = sigmoid(o) tanh(c')
    """

    summed = by_unit = True

    def initial_state(self) -> LSTMState:
        return LSTMState(*[jnp.zeros(self.units, jnp.float32)] * 2)

    def hidden(self, state: LSTMState) -> Float[Array, " units"]:
        return state.h

    def kept(self, state: LSTMState) -> Float[Array, " units"]:
        return state.c

    def following(self, inputs: Array, product: Array, kept: Array) -> LSTMState:
        i, f, o, u = _opened(inputs + product)
        c = f * kept + i * u
        return LSTMState(c, o * jnp.tanh(c))


class LayerNormLSTM(Gated):
    """An LSTM whose products with input and with state are each layer-normalised, as is the memory on its way out.

    Source: Ba et al. 2016, arXiv:1607.06450, supplement, equations 20 to 22; as in Baselines' lnlstm.
    """

    input_norm: eqx.nn.LayerNorm
    state_norm: eqx.nn.LayerNorm
    memory_norm: eqx.nn.LayerNorm

    def from_product(self, product: Float[Array, " gates"]) -> Float[Array, " gates"]:
        return self.input_norm(product) + self.bias

    def initial_state(self) -> LSTMState:
        return LSTMState(*[jnp.zeros(self.units, jnp.float32)] * 2)

    def hidden(self, state: LSTMState) -> Float[Array, " units"]:
        return state.h

    def kept(self, state: LSTMState) -> Float[Array, " units"]:
        return state.c

    def following(self, inputs: Array, product: Array, kept: Array) -> LSTMState:
        i, f, o, u = _opened(inputs + self.state_norm(product))
        c = f * kept + i * u
        return LSTMState(c, o * jnp.tanh(self.memory_norm(c)))


def _opened(z: Float[Array, " gates"]) -> list[Float[Array, " units"]]:
    """sigmoid(i), sigmoid(f), sigmoid(o), tanh(u), all by one tanh: a small operation costs a CPU as much to begin as
    to make.
    """
    scale = np.repeat(np.array([0.5, 0.5, 0.5, 1.0], np.float32), z.shape[-1] // 4)
    return jnp.split(jnp.tanh(z * scale) * scale + (1 - scale), 4)


def _sigmoid(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """1 / (1 + exp(-x)), by tanh, which XLA makes faster on CPU."""
    return jnp.tanh(x * 0.5) * 0.5 + 0.5


class GRU(Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), reset gate after the product.

    r, z, n = W x + b,  r', z', n' = U h + (0, 0, b');  r, z = sigmoid(r + r'), sigmoid(z + z')
    h' = (1 - z) tanh(n + r n') + z h
    """

    candidate_bias: Float[Array, " units"]

    by_unit = True

    def initial_state(self) -> Float[Array, " units"]:
        return jnp.zeros(self.units, jnp.float32)

    def hidden(self, state: Array) -> Float[Array, " units"]:
        return state

    def kept(self, state: Array) -> Array:
        return state

    def following(self, inputs: Array, product: Array, kept: Array) -> Array:
        split = 2 * kept.shape[-1]
        reset, old = jnp.split(_sigmoid(inputs[:split] + product[:split]), 2)
        candidate = jnp.tanh(inputs[split:] + reset * (product[split:] + self.candidate_bias))
        return (1 - old) * candidate + old * kept


def lstm(nlstm: int = 128) -> Callable[..., LSTM]:
    """A long short-term memory.

    Args:
        nlstm: units; usually 64 to 512.
    """
    units = _units("nlstm", nlstm)
    return lambda input_shape, *, key: LSTM(*_weights(input_shape, units, 4, key=key))


def lnlstm(nlstm: int = 128) -> Callable[..., LayerNormLSTM]:
    """A layer-normalised long short-term memory.

    Args:
        nlstm: units; usually 64 to 512.
    """
    units = _units("nlstm", nlstm)

    def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray) -> LayerNormLSTM:
        norms = (eqx.nn.LayerNorm(size, dtype=jnp.float32) for size in (4 * units, 4 * units, units))
        return LayerNormLSTM(*_weights(input_shape, units, 4, key=key), *norms)

    return build


def gru(ngru: int = 128) -> Callable[..., GRU]:
    """A gated recurrent unit.

    Args:
        ngru: units; usually 64 to 512.
    """
    units = _units("ngru", ngru)
    return lambda input_shape, *, key: GRU(*_weights(input_shape, units, 3, key=key), zeros(units, key=key))


def _units(name: str, units: object) -> int:
    if not is_whole(units) or units < 1:
        raise ValueError(f"`{name}` (={units!r}) must be a whole number of at least 1, for example 128.")
    return int(units)


def _weights(input_shape: tuple[int, ...], units: int, gates: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """Weights of input and state, orthogonal with gain 1, and zero bias: Baselines'."""
    shapes = (gates * units, math.prod(input_shape)), (gates * units, units)
    weights = [orthogonal(shape, 1.0, key=one) for shape, one in zip(shapes, host_split(key, 2), strict=True)]
    return weights[0], weights[1], zeros(gates * units, key=key)


CELLS: dict[str, registry.Builder] = {"lstm": lstm, "lnlstm": lnlstm, "gru": gru}

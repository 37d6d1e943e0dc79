"""Networks with a memory: any trunk, then a cell that carries a state from step to step.

| member of a cell | shape | meaning |
|---|---|---|
| `initial_state()` | any pytree of float arrays | the state that an episode begins with |
| `cell(x, state)` | (features,), state -> (outputs,), state | one step of one environment |

A user's network with these two members is taken as a cell without a trunk.
"""

import abc
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.networks import registry
from ppo2.networks.layers import as_float, orthogonal, zeros
from ppo2.numerics.precision import multiplied
from ppo2.numerics.randomness import host_split
from ppo2.spaces import ENCODING

State: TypeAlias = Any  # a pytree of float arrays


class Recurrent(eqx.Module):
    """A trunk that sees each observation alone, and a cell that remembers."""

    trunk: registry.Network
    cell: Any  # Gated, or another object with the members of a cell

    def initial_state(self) -> State:
        state: State = self.cell.initial_state()
        return state

    def inputs(self, xs: PyTree[Shaped[Array, "B ..."]]) -> Shaped[Array, "B ..."]:
        """The part of the steps that doesn't depend on the state, for a batch of observations."""
        features = registry.apply(self.trunk, xs)
        return jax.vmap(self.cell.inputs)(features) if isinstance(self.cell, Gated) else features

    def step(self, inputs: Array, state: State) -> tuple[Float[Array, " features"], State]:
        """One step of one environment."""
        step = self.cell.step if isinstance(self.cell, Gated) else self.cell
        out, after = step(inputs, state)
        return out, after

    def __call__(self, x: PyTree[Shaped[Array, "..."]], state: State) -> tuple[Float[Array, " features"], State]:
        return self.step(self.inputs(jax.tree.map(lambda part: part[None], x))[0], state)


def is_recurrent(network: object) -> bool:
    return callable(getattr(network, "initial_state", None))


def advance(
    network: Any, xs: PyTree[Shaped[Array, "B ..."]], state: State, episode_starts: Bool[Array, " B"]
) -> tuple[Float[Array, "B features"], State]:
    """A step of a recurrent network in B environments; the state starts anew where an episode begins."""
    inputs, step = _inputs_and_step(network, xs)
    found: tuple[Array, State] = jax.vmap(step)(inputs, state, episode_starts)
    return found


def unroll(
    network: Any, xs: PyTree[Shaped[Array, "BL ..."]], state: State, episode_starts: Bool[Array, "B L"]
) -> Float[Array, "BL features"]:
    """The features at L steps of B environments, whose first states are `state`, (B, ...)."""
    inputs, step = _inputs_and_step(network, xs)  # of all steps at once
    inputs = jax.tree.map(lambda x: x.reshape(*episode_starts.shape, *x.shape[1:]), inputs)

    def run(inputs: PyTree[Array], state: State, episode_starts: Bool[Array, " L"]) -> Float[Array, "L f"]:
        def next_step(state: State, now: tuple[Any, Array]) -> tuple[State, Array]:
            out, state = step(now[0], state, now[1])
            return state, out

        outs: Array = jax.lax.scan(next_step, state, (inputs, episode_starts))[1]
        return outs

    outs = jax.vmap(run)(inputs, state, episode_starts)
    return outs.reshape(-1, outs.shape[-1])


def _inputs_and_step(network: Any, xs: PyTree[Shaped[Array, "B ..."]]) -> tuple[Any, Callable[..., Any]]:
    """The inputs of the steps, and the step of one environment, which starts anew where an episode begins."""
    inputs, step = (network.inputs(xs), network.step) if isinstance(network, Recurrent) else (xs, network)

    def restarted(inputs: Any, state: State, episode_starts: Bool[Array, ""]) -> tuple[Array, State]:
        state = jax.tree.map(lambda new, old: jnp.where(episode_starts, new, old), network.initial_state(), state)
        out, after = step(inputs, state)
        return out, after

    return inputs, restarted


def flat(x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
    """A trunk that only flattens."""
    return as_float(x).ravel()


# --- cells --------------------------------------------------------------------------------------------------------


class Gated(eqx.Module):
    """A cell that multiplies its input with weights before the state comes in."""

    input_weight: Float[Array, "gates features"]
    state_weight: Float[Array, "gates units"]
    bias: Float[Array, " gates"]

    @property
    def units(self) -> int:
        return self.state_weight.shape[1]

    def inputs(self, x: Float[Array, " features"]) -> Float[Array, " gates"]:
        """The part of a step that doesn't depend on the state."""
        return multiplied(jnp.matmul, self.input_weight, x) + self.bias

    @abc.abstractmethod
    def initial_state(self) -> State: ...

    @abc.abstractmethod
    def step(self, inputs: Float[Array, " gates"], state: State) -> tuple[Float[Array, " units"], State]:
        """The output and the next state."""


class LSTMState(NamedTuple):
    """The state of an LSTM, (units,) each."""

    c: Float[Array, " units"]
    h: Float[Array, " units"]


class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o, u = W x + U h + b;  c' = sigmoid(f) c + sigmoid(i) tanh(u);  h' = sigmoid(o) tanh(c')
    """

    def initial_state(self) -> LSTMState:
        return LSTMState(*[jnp.zeros(self.units, jnp.float32)] * 2)

    def step(self, inputs: Float[Array, " gates"], state: LSTMState) -> tuple[Float[Array, " units"], LSTMState]:
        i, f, o, u = jnp.split(inputs + multiplied(jnp.matmul, self.state_weight, state.h), 4)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(u)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return h, LSTMState(c, h)


class LayerNormLSTM(Gated):
    """An LSTM whose products with input and with state are each layer-normalised, as is the memory on its way out.

    Source: Ba et al. 2016, arXiv:1607.06450, supplement, equations 20 to 22; as in Baselines' lnlstm.
    """

    input_norm: eqx.nn.LayerNorm
    state_norm: eqx.nn.LayerNorm
    memory_norm: eqx.nn.LayerNorm

    def inputs(self, x: Float[Array, " features"]) -> Float[Array, " gates"]:
        return self.input_norm(multiplied(jnp.matmul, self.input_weight, x)) + self.bias

    def initial_state(self) -> LSTMState:
        return LSTMState(*[jnp.zeros(self.units, jnp.float32)] * 2)

    def step(self, inputs: Float[Array, " gates"], state: LSTMState) -> tuple[Float[Array, " units"], LSTMState]:
        i, f, o, u = jnp.split(inputs + self.state_norm(multiplied(jnp.matmul, self.state_weight, state.h)), 4)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(u)
        h = jax.nn.sigmoid(o) * jnp.tanh(self.memory_norm(c))
        return h, LSTMState(c, h)


class GRU(Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), reset gate after the product.

    r, z, n = W x + b,  r', z', n' = U h + (0, 0, b');  r, z = sigmoid(r + r'), sigmoid(z + z')
    h' = (1 - z) tanh(n + r n') + z h
    """

    candidate_bias: Float[Array, " units"]

    def initial_state(self) -> Float[Array, " units"]:
        return jnp.zeros(self.units, jnp.float32)

    def step(self, inputs: Float[Array, " gates"], state: Array) -> tuple[Float[Array, " units"], Array]:
        r, z, n = jnp.split(inputs, 3)
        state_r, state_z, state_n = jnp.split(multiplied(jnp.matmul, self.state_weight, state), 3)
        kept = jax.nn.sigmoid(z + state_z)
        candidate = jnp.tanh(n + jax.nn.sigmoid(r + state_r) * (state_n + self.candidate_bias))
        h = (1 - kept) * candidate + kept * state
        return h, h


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
    if isinstance(units, bool) or not isinstance(units, int | np.integer) or units < 1:
        raise ValueError(f"`{name}` (={units!r}) must be a whole number of at least 1, for example 128.")
    return int(units)


def _weights(input_shape: tuple[int, ...], units: int, gates: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """Weights of input and state, orthogonal with gain 1, and zero bias: Baselines'."""
    shapes = (gates * units, math.prod(input_shape)), (gates * units, units)
    weights = [orthogonal(shape, 1.0, key=one) for shape, one in zip(shapes, host_split(key, 2), strict=True)]
    return weights[0], weights[1], zeros(gates * units, key=key)


CELLS: dict[str, registry.Builder] = {"lstm": lstm, "lnlstm": lnlstm, "gru": gru}


# --- the two together ---------------------------------------------------------------------------------------------


def recurrent(trunk: object = None, cell: object = "lstm") -> registry.Builder:
    """The builder of a network with a memory: `learn(network=ppo2.networks.recurrent("mlp", "gru"), ngru=64)`.

    Args:
        trunk: the network between the observation and the cell, in any form that `network` takes; None flattens.
        cell: lstm, lnlstm or gru; or a builder, or a module, of a cell of your own (see `ppo2.networks.recurrent`'s
            module).

    The builder takes the arguments of both.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name, nor a builder, nor a network.
    """
    if isinstance(cell, str) and cell not in CELLS:
        raise ValueError(f"`cell` (={cell!r}) is unknown; known are {', '.join(CELLS)}, or pass a cell of your own.")
    cell_builder = CELLS[cell] if isinstance(cell, str) else registry.check(cell, "cell")
    trunk_builder = None if trunk is None else registry.check(trunk, "trunk")
    trunk_options, cell_options = ({} if of is None else registry.options(of) for of in (trunk_builder, cell_builder))
    both = set(trunk_options) & set(cell_options)
    if both:
        raise ValueError(f"`trunk` and `cell` both take `{min(both)}`: build one of the two beforehand.")

    def builder(**kwargs: Any) -> Callable[..., Recurrent]:
        cell_kwargs = {name: value for name, value in kwargs.items() if name in cell_options}
        trunk_kwargs = {name: value for name, value in kwargs.items() if name not in cell_options}

        def build(
            input_shape: tuple[int, ...],
            *,
            key: PRNGKeyArray,
            dtype: Any = jnp.float32,
            obs_encoding: int = ENCODING,
        ) -> Recurrent:
            trunk_key, cell_key = host_split(key, 2)
            made_trunk: registry.Network = flat
            features = math.prod(input_shape)
            if trunk is not None:
                more: dict[str, Any] = {"dtype": dtype, "obs_encoding": obs_encoding, "argument": "trunk"}
                made_trunk, features = registry.build(trunk, input_shape, trunk_kwargs, key=trunk_key, **more)
            made_cell: Any = cell
            if cell_builder is not None:
                made_cell = registry.shaped(cell_builder(**cell_kwargs), (features,), key=cell_key, dtype=jnp.float32)
            if not is_recurrent(made_cell):
                raise TypeError(f"`cell` (={made_cell!r}) has no initial_state().")
            return Recurrent(made_trunk, made_cell)

        return build

    _document(builder, [part for part in (trunk_builder, cell_builder) if part is not None])
    return builder


def _document(builder: Any, parts: list[registry.Builder]) -> None:
    """Gives a builder the signature, the types and the documentation of its parts together.

    `inspect` and `typing` look them up for errors and for the command line's options; a plain signature can't be
    written down, as any trunk may stand before any cell.
    """
    options = [p.replace(kind=p.KEYWORD_ONLY) for part in parts for p in registry.options(part).values()]
    docs = [inspect.getdoc(part) or part.__name__ for part in parts]
    titles = [doc.partition("\n")[0].rstrip(".") for doc in docs]
    title = ", then ".join(titles[:1] + [each[0].lower() + each[1:] for each in titles[1:]]) + "."
    arguments = [doc.partition("Args:\n")[2].partition("\n\n")[0] for doc in docs]
    builder.__signature__ = inspect.Signature(options)
    builder.__annotations__ = {name: hint for part in parts for name, hint in part.__annotations__.items()}
    builder.__name__ = "_".join(part.__name__ for part in parts) or "recurrent"
    builder.__qualname__ = f"recurrent({builder.__name__})"
    builder.__doc__ = "\n".join([title, "", "Args:", *filter(None, arguments)])

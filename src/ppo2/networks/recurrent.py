"""Networks with a memory: any trunk, then a cell that carries a state from step to step.

| member of a cell | shape | meaning |
|---|---|---|
| `initial_state()` | any pytree of float arrays | what an episode begins with |
| `cell(x, state)` | (features,), state -> (outputs,), state | one step of one environment |

A network of one's own that has these two members is taken as a cell without a trunk.
"""

import abc
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.networks import registry
from ppo2.networks.layers import as_float, orthogonal, zeros
from ppo2.numerics.randomness import host_split

State: TypeAlias = Any  # a pytree of float arrays


class Recurrent(eqx.Module):
    """A trunk that sees each observation alone, and a cell that remembers."""

    trunk: registry.Network
    cell: Any  # Gated, or what has the members of a cell

    def initial_state(self) -> State:
        state: State = self.cell.initial_state()
        return state

    def inputs(self, xs: PyTree[Shaped[Array, "B ..."]]) -> Shaped[Array, "B ..."]:
        """What steps need of a batch of observations; doesn't depend on the state."""
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
    inputs, step = _prepared(network, xs)
    found: tuple[Array, State] = jax.vmap(step)(inputs, state, episode_starts)
    return found


def unroll(
    network: Any, xs: PyTree[Shaped[Array, "BL ..."]], state: State, episode_starts: Bool[Array, "B L"]
) -> Float[Array, "BL features"]:
    """What a recurrent network gives at L steps of B environments, whose first states are `state`, (B, ...)."""
    inputs, step = _prepared(network, xs)  # all steps at once, where nothing depends on the state

    def one(
        inputs: PyTree[Shaped[Array, "L ..."]], state: State, episode_starts: Bool[Array, " L"]
    ) -> Float[Array, "L f"]:
        def next_step(state: State, now: tuple[Any, Array]) -> tuple[State, Array]:
            inputs, new = now
            out, state = step(inputs, state, new)
            return state, out

        outs: Array = jax.lax.scan(next_step, state, (inputs, episode_starts))[1]
        return outs

    inputs = jax.tree.map(lambda x: x.reshape(*episode_starts.shape, *x.shape[1:]), inputs)
    outs = jax.vmap(one)(inputs, state, episode_starts)
    return outs.reshape(-1, outs.shape[-1])


def _prepared(network: Any, xs: PyTree[Shaped[Array, "B ..."]]) -> tuple[Any, Callable[..., Any]]:
    """What the steps of a recurrent network need of observations, and one such step of one environment."""
    inputs, step = (network.inputs(xs), network.step) if isinstance(network, Recurrent) else (xs, network)

    def restarted(inputs: Any, state: State, episode_starts: Bool[Array, ""]) -> tuple[Array, State]:
        state = jax.tree.map(lambda new, old: jnp.where(episode_starts, new, old), network.initial_state(), state)
        out, after = step(inputs, state)
        return out, after

    return inputs, restarted


def flat(x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
    """A trunk that does nothing but flatten."""
    return as_float(x).ravel()


# --- cells --------------------------------------------------------------------------------------------------------


class Gated(eqx.Module):
    """A cell whose input is multiplied with weights before the state comes in."""

    input_weight: Float[Array, "gates features"]
    state_weight: Float[Array, "gates units"]
    bias: Float[Array, " gates"]

    @property
    def units(self) -> int:
        return self.state_weight.shape[1]

    def inputs(self, x: Float[Array, " features"]) -> Float[Array, " gates"]:
        """What a step needs of its input; doesn't depend on the state."""
        return self.input_weight @ x + self.bias

    @abc.abstractmethod
    def initial_state(self) -> State: ...

    @abc.abstractmethod
    def step(self, inputs: Float[Array, " gates"], state: State) -> tuple[Float[Array, " units"], State]:
        """The output and the next state."""


class Memory(NamedTuple):
    """The state of an LSTM, (units,) each."""

    c: Float[Array, " units"]
    h: Float[Array, " units"]


class LSTM(Gated):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000).

    i, f, o, u = W x + U h + b;  c' = sigmoid(f) c + sigmoid(i) tanh(u);  h' = sigmoid(o) tanh(c')
    """

    def initial_state(self) -> Memory:
        return Memory(jnp.zeros(self.units), jnp.zeros(self.units))

    def step(self, inputs: Float[Array, " gates"], state: Memory) -> tuple[Float[Array, " units"], Memory]:
        i, f, o, u = jnp.split(inputs + self.state_weight @ state.h, 4)
        c = _kept(i, f, u, state.c)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return h, Memory(c, h)

    @classmethod
    def made(cls, features: int, units: int, *, key: PRNGKeyArray) -> "LSTM":
        return cls(*_weights(features, units, 4, key=key))


class LayerNormLSTM(Gated):
    """An LSTM whose products with input and with state are each layer-normalised, as is the memory on its way out.

    Source: Ba et al. 2016, arXiv:1607.06450, supplement, equations 20 to 22; as in Baselines' lnlstm.
    """

    input_norm: eqx.nn.LayerNorm
    state_norm: eqx.nn.LayerNorm
    memory_norm: eqx.nn.LayerNorm

    def inputs(self, x: Float[Array, " features"]) -> Float[Array, " gates"]:
        return self.input_norm(self.input_weight @ x) + self.bias

    def initial_state(self) -> Memory:
        return Memory(jnp.zeros(self.units), jnp.zeros(self.units))

    def step(self, inputs: Float[Array, " gates"], state: Memory) -> tuple[Float[Array, " units"], Memory]:
        i, f, o, u = jnp.split(inputs + self.state_norm(self.state_weight @ state.h), 4)
        c = _kept(i, f, u, state.c)
        h = jax.nn.sigmoid(o) * jnp.tanh(self.memory_norm(c))
        return h, Memory(c, h)

    @classmethod
    def made(cls, features: int, units: int, *, key: PRNGKeyArray) -> "LayerNormLSTM":
        norms = (eqx.nn.LayerNorm(4 * units), eqx.nn.LayerNorm(4 * units), eqx.nn.LayerNorm(units))
        return cls(*_weights(features, units, 4, key=key), *norms)


class GRU(Gated):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), reset gate after the product.

    r, z, n = W x + b,  r', z', n' = U h + (0, 0, b');  r, z = sigmoid(r + r'), sigmoid(z + z')
    h' = (1 - z) tanh(n + r n') + z h
    """

    candidate_bias: Float[Array, " units"]

    def initial_state(self) -> Float[Array, " units"]:
        return jnp.zeros(self.units)

    def step(self, inputs: Float[Array, " gates"], state: Array) -> tuple[Float[Array, " units"], Array]:
        r, z, n = jnp.split(inputs, 3)
        state_r, state_z, state_n = jnp.split(self.state_weight @ state, 3)
        kept = jax.nn.sigmoid(z + state_z)
        candidate = jnp.tanh(n + jax.nn.sigmoid(r + state_r) * (state_n + self.candidate_bias))
        h = (1 - kept) * candidate + kept * state
        return h, h

    @classmethod
    def made(cls, features: int, units: int, *, key: PRNGKeyArray) -> "GRU":
        return cls(*_weights(features, units, 3, key=key), zeros(units, key=key))


def _kept(i: Array, f: Array, u: Array, c: Array) -> Array:
    return jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)


def _weights(features: int, units: int, gates: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
    """Orthogonal with gain 1, and zero bias: Baselines'."""
    input_key, state_key = host_split(key, 2)
    seen = orthogonal((gates * units, features), 1.0, key=input_key)
    kept = orthogonal((gates * units, units), 1.0, key=state_key)
    return seen, kept, zeros(gates * units, key=key)


def lstm(nlstm: int = 128) -> Callable[..., LSTM]:
    """A long short-term memory.

    Args:
        nlstm: units; usually 64 to 512.
    """
    return _maker(LSTM, "nlstm", nlstm)


def lnlstm(nlstm: int = 128) -> Callable[..., LayerNormLSTM]:
    """A layer-normalised long short-term memory.

    Args:
        nlstm: units; usually 64 to 512.
    """
    return _maker(LayerNormLSTM, "nlstm", nlstm)


def gru(ngru: int = 128) -> Callable[..., GRU]:
    """A gated recurrent unit.

    Args:
        ngru: units; usually 64 to 512.
    """
    return _maker(GRU, "ngru", ngru)


def _maker(kind: Any, name: str, units: Any) -> Callable[..., Any]:
    if isinstance(units, bool) or not isinstance(units, int | np.integer) or units < 1:
        raise ValueError(f"`{name}` (={units!r}) must be a whole number of at least 1, for example 128.")

    def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray) -> Any:
        return kind.made(int(np.prod(input_shape)), int(units), key=key)

    return build


CELLS: dict[str, registry.Builder] = {"lstm": lstm, "lnlstm": lnlstm, "gru": gru}


# --- the two together ---------------------------------------------------------------------------------------------


def recurrent(trunk: object = None, cell: object = "lstm") -> registry.Builder:
    """The builder of a network with a memory: `learn(network=ppo2.networks.recurrent("mlp", "gru"), ngru=64)`.

    Args:
        trunk: what sees each observation before the cell does, in any form that `network` takes; None flattens it.
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
        def build(input_shape: tuple[int, ...], *, key: PRNGKeyArray, dtype: Any = jnp.float32) -> Recurrent:
            trunk_key, cell_key = host_split(key, 2)
            seen: Any = jax.ShapeDtypeStruct(input_shape, dtype)
            features = jax.eval_shape(flat, seen).shape[0]
            made_trunk: registry.Network = flat
            if trunk is not None:
                given = {name: value for name, value in kwargs.items() if name not in cell_options}
                made_trunk, features = registry.build(
                    trunk, input_shape, given, key=trunk_key, dtype=dtype, argument="trunk"
                )
            given = {name: value for name, value in kwargs.items() if name in cell_options}
            made_cell: Any = (
                cell
                if cell_builder is None
                else registry.shaped(cell_builder(**given), (features,), key=cell_key, dtype=jnp.float32)
            )
            if not is_recurrent(made_cell):
                raise TypeError(f"`cell` (={made_cell!r}) has no initial_state().")
            return Recurrent(made_trunk, made_cell)

        return build

    _describe(builder, [part for part in (trunk_builder, cell_builder) if part is not None])
    return builder


def _describe(builder: Any, parts: list[registry.Builder]) -> None:
    """Gives a builder the signature, the types and the documentation of its parts, for errors and the command line."""
    options = {name: p for part in parts for name, p in registry.options(part).items()}
    documents = [inspect.getdoc(part) or part.__name__ for part in parts]
    titles = [text.partition("\n")[0].rstrip(".") for text in documents]
    arguments = [text.partition("Args:\n")[2].partition("\n\n")[0] for text in documents]
    builder.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in options.values()])
    builder.__annotations__ = {name: hint for part in parts for name, hint in part.__annotations__.items()}
    builder.__name__ = "_".join(part.__name__ for part in parts) or "recurrent"
    builder.__qualname__ = f"recurrent({builder.__name__})"
    later = [title[0].lower() + title[1:] for title in titles[1:]]
    builder.__doc__ = "\n".join([f"{', then '.join(titles[:1] + later)}.", "", "Args:", *filter(None, arguments)])

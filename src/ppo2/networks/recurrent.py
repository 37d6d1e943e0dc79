"""Networks with a memory: any trunk, then a cell that carries a state from step to step.

| member of a cell | shape | meaning |
|---|---|---|
| `initial_state()` | any pytree of float arrays | the state that an episode begins with |
| `cell(x, state)` | (features,), state -> (outputs,), state | one step of one environment |

A user's network with these two members is taken as a cell without a trunk.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.networks import registry, sequences
from ppo2.networks.cells import CELLS, Gated, State
from ppo2.networks.layers import as_float, weighted_by_row
from ppo2.numerics.pieces import merge_leading_axes
from ppo2.numerics.randomness import host_split
from ppo2.spaces import ENCODING


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
        if not isinstance(self.cell, Gated):
            return features
        return jax.vmap(self.cell.from_product)(weighted_by_row(self.cell.input_weight, features))

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
    if isinstance(network, Recurrent) and isinstance(network.cell, Gated):
        return merge_leading_axes(sequences.run(network.cell, inputs, state, episode_starts))

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

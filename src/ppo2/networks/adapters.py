"""Networks of other libraries: Flax modules and Keras models as networks of ours.

| given | its weights at the start | what `unwrap()` gives back |
|---|---|---|
| `flax.linen.Module` | its initialisers', from the policy's key | `(module, {"params": ...})`, for `module.apply` |
| `flax.nnx.Module` | those that it has | another such module, with the trained weights |
| `keras.Model` on JAX | those that it has | the very model, its weights set to the trained ones |

A Keras model that isn't built yet is built, with Keras' own randomness. Training itself changes no object that was
given. Losses of a network's own, such as Keras' regularisers, are not learned from.

They are called as their libraries do, on a batch: (1, *input_shape) -> (1, features); `vmap` makes that as cheap as a
whole batch. Observations come as networks of ours see them, so images are 8-bit integers, 0 to 255.

Nothing here imports a library: whoever has an object of one has imported it.
"""

import abc
import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

BASES = {"flax.linen": "Module", "flax.nnx": "Module", "keras.layers": "Layer"}
"""Base classes of networks, by the modules that hold them."""


def library(x: object) -> str | None:
    """The module of BASES that `x` is an object of; None if it is of none."""
    for name, base_name in BASES.items():
        base = getattr(sys.modules.get(name), base_name, None)
        if isinstance(base, type) and isinstance(x, base):
            return name
    return None


def has_weights(x: object) -> bool:
    """True for an object of another library that comes with its weights."""
    return library(x) in ("flax.nnx", "keras.layers")


class Adapted(eqx.Module):
    """Another library's network. Its weights are its leaves of floats."""

    @abc.abstractmethod
    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]: ...

    @abc.abstractmethod
    def unwrap(self) -> Any:
        """The library's own object, with these weights: `model.policy.trunk.unwrap()` after training."""


class LinenNetwork(Adapted):
    params: PyTree[Array]
    module: Any = eqx.field(static=True)

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        return _only(self.module.apply({"params": self.params}, x[None]))

    def unwrap(self) -> tuple[Any, dict[str, PyTree[Array]]]:
        return self.module, {"params": self.params}


class NNXNetwork(Adapted):
    params: PyTree[Array]
    rngs: PyTree[Array]  # never drawn from, but part of the module
    graphdef: Any = eqx.field(static=True)

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        return _only(self.unwrap()(x[None]))

    def unwrap(self) -> Any:
        return importlib.import_module("flax.nnx").merge(self.graphdef, self.params, self.rngs)


class KerasNetwork(Adapted):
    weights: list[Array]
    reference: "_Reference"  # a leaf, because models share compiled programs only if their leaves can be hashed

    def __call__(self, x: Shaped[Array, "*shape"]) -> Float[Array, " features"]:
        return _only(self.reference.model.stateless_call(self.weights, [], x[None])[0])

    def unwrap(self) -> Any:
        for variable, weight in zip(self.reference.model.trainable_variables, self.weights, strict=True):
            variable.assign(weight)
        return self.reference.model


class _Reference:
    """A Keras model, which may change between two trainings: equal to itself alone and without a hash."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return self is other


def adapt(network: Any, obs: jax.ShapeDtypeStruct, what: str, *, key: PRNGKeyArray) -> Any:
    """The network as one of ours, for observations like `obs`; itself if it is of no other library.

    Raises:
        ValueError: it can't be called on such an observation, or has state besides its weights.
    """
    match library(network):
        case "flax.linen":
            return _linen(network, obs, what, key)
        case "flax.nnx":
            return _nnx(network, obs, what)
        case "keras.layers":
            return _keras(network, obs, what)
    return network


@contextlib.contextmanager
def trial(what: str, obs: PyTree[jax.ShapeDtypeStruct], batched: bool) -> Iterator[None]:
    """Context that adds to an error in a network's code the observation that the network was called on."""
    shape = jax.tree.map(lambda x: x.shape, obs)
    try:
        yield
    except Exception as error:
        one = f"Flax and Keras see a batch of one, {(1, *shape)}"
        sees = one if batched else "networks see one observation at a time, without batch axis"
        raise ValueError(f"{what} can't be called on one observation of shape {shape} ({sees}): {error}") from error


def _linen(module: Any, obs: jax.ShapeDtypeStruct, what: str, key: PRNGKeyArray) -> LinenNetwork:
    with trial(what, obs, batched=True):
        variables = dict(module.init(key, jnp.zeros((1, *obs.shape), obs.dtype)))
    network = LinenNetwork(variables.pop("params", {}), module)
    if variables:
        raise _stateful(what, f"the collections {', '.join(variables)}", "nn.LayerNorm and nn.GroupNorm have no state.")
    draws = False
    with trial(what, obs, batched=True):
        try:
            eqx.filter_eval_shape(network, obs)
        except importlib.import_module("flax.errors").InvalidRngError:
            draws = True
    if draws:
        raise _stateful(what, "a source of randomness (dropout)", "Switch it off: nn.Dropout(..., deterministic=True).")
    return network


def _nnx(module: Any, obs: jax.ShapeDtypeStruct, what: str) -> NNXNetwork:
    nnx: Any = importlib.import_module("flax.nnx")
    graphdef, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    others = list(nnx.to_flat_state(states[2]))
    if others:
        path, variable = others[0]
        raise _stateful(
            what,
            f"{'.'.join(map(str, path))}, of type {type(variable).__name__}",
            "Only nnx.Param is trained; nnx.LayerNorm and nnx.GroupNorm have no state.",
        )
    params, rngs = (jax.tree.map(jnp.array, nnx.to_pure_dict(state)) for state in states[:2])
    network = NNXNetwork(params, rngs, graphdef)
    with trial(what, obs, batched=True):
        draws = _nnx_draws(nnx, network, obs)
    if draws:
        raise _stateful(what, "a source of randomness (dropout)", "Its `eval()` switches dropout off.")
    return network


def _nnx_draws(nnx: Any, network: NNXNetwork, obs: jax.ShapeDtypeStruct) -> bool:
    """True if a call draws from the module's random streams: it leaves them at another place."""
    moved: list[bool] = []

    def call(network: NNXNetwork, x: Array) -> None:
        module = network.unwrap()
        module(x[None])
        after = nnx.to_pure_dict(nnx.state(module, nnx.RngState))
        moved.extend(new is not old for new, old in zip(*map(jax.tree.leaves, (after, network.rngs)), strict=True))

    eqx.filter_eval_shape(call, network, obs)
    return any(moved)


def _keras(model: Any, obs: jax.ShapeDtypeStruct, what: str) -> KerasNetwork:
    keras: Any = importlib.import_module("keras")
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            f"{what} runs on {backend}, but must on JAX: Keras 3, with the environment variable KERAS_BACKEND=jax set "
            "before keras is imported."
        )
    if not model.built:
        with trial(what, obs, batched=True):
            model(keras.KerasTensor((None, *obs.shape), str(obs.dtype)))
    if model.non_trainable_variables:
        raise _stateful(
            what,
            ", ".join(variable.path for variable in model.non_trainable_variables),
            "Leave out Dropout, put LayerNormalization or GroupNormalization in place of BatchNormalization, and let "
            "all layers be trainable.",
        )
    return KerasNetwork([jnp.array(variable.value) for variable in model.trainable_variables], _Reference(model))


def _stateful(what: str, state: str, remedy: str) -> ValueError:
    return ValueError(f"{what} has {state}; a network may have nothing but weights, all of them trained. {remedy}")


def _only(out: PyTree[Array]) -> Array:
    """The output for the only observation of a batch."""
    for leaf in jax.tree.leaves(out):
        if jnp.shape(leaf)[:1] != (1,):
            raise ValueError(f"it gives {jnp.shape(leaf)}, whose first axis is not the batch.")
    one: Array = jax.tree.map(lambda leaf: leaf[0], out)  # many, if the network gives many: `build` refuses that
    return one

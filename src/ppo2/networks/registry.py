"""Builders by name, and what `network=` and `value_network=` may be.

| term | is | given by the user as |
|---|---|---|
| network | one observation (*input_shape) -> (features,); an `equinox.Module` | itself |
| its `on_batch` | (B, *input_shape) -> (B, features); optional, where that is faster than `vmap` | its method |
| recurrent network | observation, state -> (features,), state; and `initial_state()` | itself |
| another library's | a Flax module or a Keras model: see `ppo2.networks.adapters` | itself, or what a builder returns |
| function of the shape | `fn(input_shape)` or `fn(input_shape, *, key)` -> network | what a builder returns |
| builder | `builder(**network_kwargs)` -> function of the shape, or the network at once | itself, or its name |
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, Shaped

from ppo2.networks import adapters
from ppo2.spaces import ENCODING

Network: TypeAlias = Callable[..., Any]
Builder: TypeAlias = Callable[..., Any]
B = TypeVar("B", bound=Builder)

_builders: dict[str, Builder] = {}


def register(name: str) -> Callable[[B], B]:
    """Makes a builder known by `name` (a decorator): `learn(network=name, **network_kwargs)`.

    The builder takes the network's keyword arguments and returns a function of the input's shape that returns the
    network; where that function has a parameter `key`, it gets a JAX random key to initialise with; with `dtype`, that
    of its input; with `obs_encoding`, the number of the rules that encoded it (see `ppo2.spaces.images`).

    Raises:
        ValueError: another builder has the name already.
    """

    def decorate(builder: B) -> B:
        before = _builders.get(name)
        if before is not None and _origin(before) != _origin(builder):  # the same one again: a notebook's cell
            raise ValueError(f"a network named {name!r} is registered already ({_origin(before)}).")
        _builders[name] = builder
        return builder

    return decorate


def _origin(builder: Builder) -> str:
    named = getattr(builder, "func", builder)  # of a functools.partial
    return f"{named.__module__}.{getattr(named, '__qualname__', type(named).__qualname__)}"


def known() -> dict[str, Builder]:
    """The registered builders, by name."""
    return dict(sorted(_builders.items()))


def options(builder: Builder) -> dict[str, inspect.Parameter]:
    """The keyword arguments that a builder takes, by name."""
    parameters = inspect.signature(builder).parameters
    return {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def check(network: object, name: str = "network") -> Builder | None:
    """The builder that an argument means; None if it is a network already.

    Raises:
        ValueError: no network has this name.
        TypeError: neither a name, nor a builder, nor a network.
    """
    if isinstance(network, str):
        if network not in _builders:
            raise ValueError(
                f"`{name}` (={network!r}): unknown network type{_hint(network, _builders, '{!r}')} Known are "
                f"{', '.join(known())}; add your own with @ppo2.register(name), or pass a builder or a network."
            )
        return _builders[network]
    if isinstance(network, eqx.Module):
        if not callable(network):
            raise TypeError(f"`{name}` ({type(network).__name__}) is an equinox.Module without __call__.")
        return None
    if adapters.library(network) is not None:
        return None
    if callable(network):
        return network
    raise TypeError(
        f"`{name}` (={network!r}) must be a name ({', '.join(known())}), a builder: builder(**network_kwargs) -> "
        "fn(input_shape) -> network, or a network: an equinox.Module, a Flax module or a Keras model."
    )


def _check_options(builder: Builder, kwargs: Mapping[str, Any], name: str) -> None:
    """Raises ValueError for keyword arguments that the builder doesn't take."""
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values()):
        return
    taken = options(builder)
    for key in kwargs:
        if key not in taken:
            names = ", ".join(f"`{option}`" for option in taken) or "none"
            raise ValueError(
                f"`{key}` (={kwargs[key]!r}) is no argument of learn() nor of the network {name!r}, which takes {names}"
                f"{_hint(key, taken, '`{}`')}"
            )


def _hint(name: str, known: Iterable[str], form: str) -> str:
    """The end of an error about an unknown name: the known one that is nearest to it, if any is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {form.format(close[0])}?" if close else "."


def build(
    network: object,
    input_shape: tuple[int, ...],
    kwargs: Mapping[str, Any],
    *,
    key: PRNGKeyArray,
    dtype: DTypeLike = jnp.float32,
    argument: str = "network",
    obs_encoding: int = ENCODING,
) -> tuple[Network, int]:
    """The network that an argument means, for one observation of some shape and dtype, and the number of its features.

    Raises:
        ValueError: an unknown name, an unknown keyword argument, keyword arguments for a ready network, or a network
            that doesn't map one observation to a vector of floats, or has state besides its weights.
        TypeError: see `check`.
    """
    builder = check(network, argument)
    called = network if isinstance(network, str) else getattr(network, "__name__", type(network).__name__)
    what = f"`{argument}` ({called})"
    if builder is None:
        if kwargs:
            raise ValueError(f"`{next(iter(kwargs))}`: a ready {argument} ({called}) takes no network arguments.")
        made = network
    else:
        _check_options(builder, kwargs, called)
        _check_call(builder, (), kwargs, what)
        made = builder(**kwargs)
        if not _is_ready(made):
            _check_call(made, (input_shape,), {}, f"what {what} gave", ("key", "dtype", "obs_encoding"))
        made = shaped(made, input_shape, key=key, dtype=dtype, obs_encoding=obs_encoding)
    obs = jax.ShapeDtypeStruct(input_shape, dtype)
    made = adapters.adapt(made, obs, what, key=key)
    if not callable(made):
        raise TypeError(f"{what} gave {made!r}, which is no network: it can't be called.")
    return made, features(made, obs, what)


def apply(network: Network, inputs: PyTree[Shaped[Array, "B ..."]]) -> Float[Array, "B features"]:
    """The features of a batch of observations."""
    features: Array = getattr(network, "on_batch", jax.vmap(network))(inputs)
    return features


def shaped(made: Any, input_shape: tuple[int, ...], **more: Any) -> Any:
    """The network: `made` itself, or the result of `made`, called with the shape and the part of `more` it takes."""
    if _is_ready(made):
        return made
    taken = inspect.signature(made).parameters
    return made(input_shape, **{name: value for name, value in more.items() if name in taken})


def _is_ready(made: Any) -> bool:
    return isinstance(made, eqx.Module) or adapters.library(made) is not None or not callable(made)


def _check_call(
    function: Any, given: tuple[Any, ...], kwargs: Mapping[str, Any], what: str, more: tuple[str, ...] = ()
) -> None:
    """Raises ValueError where a function can't be called in the way that a network is made."""
    signature = inspect.signature(function)
    try:
        signature.bind(*given, **kwargs, **{name: None for name in more if name in signature.parameters})
    except TypeError as error:
        raise ValueError(
            f"{what} can't be called as a builder is: {error}. A builder takes network arguments by name and returns "
            "fn(input_shape) -> network, or fn(input_shape, *, key)."
        ) from None


def features(network: Network, obs: PyTree[jax.ShapeDtypeStruct], what: str) -> int:
    """The number of features that a network gives for one observation.

    Raises:
        ValueError: it can't be called, or gives no vector of floats.
    """
    state = getattr(network, "initial_state", None)
    if state is not None and not jax.tree.leaves(eqx.filter_eval_shape(state)):
        raise ValueError(
            f"{what}: initial_state() gives no array. A network without a memory has no such method; one with a memory "
            "returns what it begins with."
        )
    with adapters.trial(what, obs, batched=isinstance(network, adapters.Adapted)):
        if state is None:
            out = eqx.filter_eval_shape(network, obs)
        else:
            before = eqx.filter_eval_shape(state)
            out, after = eqx.filter_eval_shape(network, obs, state())
            if not eqx.tree_equal(before, after):
                raise ValueError(
                    f"its state changes from {before} to {after}; it must keep structure, shapes and dtypes."
                )
    is_vector = isinstance(out, jax.ShapeDtypeStruct) and out.ndim == 1
    if is_vector and jnp.issubdtype(out.dtype, jnp.floating):
        return int(out.shape[0])
    shapes = jax.tree.map(lambda x: getattr(x, "shape", x), out)
    found = f"{shapes} of {out.dtype}, which is no float," if is_vector else shapes
    seen = jax.tree.map(lambda x: x.shape, obs)
    raise ValueError(f"{what} gives {found} for one observation of shape {seen}; it must give one vector of features.")

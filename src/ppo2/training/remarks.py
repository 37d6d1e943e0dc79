"""Warnings before the first update: what trains on something else than was meant, by what is declared."""

import inspect
import itertools
import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import jax
import numpy as np

from ppo2 import networks, spaces
from ppo2.agent.model import Model
from ppo2.config import Config, secrets
from ppo2.envs import AnyEnvs
from ppo2.networks.adapters import Adapted
from ppo2.networks.encoders import Encoded, Encoders
from ppo2.networks.mlp import MLP
from ppo2.networks.recurrent import Recurrent, flat
from ppo2.system import processors, runtime

MOST_CLIPPED = 0.9
"""Share of a fresh policy's actions, of mean 0 and standard deviation 1, up to which clipping them is usual: 0.32 of
[-1, 1], 0.66 of [0, 1], 0.69 of [-0.4, 0.4]; 0.977 of [2, 3]."""
REACH = 3.0
"""Standard deviations within which nearly all of its actions are."""
LEAST_REACHED = 0.2
"""Share of a range that must be within reach, else it is too wide: 0.3 of [-10, 10], 0.01 of [0, 255]."""

NORMALISERS = {"NormalizeObservation": "normalize_obs=True", "NormalizeReward": "normalize_rewards=True"}
"""Names of classes that keep running statistics of their own, and what to set instead."""
VEC_NORMALIZE = "VecNormalize"
"""Name of the class that keeps both, in other libraries."""
MOST_WRAPPERS = 100
"""Wrappers around one another that are looked into."""


def at_start(config: Config, model: Model, env: AnyEnvs, *, fresh: bool) -> list[str]:
    """Warnings about a training that begins, a line each.

    Args:
        fresh: the model was never trained: its policy acts around 0.
    """
    found = [*_settings(), *_secrets(config), *_normalisers(env), *_statistics(config, model)]
    found += [*_flattened_image(config, model), *_flattened_images(model), *_products(config, model)]
    if fresh and config.action_dist == "gaussian":
        found += out_of_reach(model.action_space)
    return [f"warning: {line}" for line in found]


def fewer_devices(model: Model) -> str:
    """A line where a run goes on with fewer CPU devices than its minibatches were divided among; "" elsewhere."""
    if not model.lacks_devices:
        return ""
    return (
        f"this run divided its minibatches among {model.most_parts} CPU devices, and there are fewer here: its last "
        f"bits may differ; with JAX_NUM_CPU_DEVICES={model.most_parts} they don't"
    )


def _named_leaves(space: spaces.AnySpace) -> list[tuple[str, spaces.AnySpace]]:
    """The parts of a space with their paths, as `encoders` has them; "" of a single array."""
    found = jax.tree.leaves_with_path(spaces.tree(space))
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in found]


def _settings() -> Iterator[str]:
    """A line about JAX, if it started before it could be set up."""
    if runtime.came_too_late():
        yield (
            "something was computed with JAX before the first call of ppo2, which therefore left JAX's settings alone: "
            "on CPU acting takes up to twice as long; call `ppo2.configure_runtime()` right after the imports (or set "
            "PPO2_CONFIGURE=0, which leaves them alone without this line)"
        )


def _secrets(config: Config) -> Iterator[str]:
    """A line about options of trackers that aren't saved."""
    found = [name for name in secrets.in_settings(vars(config)) if name.startswith(secrets.LOG_OPTIONS)]
    if found:
        yield (
            f"{', '.join(found)} holds what looks like a secret: it is used now, but not saved, neither with the run "
            "nor with its policy; give it again when the run continues, best in the tracker's own environment variable"
        )


# --- actions ------------------------------------------------------------------------------------------------------


def out_of_reach(actions: spaces.AnySpace) -> Iterator[str]:
    """Lines about bounds of actions that a Gaussian around 0 can't reach."""
    for path, space in _named_leaves(actions):
        if not isinstance(space, gym.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
            continue
        pairs = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
        low, high = next((pair for pair in pairs if not _can_reach(*pair)), (None, None))
        if low is None or high is None:
            continue
        part = f" ({path!r})" if path else ""
        remedy = (
            'take `action_dist="squashed_gaussian"`, which begins in their middle'
            if space.is_bounded() and np.all(space.low < space.high)
            else "rescale the actions in the environment (gymnasium.wrappers.TransformAction)"
        )
        yield (
            f"the actions{part} have the bounds [{low:g}, {high:g}], but a Gaussian policy begins with mean 0 and "
            f"standard deviation 1: {_trouble(low, high)}; {remedy}"
        )


def _clipped(low: float, high: float) -> float:
    """The share of a standard normal variable beyond two bounds."""
    return 1 - (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2


def _reached(low: float, high: float) -> float:
    """The share of a range within reach of 0; 1 of one without end."""
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        return 1.0
    return max(0.0, min(high, REACH) - max(low, -REACH)) / (high - low)


def _can_reach(low: float, high: float) -> bool:
    return low >= high or (_clipped(low, high) <= MOST_CLIPPED and _reached(low, high) >= LEAST_REACHED)


def _trouble(low: float, high: float) -> str:
    share = _clipped(low, high)
    if share > MOST_CLIPPED:
        return f"{share:.0%} of its actions are clipped to a bound"
    return f"it reaches {_reached(low, high):.1%} of that range"


# --- observations -------------------------------------------------------------------------------------------------


def _statistics(config: Config, model: Model) -> Iterator[str]:
    """A line where `normalize_obs` has nothing to normalise."""
    if config.normalize_obs and not jax.tree.leaves(model.state.normaliser.obs):
        which = "of floats, in a model that began under an older version" if model.encoding == 1 else "that is no image"
        yield (
            f"`normalize_obs` (=True) changes nothing: it has statistics of a Box {which}, and these observations are "
            f"{spaces.unmasked(model.observation_space)}"
        )


def _flattened_image(config: Config, model: Model) -> Iterator[str]:
    """A line about observations that are images, and no convolutional network sees."""
    space = spaces.unmasked(model.observation_space)
    name = networks.for_images(space.shape or ()) if spaces.looks_like_image(space) else None
    trunks = [trunk.trunk if isinstance(trunk, Recurrent) else trunk for trunk in _trunks(model)]
    if name is None or not any(trunk is flat or isinstance(trunk, MLP) for trunk in trunks):
        return
    given = config.network if isinstance(config.network, str) else type(trunks[0]).__name__
    yield (
        f"`network` (={given!r}) takes observations that look like images, of shape {space.shape}, for "
        f"{math.prod(space.shape or ()):,} numbers without places, with {model.state.params.size:,} parameters in all: "
        f"network={_with_memory(name, given)!r} sees what is side by side"
    )


def _with_memory(name: str, given: str) -> str:
    """The convolutional network to take in place of another, with the same memory where there is one."""
    return f"{name}_{given}" if f"{name}_{given}" in networks.known() else name


def _flattened_images(model: Model) -> Iterator[str]:
    """Lines about images among the parts of an observation that no convolutional network encodes."""
    named = _named_leaves(spaces.unmasked(model.observation_space))
    leaves = jax.tree.leaves(_trunks(model), is_leaf=lambda x: isinstance(x, Encoders))
    encoders = [leaf for leaf in leaves if isinstance(leaf, Encoders)]
    for number, (path, space) in enumerate(named):
        if spaces.looks_like_image(space) and any(front.parts[number] is flat for front in encoders):
            name = networks.for_images(space.shape or ())
            yield (
                f"the part {path!r} of observations, which looks like an image {space.shape}, is flattened: images get "
                "a convolutional network where they are declared 0..255 and are large enough; "
                + (f'`encoders={{{path!r}: "{name}"}}` sets one' if name else "this one is too small for `cnn_small`")
            )


# --- products -----------------------------------------------------------------------------------------------------


def _products(config: Config, model: Model) -> Iterator[str]:
    """Lines about a precision of products that isn't had here."""
    if config.precision == "tf32" and model.placement.saved()["learn"] == "cpu":
        yield (
            "`precision` (='tf32') changes nothing on the CPU, where this run learns in float32: NVIDIA's cards have "
            "TF32; 'bf16' rounds everywhere"
        )
    if config.precision == "bf16" and model.placement.saved()["learn"] == "cpu" and processors.lacks_bfloat16_tiles():
        yield (
            "`precision` (='bf16') is slower than 'float32' on this processor, which has no AMX: leave it out unless "
            "its rounding is what you want"
        )
    own = dict.fromkeys(part for trunk in _trunks(model) for part in _with_products_of_their_own(trunk))
    if config.precision == "bf16" and own:
        yield (
            f"`precision` (='bf16') reaches the networks of this library; {', '.join(own)} makes its own products, as "
            "JAX does here by default: let it compute in jnp.bfloat16 itself"
        )


def _trunks(model: Model) -> list[Any]:
    """The networks of a policy, with NumPy's arrays: JAX would compile a program for each shape of theirs."""
    params: Any = np.asarray(model.state.params)
    policy = model.policy_of(params)
    return [trunk for trunk in (policy.trunk, policy.value_trunk) if trunk is not None]


def _with_products_of_their_own(network: Any) -> Iterator[str]:
    """Names of the parts of a network that are users' or another library's."""
    if isinstance(network, Recurrent):
        parts = [network.trunk, network.cell]
    elif isinstance(network, Encoded):
        parts = [network.encoders, network.network]
    elif isinstance(network, Encoders):
        parts = network.parts
    else:
        kind = network if inspect.isfunction(network) else type(network)
        if isinstance(network, Adapted) or not kind.__module__.startswith("ppo2.networks."):
            yield kind.__name__
        return
    for part in parts:
        yield from _with_products_of_their_own(part)


# --- wrappers -----------------------------------------------------------------------------------------------------


def _normalisers(env: AnyEnvs) -> Iterator[str]:
    """Lines about wrappers that keep statistics of their own."""
    names = sorted(set(_class_names(env)))
    for name, remedy in NORMALISERS.items():
        if name in names:
            yield _own_statistics(name, remedy)
    if VEC_NORMALIZE in names:
        yield _own_statistics(VEC_NORMALIZE, " and ".join(NORMALISERS.values()))


def _own_statistics(name: str, remedy: str) -> str:
    return (
        f"`env` has a wrapper {name}, whose statistics are not saved with the model, so that it acts wrongly once "
        f"loaded; those of `{remedy}` are: leave the wrapper out"
    )


def _class_names(env: Any) -> Iterator[str]:
    """Names of the classes, with those that they derive from, of an environment and of all inside it."""
    for _ in range(MOST_WRAPPERS):
        yield from (kind.__name__ for kind in type(env).__mro__)
        inner = getattr(env, "envs", None)
        if isinstance(inner, list | tuple):
            for one in itertools.islice(inner, 1):  # they are alike
                yield from _class_names(one)
        # in other processes only the descriptions of environments can be seen
        specs = env.get_attr("spec")[:1] if isinstance(env, gym.vector.AsyncVectorEnv) else ()
        for spec in specs:
            yield from (wrapper.name for wrapper in getattr(spec, "additional_wrappers", ()))
        env = getattr(env, "env", None) or getattr(env, "venv", None)
        if env is None:
            return

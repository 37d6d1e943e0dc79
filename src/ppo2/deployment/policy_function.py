"""A model's policy as a function of named arrays, for a batch of any size.

| input | shape | is there if |
|---|---|---|
| `obs`, or `obs.PART` of each part of a Dict or Tuple | (batch, ...) | always |
| `action_mask`, or `action_mask.PART` | (batch, n) | observations bring a mask of legal actions |
| `state.PART` | (batch, ...) | the policy is recurrent |
| `episode_starts` | (batch,) | the policy is recurrent: the state starts anew where this is true |

| output | shape | is |
|---|---|---|
| `action`, or `action.PART` | (batch, ...) | the most probable action, a member of the action space |
| `value` | (batch,) | V of the observation |
| `logits` or `mean` and `log_std`, with `.PART` of parts | (batch, k) | the distribution that `action` is the mode of |
| `next_state.PART` | (batch, ...) | of a recurrent policy, `state` for the next step |
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ppo2 import spaces
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import relative
from ppo2.distributions import ActionDistribution, Distribution, Joint, JointActions

Named = dict[str, Any]

OUTPUTS = ("action", "value", "logits", "mean", "log_std")
"""Kinds of outputs, in order; those of distributions that others write, and states, come after them."""


class Argument(NamedTuple):
    """An input or output: shape of one observation's part of it, and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class PolicyFunction:
    """The policy of a model, and the names of what goes in and comes out.

    Attributes:
        inputs: by name, with the dtypes that the environment gives.
        on_device: the same with the dtypes that they have on a device, without 64 bits.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        space = model.observation_space
        self._state = model.initial_state(1)
        self._obs_names = _names("obs", spaces.tree(space))
        if spaces.is_masked(space):
            parts = {"observation": "obs", "action_mask": "action_mask"}
            self._obs_names = {key: _names(name, spaces.tree(space)[key]) for key, name in parts.items()}
        self._state_names = tuple(map(_names, ("state.policy", "state.value"), self._state or ()))
        own = jax.tree.map(lambda leaf: Argument(leaf.shape or (), np.dtype(leaf.dtype)), spaces.tree(space))
        on_device = jax.tree.map(lambda x: Argument(x.shape, x.dtype), spaces.zeros(space, ()))
        self.inputs = self._with_state(self.named_obs(own))
        self.on_device = self._with_state(self.named_obs(on_device))

    def named_obs(self, obs: Any) -> Named:
        """Observations, or what belongs to each of their parts, by the names of the inputs."""
        if not spaces.is_masked(self.model.observation_space):
            return named("obs", obs)
        return named("obs", obs["observation"]) | named("action_mask", obs["action_mask"])

    def named_state(self, state: Any, name: str = "state") -> Named:
        """A recurrent state by names."""
        policy, value = state
        return named(f"{name}.policy", policy) | named(f"{name}.value", value)

    def next_state(self, outputs: Named) -> Any:
        """The state among named outputs, for the next step; None without memory."""
        if self._state is None:
            return None
        return jax.tree.map(lambda name: outputs[f"next_{name}"], self._state_names)

    def _with_state(self, inputs: Named) -> Named:
        if self._state is None:
            return inputs
        state = jax.tree.map(lambda x: Argument(x.shape[1:], x.dtype), self._state)
        return inputs | self.named_state(state) | {"episode_starts": Argument((), np.dtype(bool))}

    def structured(self, inputs: Named) -> tuple[Any, Any, Any]:
        """Observations, recurrent state and episode starts, of named inputs."""
        obs = jax.tree.map(lambda name: inputs[name], self._obs_names)
        state = None if self._state is None else jax.tree.map(lambda name: inputs[name], self._state_names)
        return obs, state, inputs.get("episode_starts")

    # --- the function, in three parts -------------------------------------------------------------------------------

    def narrowed(self, inputs: Named) -> Named:
        """Inputs of the environment's dtypes as they are on a device; to be traced with 64 bits."""
        origins = self.model.state.normaliser.origins()

        def one(obs: Any) -> Any:
            return spaces.on_device(self.model.observation_space, relative(origins, obs))

        return inputs | self.named_obs(jax.vmap(one)(self.structured(inputs)[0]))

    def decided(self, learned: Any, inputs: Named) -> tuple[Any, Named]:
        """The actions, as the distribution gives them, and all other outputs, for a batch.

        Observation by observation under `vmap`, so that nothing in a network depends on the size of the batch.

        Args:
            learned: parameters and normaliser.
        """

        def one(inputs: Named) -> tuple[Any, Named]:
            found: tuple[Any, Named] = self.decided_at_once(learned, jax.tree.map(lambda x: x[None], inputs))
            return jax.tree.map(lambda x: x[0], found)  # type: ignore[no-any-return]

        found: tuple[Any, Named] = jax.vmap(one)(inputs)
        return found

    def decided_at_once(self, learned: Any, inputs: Named) -> tuple[Any, Named]:
        """`decided` without `vmap`, as the model itself does."""
        params, normaliser = learned
        distribution, values, after = self.model.policy_of(params)(normaliser, *self.structured(inputs))
        count = values.shape[0]
        parts = list(_numbers(distribution))
        paths = list(dict.fromkeys(path for _, path, _ in parts))
        ends = dict(zip(paths, joined("", paths), strict=True))
        numbers = {f"{name}{ends[path]}": jnp.broadcast_to(x, (count, x.shape[-1])) for name, path, x in parts}
        states = {} if after is None else self.named_state(after, "next_state")
        return distribution.mode(), {"value": values, **numbers, **states}

    def actions(self, actions: Any) -> Named:
        """Actions of the distribution as the environment wants them; to be traced with 64 bits."""
        to_environment = functools.partial(_to_environment, self.model.distribution)
        return named("action", jax.vmap(to_environment)(actions))


def named(name: str, tree: Any) -> Named:
    """The leaves of a tree of dicts, tuples and records by name: `obs`, or `obs.arm.angles` of a part."""
    return dict(zip(jax.tree.leaves(_names(name, tree)), jax.tree.leaves(tree, is_leaf=_is_argument), strict=True))


def _names(name: str, tree: Any) -> Any:
    """The names of a tree's leaves, as a tree."""
    found, structure = jax.tree.flatten_with_path(tree, is_leaf=_is_argument)
    paths = [tuple(jax.tree_util.keystr((key,), simple=True) for key in path) for path, _ in found]
    return jax.tree.unflatten(structure, joined(name, paths))


def joined(name: str, paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Names of parts by their paths: `obs.arm.angles`. Where two would have the same, as {"a.b": ...} and {"a": {"b":
    ...}} have, each dot in a key is two: `obs.a..b`.

    Raises:
        ValueError: they still have.
    """
    for dot in (".", ".."):
        names = [".".join([name, *(key.replace(".", dot) for key in path)]) for path in paths]
        if len(set(names)) == len(names):
            return names
    twice = next(one for one in names if names.count(one) > 1)
    raise ValueError(
        f"two parts of `{name}` would have the name {twice!r} in the file: keys that are empty, or have dots at their "
        "ends, can't be told apart; rename one."
    )


def _is_argument(x: object) -> bool:
    return isinstance(x, Argument)


def _numbers(distribution: Distribution, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...], Array]]:
    """The arrays that make a distribution: name, path of the action's part, numbers."""
    if isinstance(distribution, Joint):
        keys = range(len(distribution.parts)) if distribution.keys is None else distribution.keys
        for key, part in zip(keys, distribution.parts, strict=True):
            yield from _numbers(part, (*path, str(key)))
        return
    for where, array in jax.tree.leaves_with_path(distribution):
        yield str(getattr(where[-1], "name", where[-1])), path, array


def _to_environment(distribution: ActionDistribution, actions: Any) -> Any:
    """`ActionDistribution.to_environment` of one action that is traced, with the dtypes of the space."""
    if isinstance(distribution, JointActions):
        if distribution.keys is None:
            return tuple(map(_to_environment, distribution.parts, actions))
        pairs = zip(distribution.keys, distribution.parts, strict=True)
        return {key: _to_environment(part, actions[key]) for key, part in pairs}
    space: Any = distribution.spec.space
    return distribution.convert(actions.reshape(space.shape), np.dtype(space.dtype))  # type: ignore[attr-defined]


def in_order(outputs: Named) -> Named:
    """Named outputs in the order of this module's table: JAX sorts dicts by their keys."""

    def place(name: str) -> int:
        kind = name.partition(".")[0]
        return OUTPUTS.index(kind) if kind in OUTPUTS else len(OUTPUTS)

    return {name: outputs[name] for name in sorted(outputs, key=place)}


def symbolic(inputs: dict[str, Argument], batch: Any) -> Named:
    """Named inputs by shape and dtype, for a batch of a size that isn't known."""
    return {name: jax.ShapeDtypeStruct((batch, *of.shape), of.dtype) for name, of in inputs.items()}


Act = Callable[[Named], Named]
"""A policy from a file: from arrays by the names of its inputs to arrays by those of its outputs."""

"""The policy: from observations to a distribution over actions, and a value."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree, Shaped

from ppo2 import networks, spaces
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import EvaluatedActions
from ppo2.distributions import ActionDistribution, Distribution, action_distribution
from ppo2.networks.layers import dense, linear
from ppo2.numerics.pieces import merge_leading_axes
from ppo2.numerics.precision import products
from ppo2.numerics.randomness import host_split

ACTION_GAIN = 0.01  # Baselines: near-uniform actions at the start
VALUE_GAIN = 1.0


class PolicyOutput(NamedTuple):
    """The policy's answer to a batch of observations; `recurrent_state` is None for feed-forward policies."""

    distribution: Distribution
    values: Float[Array, " B"]
    recurrent_state: networks.State


class Policy(eqx.Module):
    """A trunk with two heads, or a trunk for each head. The normaliser's statistics come with each call.

    A recurrent policy, one of whose trunks is, also takes the state that it left behind at the step before, and which
    episodes begin at this one.
    """

    trunk: networks.Network
    value_trunk: networks.Network | None
    action_head: eqx.nn.Linear
    value_head: eqx.nn.Linear
    log_std: Float[Array, " k"] | None
    observation_space: spaces.Spec = eqx.field(static=True)
    action_space: spaces.Spec = eqx.field(static=True)
    distribution: ActionDistribution = eqx.field(static=True)
    encoding: int = eqx.field(static=True, default=spaces.ENCODING)  # see `ppo2.spaces.images`
    precision: str | None = eqx.field(static=True, default=None)  # of the trunks; see `ppo2.numerics.precision`

    @property
    def is_recurrent(self) -> bool:
        return any(map(networks.is_recurrent, (self.trunk, self.value_trunk)))

    def initial_state(self) -> networks.State:
        """The state, for one environment, that an episode begins with; None without memory."""
        if not self.is_recurrent:
            return None
        trunks = (self.trunk, self.value_trunk)
        return tuple(trunk.initial_state() if networks.is_recurrent(trunk) else None for trunk in trunks)  # type: ignore[union-attr]

    def __call__(
        self,
        normaliser: Normaliser,
        obs: PyTree[Shaped[Array, "B ..."]],
        recurrent_state: networks.State = None,
        episode_starts: Bool[Array, " B"] | None = None,
    ) -> PolicyOutput:
        """The distribution over actions and V, for a batch of observations.

        Args:
            recurrent_state: (B, ...), from the step before or, where `episode_starts`, anything; None without memory.
            episode_starts: None: nowhere.
        """
        inputs, mask = self._inputs(normaliser, obs)
        if recurrent_state is None:
            features, value_features = self._features(lambda trunk, _: networks.apply(trunk, inputs))
            return self._headed(features, value_features, mask, None)
        episode_starts = jnp.zeros(jax.tree.leaves(obs)[0].shape[0], bool) if episode_starts is None else episode_starts
        after: list[networks.State] = [None, None]

        def step(trunk: networks.Network, i: int) -> Float[Array, "B features"]:
            if not networks.is_recurrent(trunk):
                return networks.apply(trunk, inputs)
            found, after[i] = networks.advance(trunk, inputs, recurrent_state[i], episode_starts)
            return found

        features, value_features = self._features(step)
        return self._headed(features, value_features, mask, tuple(after))

    def act(
        self,
        normaliser: Normaliser,
        obs: PyTree[Shaped[Array, "N ..."]],
        noise: Float[Array, "N p"],
        recurrent_state: networks.State = None,
        episode_starts: Bool[Array, " N"] | None = None,
    ) -> tuple[PyTree[Shaped[Array, "N ..."]], networks.State]:
        """Samples an action for each observation, and the next state; `noise` is the distribution's own. The value
        costs nothing here: whatever isn't asked for is never computed.

        Numbers of an observation that are NaN or infinite are taken for 0, and the memory begins anew after it:
        learning finds them in the rollout, and neither environment nor memory has to suffer from them for ever.
        """
        output = self(normaliser, jax.tree.map(_zeroed, obs), recurrent_state, episode_starts)
        after = output.recurrent_state
        if after is not None:
            good = spaces.all_finite(obs, 1) & spaces.all_finite(after, 1)
            after = jax.tree.map(
                lambda kept, new: jnp.where(good.reshape(-1, *[1] * (kept.ndim - 1)), kept, new),
                after,
                self.initial_state(),
            )
        return output.distribution.sample(noise), after

    def evaluate(
        self,
        normaliser: Normaliser,
        obs: PyTree[Shaped[Array, "B ..."]],
        actions: PyTree[Shaped[Array, "B ..."]],
        recurrent_state: networks.State = None,
        episode_starts: Bool[Array, "B L"] | None = None,
    ) -> EvaluatedActions:
        """The policy's figures of actions taken before.

        A recurrent policy takes sequences (B, L, ...), and its state before their first step, (B, ...).
        """
        if episode_starts is None:
            distribution, values, _ = self(normaliser, obs)
            return EvaluatedActions(*distribution.logp_and_entropy(actions), values)
        # as a batch of steps, but where the order matters
        obs, actions = jax.tree.map(merge_leading_axes, (obs, actions))
        inputs, mask = self._inputs(normaliser, obs)

        def run(trunk: networks.Network, i: int) -> Float[Array, "BL features"]:
            if networks.is_recurrent(trunk):
                return networks.unroll(trunk, inputs, recurrent_state[i], episode_starts)
            return networks.apply(trunk, inputs)

        features, value_features = self._features(run)
        distribution, values, _ = self._headed(features, value_features, mask, None)
        found = (*distribution.logp_and_entropy(actions), values)
        return EvaluatedActions(*(x.reshape(episode_starts.shape) for x in found))

    def _inputs(
        self, normaliser: Normaliser, obs: PyTree[Shaped[Array, "B ..."]]
    ) -> tuple[PyTree[Shaped[Array, "B ..."]], Any]:
        """Observations as the trunks see them, and the mask of legal actions that they bring along, or None."""
        space, mask = self.observation_space.space, None
        if spaces.is_masked(space):
            space, obs, mask = spaces.unmasked(space), obs["observation"], obs["action_mask"]
        return jax.vmap(lambda one: spaces.encode(space, one, self.encoding))(normaliser.observe(obs)), mask

    def _features(self, of: Callable[[networks.Network, int], Array]) -> tuple[Array, Array]:
        """For each head what `of(trunk, which)` gives."""
        with products(self.precision):
            features = of(self.trunk, 0)
            return features, features if self.value_trunk is None else of(self.value_trunk, 1)

    def _headed(
        self,
        features: Float[Array, "B f"],
        value_features: Float[Array, "B g"],
        mask: Any,
        recurrent_state: networks.State,
    ) -> PolicyOutput:
        # networks of users may compute in more bits, or in fewer
        features, value_features = features.astype(jnp.float32), value_features.astype(jnp.float32)
        with products(None if self.precision is None else "float32"):
            params = jax.vmap(lambda one: linear(self.action_head, one))(features)
            values = jax.vmap(lambda one: linear(self.value_head, one))(value_features)[:, 0]
        return PolicyOutput(self.distribution.build(params, self.log_std, mask), values, recurrent_state)


def _zeroed(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Numbers with 0 in place of NaN and infinity."""
    return jnp.where(jnp.isfinite(x), x, 0) if jnp.issubdtype(x.dtype, jnp.floating) else x


def build_policy(
    observation_space: spaces.AnySpace,
    action_space: spaces.AnySpace,
    *,
    network: object = "mlp",
    value_network: object = None,
    network_kwargs: Mapping[str, Any] | None = None,
    encoders: Mapping[str, object] | None = None,
    action_dist: str = "gaussian",
    encoding: int = spaces.ENCODING,
    precision: str | None = None,
    key: PRNGKeyArray,
) -> Policy:
    """A fresh policy for the two spaces (of one environment).

    Args:
        network: a name, a builder, or a network (see `ppo2.networks.registry`).
        value_network: None or "shared": both heads on one trunk; "copy": a second trunk of the same kind for the
            value, with weights of its own (not of an NNX module or a Keras model, which comes with its weights); or a
            network of its own, as for `network` (a name then gets that builder's defaults).
        network_kwargs: for the network's builder.
        encoders: networks for the parts of a Dict or Tuple (see `ppo2.networks.encoders`).
        action_dist: distribution of a Box's numbers.
        encoding: rules by which observations are encoded (see `ppo2.spaces.images`).
        precision: bits of the trunks' products (see `ppo2.numerics.precision`); those of the heads, which cost nothing,
            and of initialisers are float32.
        key: initialises trunks and heads.

    Raises:
        ValueError, TypeError: an unsupported space, or a network that can't be built (`ppo2.networks.build`).
    """
    spaces.check_observation_space(observation_space)
    distribution = action_distribution(action_space, action_dist)
    inner = spaces.unmasked(observation_space)
    seen = jax.eval_shape(lambda one: spaces.encode(inner, one, encoding), spaces.zeros(inner, ()))
    _check_mask(observation_space, action_space, distribution)
    trunk_key, value_key, action_head_key, value_head_key = host_split(key, 4)
    kwargs = dict(network_kwargs or {})
    images = jax.tree.leaves(jax.tree.map(lambda leaf: spaces.gets_cnn(leaf, encoding), spaces.tree(inner)))

    def assemble(network: object, kwargs: dict[str, Any], **more: Any) -> tuple[networks.Network, int]:
        with products():  # of users' initialisers
            return networks.assemble(
                network, seen, kwargs, encoders=encoders, images=images, obs_encoding=encoding, **more
            )

    trunk, features = assemble(network, kwargs, key=trunk_key)
    value_trunk, value_features = None, features
    if value_network == "copy":
        if networks.has_weights(network):
            raise ValueError(
                f"`value_network` (='copy') is a second network with weights of its own, but `network` "
                f"({type(network).__name__}) comes with its weights: pass a builder, network=lambda: lambda "
                "input_shape, *, key: ..., that makes another at each call, or the network as `value_network` too, for "
                "both to start from these weights."
            )
        value_trunk, value_features = assemble(network, kwargs, key=value_key)
    elif value_network not in (None, "shared"):
        value_trunk, value_features = assemble(value_network, {}, key=value_key, argument="value_network")
    policy = Policy(
        trunk=trunk,
        value_trunk=value_trunk,
        action_head=dense(features, distribution.num_params, ACTION_GAIN, key=action_head_key),
        value_head=dense(value_features, 1, VALUE_GAIN, key=value_head_key),
        log_std=jax.device_put(np.zeros(distribution.log_std_size, np.float32)) if distribution.log_std_size else None,
        observation_space=spaces.Spec(observation_space),
        action_space=spaces.Spec(action_space),
        distribution=distribution,
        encoding=encoding,
        precision=precision,
    )
    made: Policy = jax.tree.map(_in_32_bits, policy)
    return made


def _in_32_bits(leaf: Any) -> Any:
    """Weights of 64 bits, as users' networks have them under `jax_enable_x64`, in 32; other leaves as they are."""
    is_double = eqx.is_array(leaf) and leaf.dtype == jnp.float64
    return leaf.astype(jnp.float32) if is_double else leaf


def _check_mask(
    observation_space: spaces.AnySpace, action_space: spaces.AnySpace, distribution: ActionDistribution
) -> None:
    """Raises ValueError where observations bring along a mask that isn't one of the actions."""
    if not spaces.is_masked(observation_space):
        return
    numbers = np.zeros(distribution.num_params, np.float32), np.zeros(distribution.log_std_size, np.float32)
    mask = spaces.zeros(observation_space, ())["action_mask"]
    try:
        jax.eval_shape(distribution.build, *numbers, mask)
    except ValueError as error:
        raise ValueError(
            f"`env` gives observations with an action_mask that doesn't fit its action space {action_space}: {error}"
        ) from error

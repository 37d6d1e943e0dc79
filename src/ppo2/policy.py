"""The policy: from observations to a distribution over actions, and a value."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ppo2 import networks, spaces
from ppo2.distributions import ActionDistribution, Distribution
from ppo2.networks.layers import dense, linear
from ppo2.normaliser import Normaliser
from ppo2.randomness import host_split

ACTION_GAIN = 0.01  # Baselines: near-uniform actions at the start
VALUE_GAIN = 1.0


class Evaluated(NamedTuple):
    """What the policy thinks of actions taken before."""

    logp: Float[Array, " B"]
    entropy: Float[Array, " B"]
    values: Float[Array, " B"]


class Policy(eqx.Module):
    """A trunk with two heads, or a trunk for each head. The normaliser's statistics come with each call."""

    trunk: networks.Network
    value_trunk: networks.Network | None
    action_head: eqx.nn.Linear
    value_head: eqx.nn.Linear
    log_std: Float[Array, " k"] | None
    observation_space: spaces.Spec = eqx.field(static=True)
    action_space: spaces.Spec = eqx.field(static=True)
    distribution: ActionDistribution = eqx.field(static=True)

    def __call__(
        self, normaliser: Normaliser, obs: Shaped[Array, "B *shape"]
    ) -> tuple[Distribution, Float[Array, " B"]]:
        """The distribution over actions and V, for a batch of observations."""
        space = self.observation_space.space
        inputs = jax.vmap(lambda one: spaces.encode(space, one))(normaliser.observe(obs))
        features = networks.apply(self.trunk, inputs)
        value_features = features if self.value_trunk is None else networks.apply(self.value_trunk, inputs)
        params = jax.vmap(lambda one: linear(self.action_head, one))(features)
        values = jax.vmap(lambda one: linear(self.value_head, one))(value_features)[:, 0]
        return self.distribution.build(params, self.log_std), values

    def act(
        self, normaliser: Normaliser, obs: Shaped[Array, "N *shape"], noise: Float[Array, "N p"]
    ) -> Shaped[Array, "N ..."]:
        """Samples an action for each observation; `noise` is the distribution's own. The value costs nothing here:
        whatever isn't asked for is never computed.
        """
        return self(normaliser, obs)[0].sample(noise)

    def evaluate(
        self, normaliser: Normaliser, obs: Shaped[Array, "B *shape"], actions: Shaped[Array, "B ..."]
    ) -> Evaluated:
        distribution, values = self(normaliser, obs)
        return Evaluated(distribution.logp(actions), distribution.entropy(), values)


def build_policy(
    observation_space: spaces.AnySpace,
    action_space: spaces.AnySpace,
    *,
    network: object = "mlp",
    value_network: object = None,
    network_kwargs: Mapping[str, Any] | None = None,
    key: PRNGKeyArray,
) -> Policy:
    """A fresh policy for the two spaces (of one environment).

    Args:
        network: a name, a builder, or a network (see `ppo2.networks.registry`).
        value_network: None or "shared": both heads on one trunk; "copy": a second trunk of the same kind for the
            value; or a network of its own, as for `network` (a name then gets that builder's defaults).
        network_kwargs: for the network's builder.
        key: initialises trunks and heads.

    Raises:
        ValueError, TypeError: an unsupported space, or a network that can't be built (`ppo2.networks.build`).
    """
    spaces.check_observation_space(observation_space)
    distribution = ActionDistribution.of(action_space)
    shape = spaces.encoded_shape(observation_space)
    obs = jax.eval_shape(
        lambda one: spaces.encode(observation_space, one),
        jax.ShapeDtypeStruct(observation_space.shape or (), spaces.device_dtype(observation_space)),
    )
    trunk_key, value_key, action_head_key, value_head_key = host_split(key, 4)
    kwargs = dict(network_kwargs or {})
    trunk, features = networks.build(network, shape, kwargs, key=trunk_key, dtype=obs.dtype)
    value_trunk, value_features = None, features
    if value_network == "copy":
        value_trunk, value_features = networks.build(network, shape, kwargs, key=value_key, dtype=obs.dtype)
    elif value_network not in (None, "shared"):
        value_trunk, value_features = networks.build(
            value_network, shape, {}, key=value_key, dtype=obs.dtype, argument="value_network"
        )
    return Policy(
        trunk=trunk,
        value_trunk=value_trunk,
        action_head=dense(features, distribution.num_params, ACTION_GAIN, key=action_head_key),
        value_head=dense(value_features, 1, VALUE_GAIN, key=value_head_key),
        log_std=jnp.asarray(np.zeros(distribution.num_params, np.float32)) if distribution.has_log_std else None,
        observation_space=spaces.Spec(observation_space),
        action_space=spaces.Spec(action_space),
        distribution=distribution,
    )

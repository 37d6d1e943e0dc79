"""PPO on one page: what `ppo2.learn` does on a device environment, from the first reset to the last gradient step.

It uses the same random streams and ends with the same parameters as `ppo2.learn` (tests/test_examples.py). Names in
capitals are arguments of `learn`; T = NSTEPS, N = NUM_ENVS.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

import ppo2
from own_device_env import Homing
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.losses import normalise_advantages
from ppo2.algorithm.minibatches import minibatches, shuffle_bits
from ppo2.algorithm.rollout import Batch
from ppo2.envs.device.unroll import initial_carry, unroll
from ppo2.numerics.randomness import Purpose, environment_keys, stream

NUM_ENVS, NSTEPS, NUPDATES, NOPTEPOCHS, NMINIBATCHES = 8, 32, 400, 4, 4
NUMBERS = {"lr": 2e-3, "cliprange": 0.2, "value_cliprange": 0.2, "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5}
NUMBERS |= {"gamma": 0.99, "lam": 0.95}

env = ppo2.envs.TimeLimit(Homing(), 100)
adam = optax.scale_by_adam(eps=1e-5)


def collect(model: ppo2.Model, params: Any, envs: Any, key: Any, update: Any, hyper: Any) -> tuple[Any, Batch]:
    """Takes T steps in N environments; returns them, with the advantage of every action, as a batch (T * N, ...)."""
    policy, normaliser = model.policy_of(params), model.state.normaliser
    act_keys, env_keys = environment_keys(key, (Purpose.ACT, Purpose.ENV), update, jnp.arange(NUM_ENVS))
    noise = model.acting_noise(act_keys, NSTEPS)  # (T, N, ...): all random numbers of the actions, drawn at once

    def act(obs: Any, noise: Any, *_: Any) -> tuple[Any, None]:
        return policy(normaliser, obs).distribution.sample(noise), None

    envs, steps = unroll(env, act, envs, noise, env_keys, model.distribution)  # resets environments whose episode ended
    obs, actions = (x.reshape(NSTEPS * NUM_ENVS, -1) for x in (steps.obs, steps.actions))
    old = policy.evaluate(normaliser, obs, actions)
    values = old.values.reshape(NSTEPS, NUM_ENVS)
    # V of the next observation is the next step's value, except at truncations and after the last step
    seen_last = policy(normaliser, steps.next_obs.reshape(NSTEPS * NUM_ENVS, -1)).values.reshape(NSTEPS, NUM_ENVS)
    next_values = jnp.where(steps.truncated.at[-1].set(True), seen_last, jnp.roll(values, -1, axis=0))
    advantages = ppo2.gae(
        steps.rewards, values, next_values, steps.terminated, steps.truncated, gamma=hyper.gamma, lam=hyper.lam
    ).ravel()
    return envs, Batch(
        obs=obs,
        actions=actions,
        logp=old.logp,
        values=old.values,
        advantages=advantages,
        returns=advantages + old.values,
        weights=jnp.ones(NSTEPS * NUM_ENVS),
    )


def improve(
    model: ppo2.Model, params: Any, opt_state: Any, batch: Batch, key: Any, update: Any, hyper: Any
) -> tuple[Any, Any]:
    """Learns for NOPTEPOCHS epochs; each shuffles the batch into minibatches, with one step of Adam per minibatch."""

    def loss(params: Any, minibatch: Batch) -> Any:
        new = model.policy_of(params).evaluate(model.state.normaliser, minibatch.obs, minibatch.actions)
        return ppo2.ppo_loss(new, minibatch, hyper)

    def step(carry: Any, minibatch: Batch) -> tuple[Any, Any]:
        params, opt_state = carry
        gradient, stats = jax.grad(loss, has_aux=True)(params, minibatch)
        gradient = gradient * (hyper.max_grad_norm / jnp.maximum(jnp.linalg.norm(gradient), hyper.max_grad_norm))
        direction, opt_state = adam.update(gradient, opt_state)
        return (params - hyper.lr * direction, opt_state), stats

    def epoch(carry: Any, bits: Any) -> tuple[Any, Any]:
        cut = minibatches(batch, bits, nminibatches=NMINIBATCHES)
        return jax.lax.scan(
            step, carry, cut._replace(advantages=jax.vmap(normalise_advantages)(cut.advantages, cut.weights))
        )

    bits = shuffle_bits(stream(key, Purpose.SHUFFLE, update), epochs=NOPTEPOCHS, total=NSTEPS * NUM_ENVS, shards=1)
    return jax.lax.scan(epoch, (params, opt_state), bits)[0]


def train(nupdates: int = NUPDATES, seed: int = 0) -> ppo2.Model:
    """Trains from start to end, and returns the model."""
    settings: dict[str, Any] = {"env": env, "num_envs": NUM_ENVS, "nsteps": NSTEPS, "seed": seed}
    model = ppo2.learn(**settings, total_timesteps=0)  # an untrained policy
    key, params, envs = model.state.key, model.state.params, initial_carry(env, NUM_ENVS)
    opt_state = adam.init(params)

    @jax.jit
    def one_update(params: Any, opt_state: Any, envs: Any, update: Any, hyper: Any) -> tuple[Any, Any, Any]:
        envs, batch = collect(model, params, envs, key, update, hyper)
        return *improve(model, params, opt_state, batch, key, update, hyper), envs

    hyper = Hyperparameters(**{name: jnp.float32(number) for name, number in NUMBERS.items()})  # traced
    for update in range(nupdates):
        params, opt_state, envs = one_update(params, opt_state, envs, update, hyper)
    model.state = model.state._replace(params=params)
    return model


if __name__ == "__main__":
    print(f"mean return {ppo2.evaluate(train(), env, episodes=20).mean:.1f}")
